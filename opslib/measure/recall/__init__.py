"""Winning back: what a recall brought, for whom it paid, and who was drawn to be left alone."""
