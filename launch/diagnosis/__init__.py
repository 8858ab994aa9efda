"""Diagnosing a run: measured facts are checked against rules, the generic ones here and those of the run's method."""
