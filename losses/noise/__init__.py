"""What noise is: a model of its level, spectrum and map, and how to estimate them from images."""
