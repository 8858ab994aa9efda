"""Which files of a folder are read and which of their values are finite, and the account of what is left out."""
