"""Training methods, one per file: their networks, losses and phases."""
