"""A small run that was trained, evaluated and put on a page, with a name that is markup unless escaped."""

from pathlib import Path

import pytest

from quell.launch import evaluate, train
from quell.launch.run_report import command
from tests.support.small_runs import SMALL_CONFIG

NAME = "<img src=x onerror=alert(1)>&'\""


@pytest.fixture(scope="session")
def reported_run(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder, with report.html in it; tests do not change it."""
    run = tmp_path_factory.mktemp("reported") / NAME
    words = ["--config", SMALL_CONFIG, f"data.root={mini}", "loop.max_steps=4", "seed=7", "tracking.log_every=1"]
    assert train.main([*words, "--run-dir", str(run)]) == 0
    assert evaluate.main(["--run", str(run), "--baseline", "noisy", "--baseline", "nlm"]) == 0
    assert command.main([str(run), "--images", "1"]) == 0
    return run
