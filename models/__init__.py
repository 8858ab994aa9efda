"""Networks: tensor in, tensor out; one network per file, no loss, no optimizer."""
