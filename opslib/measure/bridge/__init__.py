"""The bridge from one period to the next, lever by lever."""
