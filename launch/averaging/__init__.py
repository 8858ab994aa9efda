"""The average of several checkpoints of a run, as a checkpoint of its own."""
