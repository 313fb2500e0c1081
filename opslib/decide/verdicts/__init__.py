"""Is it working (H13): three looks at an initiative, how strong their evidence is, and one verdict."""
