"""The machine and the world of processes: device, precision, memory layout, random numbers."""
