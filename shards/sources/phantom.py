"""Build shards of a generated knee phantom: proton-density (PD) and fat-suppressed PD (PDFS) images, noisy and clean.

Reads nothing: images follow from spin-echo signal equations on maps of random knee-like anatomy, a smooth random phase
that the two contrasts nearly share, and complex Gaussian noise. For quick starts and tests: the ground truth is known,
and nothing needs to be downloaded.

Writes `pd` and `pdfs` (noisy), `pd_clean` and `pdfs_clean`, with --second also `pd_second` and `pdfs_second`. Images
are complex64, or float32 with --magnitude; magnitudes of tissue reach about 1. Every knee is a group.

--noise makes noise that is correlated, varies over the image or follows the signal. Kinds of real noise are added to
the magnitude of the clean images; the others pass clean image and noise through a filter in k-space. What the noise is
exactly is written to truth_noise.npz.

  python -m shards.build phantom --sigma 0.1 --output DIR
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quell.configs.support.arguments import real_number, whole_number
from quell.shards.building.build_splits import Headers, build_splits
from quell.shards.building.items import Sample
from quell.shards.format.index import Meta
from quell.shards.reading.pixels.transforms import generator
from quell.shards.sources.common import made_up_noise
from quell.shards.sources.common.gaussian_noise import add_second_argument
from quell.shards.sources.common.generated import LICENCE, add_count_arguments, generated_items
from quell.shards.sources.common.knee_anatomy import TISSUES, fractions
from quell.shards.sources.common.made_up_noise import MadeUpNoise
from quell.shards.sources.common.smooth_fields import smooth_fields

COUNTS = {"train": 160, "val": 16, "test": 16}
PD_TIMES_MS = (2800.0, 27.0)
"""Repetition time and echo time of the PD scan."""
PDFS_TIMES_MS = (3000.0, 33.0)
FAT_LEFT = 0.06
"""Share of the fat signal that remains after fat suppression."""
FAT_T1_MS, FAT_T2_MS = 371.0, 133.0

STREAM_ANATOMY, STREAM_NOISE, STREAM_SECOND, STREAM_SHARED = 1, 2, 3, 4
"""Random streams of a knee."""


class Tissue(NamedTuple):
    """The properties of a tissue that its signal depends on."""

    density: float
    """Proton density, relative to fluid."""
    t1_ms: float
    """T1 of the water in it."""
    t2_ms: float
    """T2 of the water in it."""
    fat: float
    """Fat fraction, 0 to 1."""


# Relaxation times at 3 T after Gold et al., "Musculoskeletal MRI at 3.0 T", AJR 183:343, 2004; those of tissues with
# very short T2, densities and fat fractions are plausible round numbers.
PROPERTIES = {
    "air": Tissue(0.0, 1000.0, 50.0, 0.0),
    "fat": Tissue(0.95, 1420.0, 32.0, 0.93),
    "muscle": Tissue(0.80, 1420.0, 32.0, 0.03),
    "marrow": Tissue(0.90, 1420.0, 45.0, 0.85),
    "cortex": Tissue(0.15, 900.0, 5.0, 0.0),
    "cartilage": Tissue(0.80, 1240.0, 37.0, 0.0),
    "meniscus": Tissue(0.60, 960.0, 11.0, 0.0),
    "tendon": Tissue(0.60, 900.0, 8.0, 0.0),
    "fluid": Tissue(1.00, 3620.0, 767.0, 0.0),
    "oedema": Tissue(0.95, 1800.0, 110.0, 0.35),
}

SHARED_PHASE, OWN_PHASE = 0.6, 0.1
"""Standard deviation, in radians, of the smooth phase that both scans share (coil and field) and of each scan's own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m shards.build phantom`."""
    parser.add_argument("--size", type=whole_number(16), default=128, help="height and width in pixels (default 128)")
    add_count_arguments(parser, COUNTS, "samples")
    parser.add_argument(
        "--sigma",
        type=real_number(least=0),
        default=0.1,
        help="standard deviation of the noise in each of the real and imaginary components; tissue reaches about 1 "
        "(default 0.1)",
    )
    parser.add_argument("--magnitude", action="store_true", help="store magnitudes (float32) instead of complex images")
    parser.add_argument(
        "--noise",
        choices=(*made_up_noise.REAL_KINDS, *made_up_noise.COMPLEX_KINDS),
        default=argparse.SUPPRESS,
        help="another kind than white complex Gaussian noise",
    )
    made_up_noise.add_noise_parameters(parser)
    add_second_argument(parser)


def build(args: argparse.Namespace) -> Headers:
    """Write the splits to args.output; returns split -> index header."""
    meta: Meta = {
        "source": "phantom",
        "data_range": 1.0,
        "sigma": args.sigma,
        "seed": args.seed,
        "noise": "rician" if args.magnitude else "complex gaussian, sigma per component",
        "licence": LICENCE,
    }
    if "noise" not in args:
        return build_splits(args, "phantom", generated_items(args, COUNTS, _key, _load), meta)
    noise = MadeUpNoise.of(args)
    meta["noise"] = f"magnitude of {noise.note}" if args.magnitude and noise.is_complex else noise.note
    headers = build_splits(args, "phantom", generated_items(args, COUNTS, _key, _load), meta)
    if not args.dry_run:
        truth = noise.truth((args.size, args.size))
        made_up_noise.write_truth(Path(args.output), {"pd": truth, "pdfs": truth}, noise.note)
    return headers


