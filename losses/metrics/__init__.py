"""Image quality metrics on numpy arrays, one per file, under the name that --metrics uses; always with a data range."""
