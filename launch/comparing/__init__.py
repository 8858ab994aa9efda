"""Whether the differences between evaluated runs are real: same images, intervals, tests, a ranked table, plots."""
