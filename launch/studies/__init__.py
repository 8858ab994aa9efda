"""Comparing runs: which ones to run, their results, and the table and plot that show them."""
