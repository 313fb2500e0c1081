"""Recency, frequency and money: customers in scores, cells and tiers."""
