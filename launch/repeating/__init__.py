"""Repeating a run: what differs here, training again, and whether the weights are the same."""
