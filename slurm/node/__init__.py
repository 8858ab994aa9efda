"""What runs on a node: processes, records, requeueing, picking."""
