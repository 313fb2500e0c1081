"""Survival: how long users stay, and at which moments more of them leave."""
