"""Opening what a user wants restored: arrays in the meaning of the builders, and writing a copy with other pixels."""
