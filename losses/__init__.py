"""Numbers from tensors; one loss per file. Metrics for evaluation are in losses/metrics."""
