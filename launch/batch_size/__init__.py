"""How large a batch fits: training steps with growing batches, each in a process of its own."""
