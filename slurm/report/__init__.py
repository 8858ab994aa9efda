"""What a submission is doing: status, logs, dry runs."""
