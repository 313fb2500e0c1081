"""The lessons, a module each; `curriculum` puts them in order."""
