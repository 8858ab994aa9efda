"""Shared machinery that every folder may import: paths, files, locks, signals, processes."""
