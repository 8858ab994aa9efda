"""What `python -m shards.verify` compares: the samples, every byte of the tars, and the files beside them."""
