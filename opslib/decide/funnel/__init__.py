"""Funnel diagnosis: which step moved, for whom, and did what was done about it work."""