def signal(tissue: Tissue, times_ms: tuple[float, float], fat_left: float) -> float:
    """Spin-echo signal of a voxel of water and fat, in units of the proton density.

    density * [(1 - fat) E(T1, T2) + fat * fat_left * E_fat], where
    E = (1 - 2 exp(-(TR - TE/2)/T1) + exp(-TR/T1)) exp(-TE/T2).

    Args:
        tissue: Its density, relaxation times and fat fraction.
        times_ms: Repetition time TR and echo time TE.
        fat_left: Share of the fat signal that is not suppressed, 0 to 1.
    """
    water = _spin_echo(times_ms, tissue.t1_ms, tissue.t2_ms)
    fat = _spin_echo(times_ms, FAT_T1_MS, FAT_T2_MS)
    return tissue.density * ((1 - tissue.fat) * water + tissue.fat * fat_left * fat)


def clean_pair(random: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Generate PD and PDFS of one random knee, complex128 (size, size); the brightest tissue is about 1."""
    tissue_fractions = fractions(random, size)
    texture = 1 + 0.05 * smooth_fields(random, size, len(TISSUES))
    factors = random.normal(1, 0.04, (len(TISSUES), 3))
    shared, *own = smooth_fields(random, size, 3)
    receiver = SHARED_PHASE * shared + random.uniform(-np.pi, np.pi)
    phases = [receiver + OWN_PHASE * phase for phase in own]
    images = []
    for (times_ms, fat_left), phase in zip(((PD_TIMES_MS, 1.0), (PDFS_TIMES_MS, FAT_LEFT)), phases, strict=True):
        levels = np.array(
            [signal(_varied(PROPERTIES[name], factors[i]), times_ms, fat_left) for i, name in enumerate(TISSUES)]
        )
        brightest = max(signal(tissue, times_ms, fat_left) for tissue in PROPERTIES.values())
        magnitude = np.einsum("t,thw,thw->hw", levels / brightest, tissue_fractions, texture)
        images.append(magnitude * np.exp(1j * phase))
    return images[0], images[1]


def _varied(tissue: Tissue, factors: np.ndarray) -> Tissue:
    return Tissue(tissue.density * factors[0], tissue.t1_ms * factors[1], tissue.t2_ms * factors[2], tissue.fat)


def _spin_echo(times_ms: tuple[float, float], t1_ms: float, t2_ms: float) -> float:
    repetition, echo = times_ms
    recovery = 1 - 2 * np.exp(-(repetition - echo / 2) / t1_ms) + np.exp(-repetition / t1_ms)
    return float(recovery * np.exp(-echo / t2_ms))


def _key(number: int) -> str:
    return f"phantom-{number:06d}"


def _load(args: argparse.Namespace, split_number: int, number: int) -> Sample:
    pd, pdfs = clean_pair(generator(args.seed, split_number, number, STREAM_ANATOMY), args.size)
    if "noise" in args:
        return Sample.of_arrays(_key(number), _made_up(args, {"pd": pd, "pdfs": pdfs}, split_number, number))
    random = generator(args.seed, split_number, number, STREAM_NOISE)
    fields = {
        "pd": _add_noise(pd, random, args),
        "pdfs": _add_noise(pdfs, random, args),
        "pd_clean": _as_stored(pd, args),
        "pdfs_clean": _as_stored(pdfs, args),
    }
    if args.second:
        random = generator(args.seed, split_number, number, STREAM_SECOND)
        fields |= {"pd_second": _add_noise(pd, random, args), "pdfs_second": _add_noise(pdfs, random, args)}
    return Sample.of_arrays(_key(number), fields, sigma=args.sigma)


def _made_up(
    args: argparse.Namespace, images: dict[str, np.ndarray], split_number: int, number: int
) -> dict[str, np.ndarray]:
    """The fields of a knee with the noise of --noise."""
    noise = MadeUpNoise.of(args)
    clean = {name: noise.clean(image if noise.is_complex else np.abs(image)) for name, image in images.items()}
    fields = {f"{name}_clean": made_up_noise.as_stored(image, args.magnitude) for name, image in clean.items()}
    for stream, suffix in ((STREAM_NOISE, ""), (STREAM_SECOND, "_second"))[: 1 + args.second]:
        random = generator(args.seed, split_number, number, stream)
        for name, image in clean.items():
            common = generator(args.seed, split_number, number, STREAM_SHARED + stream)
            noisy = noise.add(image, random, common)
            fields[f"{name}{suffix}"] = made_up_noise.as_stored(noisy, args.magnitude and noise.is_complex)
    return fields


def _add_noise(clean: np.ndarray, random: np.random.Generator, args: argparse.Namespace) -> np.ndarray:
    noise = random.standard_normal((2, *clean.shape)) * args.sigma
    return _as_stored(clean + noise[0] + 1j * noise[1], args)


def _as_stored(image: np.ndarray, args: argparse.Namespace) -> np.ndarray:
    return np.abs(image).astype(np.float32) if args.magnitude else image.astype(np.complex64)
