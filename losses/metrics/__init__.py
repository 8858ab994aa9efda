"""Image quality on numpy arrays, one metric per file, data range always explicit."""
