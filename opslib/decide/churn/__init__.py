"""Churn investigation: who leaves, when, why, who of them is worth winning back, and how."""
