"""Runs on images behind a URL, indexed and streamed: they equal runs on a local folder, and resume exactly."""

import json
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from quell.configs.errors import CheckpointError
from quell.launch import train
from quell.launch.checkpoints import resume
from tests.support.runs import checkpoint_of, read_weights, same_bits
from tests.support.small_runs import SMALL_CONFIG

TrainRemote = Callable[..., str]


@pytest.fixture
def train_remote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> TrainRemote:
    """Train in this process: `train_remote("a.b=c", run="name") -> output`."""

    def run_training(*overrides: str, run: str) -> str:
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
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out + captured.err

    return run_training


@pytest.fixture
def url(mini: Path) -> str:
    """The override that reads the mini shards from memory:// instead of the local folder."""
    fsspec.filesystem("memory").put(str(mini), "/mini", recursive=True)
    return "data.root=memory://mini"


def test_a_remote_run_trains_the_same_weights_as_a_local_run(
    train_remote: TrainRemote, url: str, mini: Path, tmp_path: Path
) -> None:
    train_remote(f"data.root={mini}", "loop.max_steps=4", run="local")
    output = train_remote(url, "loop.max_steps=4", "data.cache.max_gb=2e-4", run="remote")
    assert "note: memory://mini/train: " in output and "do not fit the cache" in output
    assert same_bits(read_weights(tmp_path / "local", 4), read_weights(tmp_path / "remote", 4))


def test_a_streamed_run_states_how_it_shuffles_and_resumes_exactly(
    train_remote: TrainRemote, url: str, tmp_path: Path
) -> None:
    stream = (url, "data.mode=stream", "data.stream_buffer=7", "loop.epochs=null", "schedule.length_epochs=10")
    assert "data.mode stream: samples are shuffled by shards" in train_remote(
        *stream, "loop.max_steps=5", run="uninterrupted"
    )
    train_remote(*stream, "loop.max_steps=2", run="resumed")
    assert "resuming" in train_remote(*stream, "loop.max_steps=5", run="resumed")
    assert same_bits(read_weights(tmp_path / "uninterrupted", 5), read_weights(tmp_path / "resumed", 5))


def test_settings_newer_than_a_checkpoint_count_as_their_defaults(
    train_remote: TrainRemote, mini: Path, tmp_path: Path
) -> None:
    train_remote(f"data.root={mini}", "loop.max_steps=1", run="old")
    checkpoint = checkpoint_of(tmp_path / "old", 1)
    current = json.loads((checkpoint / "meta.json").read_text())["config"]
    newer = ("mode", "stream_buffer", "mixed_skip_alpha")
    saved = {
        **current,
        **{
            part: {key: value for key, value in current[part].items() if key not in newer}
            for part in ("data", "pipeline")
        },
    }
    resume.refuse_other_config(saved, current, checkpoint)
    with pytest.raises(CheckpointError, match="data.mode was indexed and is stream"):
        resume.refuse_other_config(saved, {**current, "data": {**current["data"], "mode": "stream"}}, checkpoint)
