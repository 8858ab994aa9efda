"""What is done to single images, in numpy: phase, units, another size. Pure functions."""
