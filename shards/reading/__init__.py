"""From shards to batches: samples, order, recipes, loaders."""
