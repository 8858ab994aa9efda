"""Losses: tensors in, a scalar out; one loss per file, under the name that a YAML uses. Metrics: losses/metrics."""
