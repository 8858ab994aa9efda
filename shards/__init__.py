"""Images <-> WebDataset tars <-> batches."""
