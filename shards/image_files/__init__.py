"""One reader for each file format: pixels with what the file says about their values, geometry and origin."""
