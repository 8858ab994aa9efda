"""The noise of a data set: which images are read, and what is written about them."""
