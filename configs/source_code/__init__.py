"""Which code runs: its files, their fingerprint, and what differs from its commit."""
