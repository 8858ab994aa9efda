"""Stage files: read, checked, and planned as the tasks of SLURM jobs."""
