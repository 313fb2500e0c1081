"""What needs attention today: rules that fire, numbers outside their range, what is due, and what to open."""
