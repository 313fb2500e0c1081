"""Funnels: who got how far, how fast, and who did not."""
