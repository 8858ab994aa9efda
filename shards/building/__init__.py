"""Building data sets of shards: reading inputs in parallel, writing shards, drawing splits, describing the result."""
