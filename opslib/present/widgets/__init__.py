"""Notebooks that answer to somebody who is there: controls, and results that follow them."""
