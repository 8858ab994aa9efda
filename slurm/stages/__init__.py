"""Stage files: what they say, checked, as a plan of tasks."""
