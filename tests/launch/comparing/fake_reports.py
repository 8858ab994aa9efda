"""Run folders as `evaluate` leaves them, with scores that a test chooses."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from quell.configs import loader
from quell.configs.support.paths import ROOT
from quell.launch.capsule import files as capsule
from tests.support.small_runs import SMALL_CONFIG


def write_report(
    run: Path,
    psnr: Sequence[float],
    *,
    overrides: Sequence[str] = (),
    groups: Sequence[str] = (),
    nlm: Sequence[float] = (),
    metrics: Mapping[str, Sequence[float]] | None = None,
    noisy: float = 20.0,
    code: str = "",
    data: str = "",
    **head: object,
) -> Path:
    """Write config.yaml, report.json and, for a `code`, a capsule of a run that restores `pd`; returns the folder."""
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(loader.dump(loader.load(ROOT / SMALL_CONFIG, list(overrides))))
    if code:
        train = {"fingerprint": f"1:{data or 'aa'}:-"}
        capsule.append(run, {"step": 0, "code": {"fingerprint": code}, "data": {"train": train}})
    rows: list[dict[str, object]] = []
    for i, value in enumerate(psnr):
        row: dict[str, object] = {"index": i, "key": f"s{i:02d}", "out/psnr": value, "out/noisy_psnr": noisy + i}
        row |= {f"out/{name}": values[i] for name, values in (metrics or {}).items()}
        row |= {"group": groups[i]} if groups else {}
        row |= {"pd/nlm/psnr": nlm[i]} if len(nlm) else {}
        rows.append(row)
    outputs = {"out": {"noisy": "pd", "clean": "pd_clean", "primary": True}}
    content: dict[str, object] = {"run": str(run), "checkpoint": "step-1", "method": "m", "data": "data/test"}
    content |= {"data_range": 1.0, "images": len(rows), "fingerprint": "1:aa:1", "outputs": outputs, "rows": rows}
    (run / "report.json").write_text(json.dumps(content | head))
    return run


def scores(count: int, mean: float, *, seed: int = 0, spread: float = 0.2) -> list[float]:
    """PSNR of images of different difficulty, restored about equally well by every method."""
    difficulty = np.random.default_rng(99).normal(0, 3, count)
    return list(mean + difficulty + np.random.default_rng(seed).normal(0, spread, count))
