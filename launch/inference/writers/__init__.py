"""Writing a copy of a file with other pixels: one module per format."""
