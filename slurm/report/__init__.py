"""What a submission will do, and what it is doing: dry runs, status, logs."""
