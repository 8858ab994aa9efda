"""From a plan to jobs in SLURM's queue."""
