"""One module per file format: a traced program to a file with its manifest, and back to a function of arrays."""
