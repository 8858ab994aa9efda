"""Build shards of one real knee (multi-echo spin echo, 3 T): two echoes as two contrasts, with noise added.

Reads knee_mese_18x8x256x256.npz, whose array `vol` is (slices, echoes, H, W). Echoes 1 and 8 of a slice are exactly
aligned, so they stand in for PD (PD-weighted, bright fat) and PDFS (T2-weighted, weak fat).

Writes `pd` and `pdfs` (noisy), `pd_clean` and `pdfs_clean`; with --second also `pd_second` and `pdfs_second`. In each
contrast, 1 is the 99.5th percentile of the volume. Images are float32; with --noise complex, complex64.

One knee cannot be split by patient, so the splits are ranges of slices with a gap between them: train 0..11, val 13,
test 15..17; slices 12 and 14 are in none.

--noise is real Gaussian noise, or that of a scanner: complex Gaussian (complex), or the magnitude of clean image plus
complex noise (rician). The other kinds are correlated, vary over the image or follow the signal; kspace, zero_filled
and partial pass clean image and noise through a filter in k-space; --magnitude stores magnitudes. What the noise is
exactly is written to truth_noise.npz. --shift moves the second contrast, clean and noisy, along its rows, as
misregistration between two scans would.

  python -m shards.build knee_mese --input knee_mese --sigma 0.1 --output DIR
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from scipy.ndimage import fourier_shift

from quell.configs.errors import DataError
from quell.configs.support.arguments import real_number
from quell.shards.building.build_splits import Headers, build_splits
from quell.shards.building.items import Sample, WorkItem
from quell.shards.image_files.numpy_arrays import load_array
from quell.shards.listing.finite import check_finite
from quell.shards.reading.pixels.transforms import generator
from quell.shards.sources.common import made_up_noise
from quell.shards.sources.common.gaussian_noise import add_second_argument, gaussian_noise
from quell.shards.sources.common.made_up_noise import MadeUpNoise

SPLITS = {"train": range(0, 12), "val": range(13, 14), "test": range(15, 18)}
ECHOES = {"pd": 0, "pdfs": 7}
PERCENTILE = 99.5
NOISES = {"gaussian": "gaussian, added", "complex": "complex gaussian, sigma per component", "rician": "rician"}
"""White kinds of --noise -> the note in the shards."""
KINDS = (*NOISES, *(kind for kind in (*made_up_noise.REAL_KINDS, *made_up_noise.COMPLEX_KINDS) if kind not in NOISES))
LIMIT = (
    "all splits are slices of one knee of one patient, so anatomy and scanner of the test images are those of the "
    "training images"
)
"""What results on these shards do not show, for the cards of models."""
COMMON_STREAM = 99
"""Random stream of noise that both contrasts share."""
FILE = "knee_mese_18x8x256x256.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m shards.build knee_mese`."""
    parser.add_argument("--input", required=True, help=f"the .npz file, or the folder that holds {FILE}")
    parser.add_argument(
        "--sigma",
        type=real_number(least=0),
        default=0.1,
        help="standard deviation of the noise; 1 is the 99.5th percentile of each contrast (default 0.1)",
    )
    parser.add_argument(
        "--noise",
        choices=KINDS,
        default="gaussian",
        help="gaussian: real; complex: sigma in each component; rician: the magnitude of complex (default gaussian)",
    )
    parser.add_argument(
        "--magnitude",
        action="store_true",
        default=argparse.SUPPRESS,
        help="store magnitudes, with --noise kspace, zero_filled and partial",
    )
    made_up_noise.add_noise_parameters(parser)
    parser.add_argument(
        "--shift",
        type=float,
        default=0.0,
        metavar="PX",
        help="move pdfs by this many pixels along its rows; may be fractional (default 0)",
    )
    add_second_argument(parser)


