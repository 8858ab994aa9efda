"""From images to shards: assembling, writing, splitting, describing."""
