"""Churn: when a user counts as gone, how many leave each month, and whether that rises."""
