"""Networks: tensor in, tensor out; one network per file, under the name that a YAML uses; no losses, no optimizers."""
