"""Random numbers that are pure functions of seed, epoch, sample and purpose, drawn wherever the batch is."""
