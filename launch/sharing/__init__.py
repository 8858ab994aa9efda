"""Trained models by name: where they are found, and the folders they are shared in."""
