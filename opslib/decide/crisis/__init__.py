"""Voice and crisis: what users complain of, what an incident cost, what waits, and the plan."""
