"""The growth model: where growth comes from, what it costs, and what would change it (`model_growth`)."""
