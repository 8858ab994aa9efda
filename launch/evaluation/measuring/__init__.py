"""Measuring batches of restored images: on the device, and beside it in threads of the host."""
