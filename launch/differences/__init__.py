"""Differences of paired measurements: intervals, tests, seeds, and what of the images is independent."""
