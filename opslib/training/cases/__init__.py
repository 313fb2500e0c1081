"""Cases to solve: a fresh company with something planted in it, and sealed answers."""
