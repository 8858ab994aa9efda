"""Runs whose images lie behind a URL, in both modes: the same run as on the local folder, continued the same."""

import json
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from configs.errors import CheckpointError
from launch import train
from launch.checkpoints import resume
from launch.checkpoints.store import read_weights
from tests.support.small_runs import SMALL_CONFIG


@pytest.fixture
def go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Train in this process: `go("a.b=c", run="name") -> everything printed`."""

    def run_(*overrides: str, run: str) -> str:
        code = train.main(
            [
                "--config",
                SMALL_CONFIG,
                f"data.cache.folder={tmp_path / 'cache'}",
                "evaluation.limit=2",
                "checkpoint.every_steps=2",
                *overrides,
                "--run-dir",
                str(tmp_path / run),
            ]
        )
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out + said.err

    return run_


@pytest.fixture
def url(mini: Path) -> str:
    fsspec.filesystem("memory").put(str(mini), "/mini", recursive=True)
    return "data.root=memory://mini"


def test_a_remote_run_learns_what_the_local_run_does(go, url: str, mini: Path, tmp_path: Path) -> None:
    go(f"data.root={mini}", "loop.max_steps=4", run="local")
    said = go(url, "loop.max_steps=4", "data.cache.max_gb=2e-4", run="remote")
    assert "note: memory://mini/train: " in said and "do not fit the cache" in said
    local, remote = (read_weights(tmp_path / run / "checkpoints" / "step-00000004") for run in ("local", "remote"))
    assert all((local[name] == remote[name]).all() for name in local)


def test_a_streamed_run_says_what_is_weaker_and_continues_exactly(go, url: str, tmp_path: Path) -> None:
    stream = (url, "data.mode=stream", "data.stream_buffer=7", "loop.epochs=null", "schedule.length_epochs=10")
    assert "data.mode stream: samples are shuffled by shards" in go(*stream, "loop.max_steps=5", run="direct")
    go(*stream, "loop.max_steps=2", run="parts")
    assert "resuming" in go(*stream, "loop.max_steps=5", run="parts")
    direct, parts = (read_weights(tmp_path / run / "checkpoints" / "step-00000005") for run in ("direct", "parts"))
    assert all((direct[name] == parts[name]).all() for name in direct)


def test_settings_younger_than_a_checkpoint_had_their_defaults(go, mini: Path, tmp_path: Path) -> None:
    go(f"data.root={mini}", "loop.max_steps=1", run="old")
    place = tmp_path / "old" / "checkpoints" / "step-00000001"
    now = json.loads((place / "meta.json").read_text())["config"]
    younger = ("mode", "stream_buffer", "mixed_skip_alpha")
    saved = {
        **now,
        **{
            part: {key: value for key, value in now[part].items() if key not in younger}
            for part in ("data", "pipeline")
        },
    }
    resume.refuse_other_config(saved, now, place)
    with pytest.raises(CheckpointError, match="data.mode was indexed and is stream"):
        resume.refuse_other_config(saved, {**now, "data": {**now["data"], "mode": "stream"}}, place)
