"""A run as one HTML page: results, curves, images with error maps, noise, findings, configuration, machine, data."""
