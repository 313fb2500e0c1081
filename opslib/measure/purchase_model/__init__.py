"""BG/NBD and Gamma-Gamma: who will buy again, how often and for how much."""
