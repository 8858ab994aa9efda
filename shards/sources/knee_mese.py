"""One real knee (multi-echo spin echo, 3 T): echo 1 and echo 8 as two contrasts, with noise added.

The echoes of a slice share geometry exactly, so they stand in for PD (PD-weighted, bright fat) and PDFS (T2-weighted,
weak fat). Each contrast is scaled by its 99.5th percentile over the volume. One knee cannot be split by patient, so
splits are slices with a gap: train 0..11, val 13, test 15..17; slices 12 and 14 belong to none.

Noise is real and Gaussian, or that of a scanner: complex (`--noise complex`) or the magnitude of it (`--noise rician`).
`--shift` moves the second contrast, clean and noisy, along its rows: what registration leaves between two scans.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from scipy.ndimage import fourier_shift

from configs.errors import DataError
from configs.support.arguments import real_number
from shards.building import assemble
from shards.building.assemble import Item
from shards.reading.transforms import generator

SPLITS = {"train": range(0, 12), "val": range(13, 14), "test": range(15, 18)}
ECHOES = {"pd": 0, "pdfs": 7}
PERCENTILE = 99.5
NOISES = {"gaussian": "gaussian, added", "complex": "complex gaussian, sigma per component", "rician": "rician"}
FILE = "knee_mese_18x8x256x256.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m shards.build knee_mese`."""
    parser.add_argument("--input", required=True, help=f"the .npz with `vol`, or the folder that holds {FILE}")
    parser.add_argument(
        "--sigma",
        type=real_number(least=0),
        default=0.1,
        help="added Gaussian noise; 1 is the 99.5th percentile of each contrast (default 0.1)",
    )
    parser.add_argument(
        "--noise",
        choices=NOISES,
        default="gaussian",
        help="gaussian: real; complex: sigma in each component; rician: magnitudes of the complex ones",
    )
    parser.add_argument(
        "--shift",
        type=float,
        default=0.0,
        metavar="PX",
        help="move pdfs by so many pixels along its rows, a fraction allowed (default 0)",
    )
    parser.add_argument(
        "--second", action="store_true", help="also store a second noisy copy of each image: pd_second, pdfs_second"
    )


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Write the splits below args.output; returns split -> index header."""
    contrasts = load(Path(args.input))
    if args.shift:
        contrasts["pdfs"] = shifted(contrasts["pdfs"], args.shift)
    meta = {
        "source": "knee_mese",
        "data_range": 1.0,
        "sigma": args.sigma,
        "seed": args.seed,
        "noise": NOISES[args.noise],
        "shift_px": args.shift,
        "licence": "MIT",
        "splits": {split: f"slices {slices.start}..{slices.stop - 1}" for split, slices in SPLITS.items()},
    }
    # Slices of one knee stand for groups here; the gaps between the splits are what keeps them apart.
    chosen = {
        split: [
            Item(f"slice-{number:02d}", f"slice-{number:02d}", partial(_load, args, contrasts, number))
            for number in slices
        ]
        for split, slices in SPLITS.items()
    }
    return assemble.write(args, "knee_mese", chosen, meta)


def load(path: Path) -> dict[str, np.ndarray]:
    """The two contrasts, float32 (slices, H, W), 1 at the 99.5th percentile. Raises DataError for another file."""
    file = path / FILE if path.is_dir() else path
    try:
        with open(file, "rb") as opened, np.load(opened) as archive:
            volume = archive["vol"]
    except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
        raise DataError(f"{file}: expected an .npz with the array `vol` ({error})") from error
    if volume.ndim != 4 or volume.shape[1] < 8 or volume.shape[0] < 18:
        raise DataError(f"{file}: `vol` is {volume.shape}; expected (18 slices, 8 echoes, H, W)")
    contrasts = {name: volume[:, echo].astype(np.float64) for name, echo in ECHOES.items()}
    return {name: (images / np.percentile(images, PERCENTILE)).astype(np.float32) for name, images in contrasts.items()}


def shifted(images_SHW: np.ndarray, pixels: float) -> np.ndarray:
    """Every image moved along its rows by a phase ramp in Fourier space: no blur; what leaves comes in again."""
    spectra = np.fft.fft(images_SHW.astype(np.float64), axis=-1)
    return np.fft.ifft(fourier_shift(spectra, (0, 0, pixels), axis=-1)).real.astype(np.float32)


def _load(args: argparse.Namespace, contrasts: dict[str, np.ndarray], number: int) -> list[assemble.Sample]:
    parts: dict[str, Any] = {}
    for stream, (name, images) in enumerate(contrasts.items()):
        clean = images[number]
        parts[f"{name}_clean"] = clean.astype(np.complex64) if args.noise == "complex" else clean
        for copy, suffix in enumerate(("", "_second") if args.second else ("",)):
            random = generator(args.seed, copy, number, stream)
            parts[f"{name}{suffix}"] = _noisy(clean, random, args)
    return assemble.one(f"slice-{number:02d}", parts, slice=number)


def _noisy(clean: np.ndarray, random: np.random.Generator, args: argparse.Namespace) -> np.ndarray:
    """The image with the noise asked for: float32, or complex64."""
    real = clean + random.standard_normal(clean.shape, dtype=np.float32) * np.float32(args.sigma)
    if args.noise == "gaussian":
        return real
    noisy = real + 1j * random.standard_normal(clean.shape, dtype=np.float32) * np.float32(args.sigma)
    return noisy if args.noise == "complex" else np.abs(noisy)
