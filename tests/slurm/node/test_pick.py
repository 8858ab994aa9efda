"""The best of a sweep, and what is taken from the choice when a later stage starts."""

import json
from pathlib import Path
from typing import Any

import pytest

from configs.errors import DataError
from slurm.node import pick
from slurm.stages.schema import Init, Pick
from slurm.stages.task import Task


def sweep(folder: Path, summaries: dict[str, dict[str, Any]], mode: str = "max") -> Task:
    """A pick over members that left these summaries."""
    for member, summary in summaries.items():
        (folder / member).mkdir()
        (folder / member / "summary.json").write_text(json.dumps(summary))
    return Task(
        stage="best", kind="pick", run_dir=str(folder / "best"), folder=str(folder / "jobs"), code=str(folder),
        pick=Pick(stage="sweep", metric="psnr", mode=mode), changes={name: (f"seed={name}",) for name in summaries},
        candidates={name: str(folder / name) for name in summaries},
    )  # fmt: skip


def measured(psnr: Any, status: str = "finished") -> dict[str, Any]:
    return {"status": status, "metrics": {"psnr": psnr}}


def test_the_best_member_wins_and_those_that_cannot_be_judged_are_named(tmp_path: Path) -> None:
    members = {"1": measured(20.0), "2": measured(30.5), "3": measured(99.0, "failed"), "4": measured(None)}
    task = sweep(tmp_path, members)
    assert pick.choose(task) == "2: psnr 30.5"
    choice = json.loads((tmp_path / "best" / "choice.json").read_text())
    assert choice["winner"] == "2" and choice["values"] == {"1": 20.0, "2": 30.5}
    assert choice["left_out"] == {"3": "not finished (failed)", "4": "no number 'psnr' in its metrics"}


def test_less_may_be_better(tmp_path: Path) -> None:
    assert pick.choose(sweep(tmp_path, {"1": measured(0.2), "2": measured(0.1)}, mode="min")).startswith("2: ")


def test_a_sweep_without_a_finished_member_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no member of 'sweep' can be chosen by psnr: 1: not finished"):
        pick.choose(sweep(tmp_path, {"1": measured(1.0, "stopped")}))


def test_a_later_stage_takes_the_winners_changes_and_weights(tmp_path: Path) -> None:
    pick.choose(sweep(tmp_path, {"1": measured(20.0), "2": measured(30.5)}))
    later = Task(
        stage="later", kind="train", run_dir=str(tmp_path), folder=str(tmp_path), code=str(tmp_path), use="best",
        init_from=Init(stage="best", parts=("encoder",), which="best"),
        choices={"best": str(tmp_path / "best" / "choice.json")},
    )  # fmt: skip
    changes, start = pick.late_words(later)
    assert changes == "seed=2"
    name, _, value = start.partition("=")
    assert name == "init_from"
    assert json.loads(value) == {"run": str(tmp_path / "2"), "parts": ["encoder"], "which": "best"}
    (tmp_path / "best" / "choice.json").unlink()
    with pytest.raises(DataError, match="the choice of 'best' is not there"):
        pick.late_words(later)
