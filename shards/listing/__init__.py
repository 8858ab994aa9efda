"""Which files of a folder are read, and the account of everything that is not."""
