"""Gaussian noise added to clean images."""

import argparse

import numpy as np


def gaussian_noise(random: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """White Gaussian noise, float32, with standard deviation `sigma`."""
    return random.standard_normal(shape, dtype=np.float32) * np.float32(sigma)


def add_second_argument(parser: argparse.ArgumentParser) -> None:
    """Add --second for sources with the contrasts pd and pdfs."""
    parser.add_argument(
        "--second",
        action="store_true",
        help="also store a second copy of each image with independent noise: pd_second, pdfs_second",
    )
