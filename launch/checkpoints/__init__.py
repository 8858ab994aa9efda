"""Checkpoints: their files on disk, writing them while training goes on, capture and restore."""
