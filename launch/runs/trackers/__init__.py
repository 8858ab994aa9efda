"""Trackers beside TensorBoard: Weights & Biases, MLflow, Comet and ClearML, each fed by a thread of its own."""
