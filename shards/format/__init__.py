"""Shards on disk: tar archives, members, index."""
