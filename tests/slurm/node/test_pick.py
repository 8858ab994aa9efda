"""The best member of a sweep, and what a later stage takes from the choice when it starts."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from quell.configs.errors import DataError
from quell.slurm.node import pick
from quell.slurm.stages.schema import Init, Pick
from quell.slurm.stages.task import Task

Mode = Literal["max", "min"]


def pick_task(folder: Path, summaries: dict[str, dict[str, Any]], mode: Mode = "max") -> Task:
    """A pick among members with these summaries."""
    for member, summary in summaries.items():
        (folder / member).mkdir()
        (folder / member / "summary.json").write_text(json.dumps(summary))
    return Task(
        stage="best", kind="pick", run_dir=str(folder / "best"), folder=str(folder / "jobs"), code=str(folder),
        pick=Pick(stage="sweep", metric="psnr", mode=mode), changes={name: (f"seed={name}",) for name in summaries},
        candidates={name: str(folder / name) for name in summaries},
    )  # fmt: skip


def summary(psnr: float | None, status: str = "finished") -> dict[str, Any]:
    return {"status": status, "metrics": {"psnr": psnr}}


def test_the_best_member_wins_and_members_that_cannot_be_compared_are_named(tmp_path: Path) -> None:
    members = {"1": summary(20.0), "2": summary(30.5), "3": summary(99.0, "failed"), "4": summary(None)}
    assert pick.choose(pick_task(tmp_path, members)) == "2: psnr 30.5"
    choice = json.loads((tmp_path / "best" / "choice.json").read_text())
    assert choice["winner"] == "2" and choice["values"] == {"1": 20.0, "2": 30.5}
    assert choice["left_out"] == {"3": "not finished (failed)", "4": "no finite 'psnr' in its metrics"}


def test_the_lowest_value_wins_in_mode_min(tmp_path: Path) -> None:
    assert pick.choose(pick_task(tmp_path, {"1": summary(0.2), "2": summary(0.1)}, mode="min")).startswith("2: ")


def test_a_sweep_without_a_finished_member_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no member of 'sweep' can be compared by psnr: 1: not finished"):
        pick.choose(pick_task(tmp_path, {"1": summary(1.0, "stopped")}))


def test_a_later_stage_takes_the_winners_changes_and_weights(tmp_path: Path) -> None:
    pick.choose(pick_task(tmp_path, {"1": summary(20.0), "2": summary(30.5)}))
    later = Task(
        stage="later", kind="train", run_dir=str(tmp_path), folder=str(tmp_path), code=str(tmp_path), use="best",
        init_from=Init(stage="best", parts=("encoder",), which="best"),
        choices={"best": str(tmp_path / "best" / "choice.json")},
    )  # fmt: skip
    changes, init_from = pick.late_overrides(later)
    assert changes == "seed=2"
    key, _, value = init_from.partition("=")
    assert key == "init_from"
    assert json.loads(value) == {"run": str(tmp_path / "2"), "parts": ["encoder"], "which": "best"}
    (tmp_path / "best" / "choice.json").unlink()
    with pytest.raises(DataError, match="'best' has not chosen yet"):
        pick.late_overrides(later)
