"""Small paired shards and a small run, shared by the tests of launch/."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from configs import loader
from configs.schema import RunConfig
from launch import train
from shards.building.writer import write_split

SIZE_PX, SIGMA = 24, 0.1

SMALL = "tests/launch/small.yaml"
"""A dual-domain run of milliseconds a step."""


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 26 train, 5 val and 3 test complex PD / PDFS pairs with their clean images; noise sigma 0.1."""
    root = tmp_path_factory.mktemp("mini")
    rng = np.random.default_rng(0)
    for split, count in (("train", 26), ("val", 5), ("test", 3)):
        write_split(
            root / split, [sample(rng, f"{split}{i:03d}") for i in range(count)], name="mini", meta={"data_range": 1.0}
        )
    return root


@pytest.fixture(scope="session")
def small_run(mini: Path, root: Path) -> Callable[..., RunConfig]:
    """`small_run("a.b=c", ...)`: a tiny dual-domain run on the mini shards."""

    def make(*overrides: str) -> RunConfig:
        return loader.load(root / SMALL, [f"data.root={mini}", *overrides])

    return make


def sample(rng: np.random.Generator, key: str) -> dict[str, object]:
    """One pair: two monotone looks at one smooth field, times a phase, plus complex noise."""
    field = gaussian_filter(rng.normal(size=(SIZE_PX, SIZE_PX)), 3)
    field = (field - field.min()) / np.ptp(field)
    clean = {"pd": (0.2 + 0.8 * field) * np.exp(0.3j), "pdfs": (1 - 0.8 * field**2) * np.exp(0.3j)}
    noise = {name: SIGMA * (rng.normal(size=field.shape) + 1j * rng.normal(size=field.shape)) for name in clean}
    arrays = {f"{name}.npy": (clean[name] + noise[name]).astype(np.complex64) for name in clean}
    arrays |= {f"{name}_clean.npy": clean[name].astype(np.complex64) for name in clean}
    return {"__key__": key, **arrays, "json": {"case": key}}


@pytest.fixture
def go(mini: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Train in this process: `go("a.b=c", ...) -> (exit code, everything printed)`."""

    def run(*overrides: str, run_dir: Path | None = None, options: tuple[str, ...] = ()) -> tuple[int, str]:
        code = train.main(
            [
                "--config",
                SMALL,
                f"data.root={mini}",
                "loop.max_steps=4",
                *overrides,
                "--run-dir",
                str(run_dir or tmp_path / "run"),
                *options,
            ]
        )
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def one_sentence(said: str) -> str:
    """The error a user sees; nothing of Python's own."""
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, said
    return lines[0]
