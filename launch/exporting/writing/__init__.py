"""A traced restoration as a file: converted, compared with the run on real images, and only then kept."""
