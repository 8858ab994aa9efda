"""Where shards come from; one source per file."""
