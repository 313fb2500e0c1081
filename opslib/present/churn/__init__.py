"""Words, tables and charts of the churn investigation."""
