"""From a configuration to the samples of a run: splits, fields, recipes, loaders."""
