"""Runs of a few steps that exports are made of."""

from pathlib import Path
from typing import Any

import numpy as np

from quell.configs import loader
from quell.launch.training import run
from quell.shards.building.writer import write_split

SHAPE = (24, 28)
UNET = {"name": "residual_unet", "widths": [4, 6], "blocks": [1, 1]}


def image(seed: int, sigma: float = 0.1, *, is_complex: bool = False) -> np.ndarray:
    """A smooth image with noise."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    smooth = 0.5 + 0.3 * np.sin(x / 5 + seed % 7) * np.cos(y / 4)
    random = np.random.default_rng(seed)
    noise = sigma * random.standard_normal(SHAPE)
    if is_complex:
        return (smooth + noise + 1j * sigma * random.standard_normal(SHAPE)).astype(np.complex64)
    return (smooth + noise).astype(np.float32)


def trained(
    folder: Path,
    pipeline: dict[str, Any],
    *,
    fields: tuple[str, ...] = ("noisy",),
    is_complex: bool = False,
    **data: Any,
) -> Path:
    """Train two steps on images of these fields, each with its clean image; the run folder."""
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        samples = [
            {
                "__key__": f"{split}{i}",
                **{f"{name}.npy": image(10 * i + j, is_complex=is_complex) for j, name in enumerate(fields)},
                **{
                    f"{'clean' if name == 'noisy' else name + '_clean'}.npy": image(10 * i, 0.0, is_complex=is_complex)
                    for name in fields
                },
            }
            for i in range(count)
        ]
        write_split(folder / "data" / split, samples, name="tiny", meta={"data_range": 1.0})
    config = loader.structure(
        {
            "name": "tiny",
            "pipeline": pipeline,
            "data": {"root": str(folder / "data"), "crop": 16, "batch_size": 2, **data},
            "loop": {"max_steps": 2, "threads": 1, "epochs": None},
            "evaluation": {"every_epochs": None},
            "tracking": {"tensorboard": False},
        }
    )
    assert run.train(config, folder / "run") == 0
    return folder / "run"