def build(args: argparse.Namespace) -> Headers:
    """Write the splits to args.output; returns split -> index header."""
    contrasts = read_contrasts(Path(args.input))
    if args.shift:
        contrasts["pdfs"] = shift_columns(contrasts["pdfs"], args.shift)
    meta = {
        "source": "knee_mese",
        "data_range": 1.0,
        "sigma": args.sigma,
        "seed": args.seed,
        "noise": NOISES[args.noise] if args.noise in NOISES else _note(args),
        "shift_px": args.shift,
        "licence": "MIT",
        "split_rule": "ranges of slices of one knee",
        "limit": LIMIT,
        "splits": {split: f"slices {slices.start}..{slices.stop - 1}" for split, slices in SPLITS.items()},
    }
    # There is only one patient: every slice is a group of its own, and the gaps keep neighbours out of two splits.
    items = {
        split: [
            WorkItem(f"slice-{number:02d}", f"slice-{number:02d}", partial(_load, args, contrasts, number))
            for number in slices
        ]
        for split, slices in SPLITS.items()
    }
    headers = build_splits(args, "knee_mese", items, meta)
    if args.noise not in NOISES and not args.dry_run:
        truth = MadeUpNoise.of(args).truth(next(iter(contrasts.values())).shape[1:])
        made_up_noise.write_truth(Path(args.output), dict.fromkeys(contrasts, truth), _note(args))
    return headers


def read_contrasts(path: Path) -> dict[str, np.ndarray]:
    """Read the two contrasts, float32 (slices, H, W), scaled so that 1 is the 99.5th percentile of each.

    Raises:
        DataError: The file is not the expected one.
    """
    file = path / FILE if path.is_dir() else path
    try:
        volume = load_array(file, "vol")
    except DataError as error:
        raise DataError(f"{file}: expected an .npz file with the array 'vol' ({error})") from error
    check_finite(volume, f"{file}: vol", "slice,echo,row,column")
    if volume.ndim != 4 or volume.shape[1] < 8 or volume.shape[0] < 18:
        raise DataError(f"{file}: expected 'vol' to be (18 slices, 8 echoes, H, W), got {volume.shape}")
    contrasts = {name: volume[:, echo].astype(np.float64) for name, echo in ECHOES.items()}
    return {name: (images / np.percentile(images, PERCENTILE)).astype(np.float32) for name, images in contrasts.items()}


def shift_columns(images_SHW: np.ndarray, pixels: float) -> np.ndarray:
    """Move every image along its rows by a phase ramp in Fourier space: without blur, and wrapping around."""
    spectra = np.fft.fft(images_SHW.astype(np.float64), axis=-1)
    return np.fft.ifft(fourier_shift(spectra, (0, 0, pixels), axis=-1)).real.astype(np.float32)


def _load(args: argparse.Namespace, contrasts: dict[str, np.ndarray], number: int) -> list[Sample]:
    fields: dict[str, np.ndarray] = {}
    for stream, (name, images) in enumerate(contrasts.items()):
        clean = images[number]
        if args.noise not in NOISES:
            fields |= _made_up(args, name, clean, (number, stream))
            continue
        fields[f"{name}_clean"] = clean.astype(np.complex64) if args.noise == "complex" else clean
        for copy, suffix in enumerate(("", "_second") if args.second else ("",)):
            random = generator(args.seed, copy, number, stream)
            fields[f"{name}{suffix}"] = _add_noise(clean, random, args)
    return [Sample.of_arrays(f"slice-{number:02d}", fields, slice=number)]


def _made_up(args: argparse.Namespace, name: str, image: np.ndarray, numbers: tuple[int, int]) -> dict[str, np.ndarray]:
    """The fields of one contrast of a slice; `numbers` are those of the slice and of the contrast."""
    noise = MadeUpNoise.of(args)
    clean = noise.clean(image)
    fields = {f"{name}_clean": made_up_noise.as_stored(clean, getattr(args, "magnitude", False))}
    for copy, suffix in enumerate(("", "_second") if args.second else ("",)):
        random = generator(args.seed, copy, *numbers)
        common = generator(args.seed, copy, numbers[0], COMMON_STREAM)
        noisy = noise.add(clean, random, common)
        fields[f"{name}{suffix}"] = made_up_noise.as_stored(noisy, getattr(args, "magnitude", False))
    return fields


def _note(args: argparse.Namespace) -> str:
    """The made-up noise in words."""
    note = MadeUpNoise.of(args).note
    return f"magnitude of {note}" if getattr(args, "magnitude", False) else note


def _add_noise(clean: np.ndarray, random: np.random.Generator, args: argparse.Namespace) -> np.ndarray:
    """The image with noise as --noise says: float32, or complex64."""
    noisy = clean + gaussian_noise(random, clean.shape, args.sigma)
    if args.noise == "gaussian":
        return noisy
    noisy = noisy + 1j * gaussian_noise(random, clean.shape, args.sigma)
    return noisy if args.noise == "complex" else np.abs(noisy)
