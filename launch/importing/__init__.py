"""Weights trained by other programs, brought into a run folder: reading, renaming, checking."""
