"""The figures of the dual-domain study, drawn from short runs on the mini shards."""

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.figures import dual_domain as figures
from quell.launch import train
from quell.launch.evaluation import baselines

SHORT = [
    "loop.max_steps=2",
    "loop.epochs=null",
    "loop.threads=1",
    "loop.precision=no",
    "evaluation.every_epochs=null",
    "evaluation.every_steps=1",
    "evaluation.limit=2",
    "checkpoint.every_steps=9",
    "data.crop=16",
    "tracking.tensorboard=false",
]
RESTORER = ["pipeline.network={name: residual_unet, widths: [4], blocks: [1]}", "pipeline.passes=1"]


@pytest.fixture(scope="module")
def runs(mini: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a recommended run, a dual-domain run, and a folder where nothing has finished."""
    folder = tmp_path_factory.mktemp("studies")
    jobs = [
        ("guided", "recommended-seed1", "configs/cross_guided.yaml", [*RESTORER, "seed=1"]),
        ("guided", "recommended-seed2", "configs/cross_guided.yaml", [*RESTORER, "seed=2"]),
        ("content", "target_skip-seed1", "tests/launch/small.yaml", ["data.batch_size=4"]),
    ]
    for study, name, config, more in jobs:
        assert (
            train.main(
                [
                    "--config",
                    str(root / config),
                    "--run-dir",
                    str(folder / study / name),
                    f"data.root={mini}",
                    *SHORT,
                    *more,
                ]
            )
            == 0
        )
    (folder / "guided" / "own-seed1").mkdir()
    (folder / "guided" / "own-seed1" / "summary.json").write_text('{"status": "running"}')
    return folder


def test_rows_are_the_finished_runs_with_their_seeds(runs: Path) -> None:
    rows = figures.rows_of(runs / "guided")
    assert {row: [run.name for run in seeds] for row, seeds in rows.items()} == {
        "recommended": ["recommended-seed1", "recommended-seed2"]
    }
    assert [event["step"] for event in figures.evaluations(rows["recommended"][0])] == [1, 2]


def test_all_three_figures_are_drawn(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_bm3d", lambda unit, *_: unit)  # a minute on images that are too small for it
    figures.main(["--studies", str(runs), "--output", str(tmp_path)])
    for name in ("steps", "images", "curves"):
        with Image.open(tmp_path / f"dual_domain_{name}.png") as image:
            low, high = image.convert("L").getextrema()
            assert image.width > 500 and low < 50 and high > 200


def test_without_the_recommended_run_the_error_names_the_study(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run the study first"):
        figures.main(["--studies", str(tmp_path)])
