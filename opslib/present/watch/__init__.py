"""How the daily watch is shown."""
