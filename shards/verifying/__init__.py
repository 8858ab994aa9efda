"""What `python -m shards.verify` compares beside the samples: every byte of the tars, and the files beside them."""
