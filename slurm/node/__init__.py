"""What runs on a compute node: the processes of a task, its records, requeueing, and the choice of a sweep's winner."""
