"""Submitting stages to SLURM, and what is known of them afterwards."""
