"""What is random about the images of a batch: drawn for many samples at once, by (seed, epoch, sample)."""
