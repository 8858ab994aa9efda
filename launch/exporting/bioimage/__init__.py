"""Packages of the BioImage Model Zoo: weights, test images, and a description that its own validator accepts."""
