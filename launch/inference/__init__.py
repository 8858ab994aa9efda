"""Restoring files: reading and writing images, tiles, units."""
