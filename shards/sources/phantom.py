"""Pairs of proton-density (PD) and fat-suppressed PD (PDFS) images of random knee-like anatomy, noisy and clean.

Spin-echo signal equations on tissue maps, a smooth random phase that the two contrasts nearly share, and complex
Gaussian noise. Made for quick starts and tests: the truth is known and nothing needs to be downloaded.
"""

import argparse
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from configs.support.arguments import real_number, whole_number
from shards.building import assemble
from shards.building.assemble import Item
from shards.reading.transforms import generator
from shards.sources.common.anatomy import TISSUES, fractions, smooth_fields

SPLITS = {"train": 160, "val": 16, "test": 16}
PD_TIMES_MS = (2800.0, 27.0)
"""Repetition and echo time of the PD scan."""
PDFS_TIMES_MS = (3000.0, 33.0)
FAT_LEFT = 0.06
"""Share of the fat signal that suppression leaves."""
FAT_T1_MS, FAT_T2_MS = 371.0, 133.0

DRAW_ANATOMY, DRAW_NOISE, DRAW_SECOND = 1, 2, 3


class Tissue(NamedTuple):
    """Proton density (relative), T1 and T2 of water in ms, fat fraction."""

    density: float
    t1_ms: float
    t2_ms: float
    fat: float


# Relaxation times at 3 T after Gold et al., "Musculoskeletal MRI at 3.0 T", AJR 183:343, 2004; tissues with very short
# T2, densities and fat fractions are round numbers of the usual size.
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
"""Radians of the smooth phase of coil and field, which both scans of one session see, and of each scan's own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m shards.build phantom`."""
    parser.add_argument("--size", type=whole_number(16), default=128, help="height and width in pixels (default 128)")
    for split, count in SPLITS.items():
        parser.add_argument(
            f"--{split}", type=whole_number(0), default=count, help=f"samples in {split} (default {count})"
        )
    parser.add_argument(
        "--sigma",
        type=real_number(least=0),
        default=0.1,
        help="noise per real and imaginary component; tissue reaches about 1 (default 0.1)",
    )
    parser.add_argument("--magnitude", action="store_true", help="store magnitudes (float32) instead of complex images")
    parser.add_argument(
        "--second", action="store_true", help="also store a second noisy copy of each image: pd_second, pdfs_second"
    )


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Write the splits below args.output; returns split -> index header."""
    chosen = {
        split: [
            Item(f"phantom-{sample:06d}", f"{split}-{sample}", partial(_load, args, number, sample))
            for sample in range(getattr(args, split))
        ]
        for number, split in enumerate(SPLITS)
    }
    return assemble.write(args, "phantom", chosen, _meta(args))


def signal(tissue: Tissue, times_ms: tuple[float, float], fat_left: float) -> float:
    """Spin-echo signal of a voxel of water and fat, in units of the proton density.

    density * [(1 - fat) E(T1, T2) + fat * fat_left * E_fat] with
    E = (1 - 2 exp(-(TR - TE/2)/T1) + exp(-TR/T1)) exp(-TE/T2).
    """
    water = _spin_echo(times_ms, tissue.t1_ms, tissue.t2_ms)
    fat = _spin_echo(times_ms, FAT_T1_MS, FAT_T2_MS)
    return tissue.density * ((1 - tissue.fat) * water + tissue.fat * fat_left * fat)


def clean_pair(random: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """PD and PDFS of one random knee, complex128 (size, size), the brightest tissue about 1."""
    parts = fractions(random, size)
    texture = 1 + 0.05 * smooth_fields(random, size, len(TISSUES))
    vary = random.normal(1, 0.04, (len(TISSUES), 3))
    shared, *own = smooth_fields(random, size, 3)
    receiver = SHARED_PHASE * shared + random.uniform(-np.pi, np.pi)
    phases = [receiver + OWN_PHASE * phase for phase in own]
    images = []
    for (times_ms, fat_left), phase in zip(((PD_TIMES_MS, 1.0), (PDFS_TIMES_MS, FAT_LEFT)), phases, strict=True):
        levels = np.array(
            [signal(_varied(PROPERTIES[name], vary[i]), times_ms, fat_left) for i, name in enumerate(TISSUES)]
        )
        top = max(signal(tissue, times_ms, fat_left) for tissue in PROPERTIES.values())
        magnitude = np.einsum("t,thw,thw->hw", levels / top, parts, texture)
        images.append(magnitude * np.exp(1j * phase))
    return images[0], images[1]


def _varied(tissue: Tissue, factors: np.ndarray) -> Tissue:
    return Tissue(tissue.density * factors[0], tissue.t1_ms * factors[1], tissue.t2_ms * factors[2], tissue.fat)


def _spin_echo(times_ms: tuple[float, float], t1_ms: float, t2_ms: float) -> float:
    repetition, echo = times_ms
    recovered = 1 - 2 * np.exp(-(repetition - echo / 2) / t1_ms) + np.exp(-repetition / t1_ms)
    return float(recovered * np.exp(-echo / t2_ms))


def _load(args: argparse.Namespace, split: int, number: int) -> list[assemble.Sample]:
    pd, pdfs = clean_pair(generator(args.seed, split, number, DRAW_ANATOMY), args.size)
    noise = generator(args.seed, split, number, DRAW_NOISE)
    parts = {
        "pd": _noisy(pd, noise, args),
        "pdfs": _noisy(pdfs, noise, args),
        "pd_clean": _stored(pd, args),
        "pdfs_clean": _stored(pdfs, args),
    }
    if args.second:
        again = generator(args.seed, split, number, DRAW_SECOND)
        parts |= {"pd_second": _noisy(pd, again, args), "pdfs_second": _noisy(pdfs, again, args)}
    return assemble.one(f"phantom-{number:06d}", parts, sigma=args.sigma)


def _noisy(clean: np.ndarray, random: np.random.Generator, args: argparse.Namespace) -> np.ndarray:
    noise = random.standard_normal((2, *clean.shape)) * args.sigma
    return _stored(clean + noise[0] + 1j * noise[1], args)


def _stored(image: np.ndarray, args: argparse.Namespace) -> np.ndarray:
    return np.abs(image).astype(np.float32) if args.magnitude else image.astype(np.complex64)


def _meta(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "source": "phantom",
        "data_range": 1.0,
        "sigma": args.sigma,
        "seed": args.seed,
        "noise": "rician" if args.magnitude else "complex gaussian, sigma per component",
        "licence": "generated by this program; free to use",
    }
