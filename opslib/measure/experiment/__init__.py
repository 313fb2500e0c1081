"""Experiments: the read-out from the split to one decision."""
