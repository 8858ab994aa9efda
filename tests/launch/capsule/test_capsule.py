"""What a run records at each start, from the command line down to the weights it begins with."""

import importlib
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from quell.configs.source_code import files as code_files
from quell.configs.support.json_files import Record
from quell.launch import train
from quell.launch.capsule import files, packages, process, start
from quell.launch.capsule.own_modules import own_modules
from quell.launch.capsule.weights import fingerprint
from tests.support.runs import read_summary
from tests.support.small_runs import SMALL_CONFIG, TrainSmall


@pytest.fixture(scope="module")
def twice_started(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps that stopped after two, and was resumed with another interval of log lines."""
    run = tmp_path_factory.mktemp("twice") / "run"
    words = ["--config", SMALL_CONFIG, f"data.root={mini}", "loop.max_steps=4", "--run-dir", str(run)]
    assert train.main([*words, "--stop-at", "2"]) == 0
    assert train.main([*words, "tracking.log_every=1"]) == 0
    return run


@pytest.fixture(scope="module")
def starts(twice_started: Path) -> list[Record]:
    return files.read_starts(twice_started)


def test_every_start_is_recorded_with_what_it_continues(starts: list[Record], twice_started: Path) -> None:
    first, second = starts
    assert (first["step"], first["continues"], first["config_changes"]) == (0, None, {})
    assert second["step"] == 2 and second["config_changes"] == {"tracking.log_every": [2, 1]}
    assert second["continues"]["checkpoint"] == str(twice_started / "checkpoints" / "step-00000002")
    assert len(first["weights"]) == 64 and second["weights"] is None


def test_parts_that_are_the_same_are_kept_once(starts: list[Record], twice_started: Path) -> None:
    assert starts[0]["packages"] == starts[1]["packages"]
    names = {path.name for path in files.folder_of(twice_started).iterdir()}
    parts = {starts[0]["packages"], *(split["shards"] for split in starts[0]["data"].values())}
    assert names - {starts[0]["code"]["changes"]} == {files.STARTS, *parts}


def test_data_are_recorded_shard_by_shard(starts: list[Record], twice_started: Path, mini: Path) -> None:
    train_split = starts[0]["data"]["train"]
    assert train_split["path"] == str(mini / "train") and train_split["samples"] == 26
    (shard,) = files.read_json_part(twice_started, train_split["shards"]) or []
    assert shard["size"] == next((mini / "train").glob("*.tar")).stat().st_size and shard["samples"] == 26


def test_packages_code_and_arithmetic_are_those_that_ran(starts: list[Record], twice_started: Path) -> None:
    text = files.read_part(twice_started, starts[0]["packages"])
    assert text is not None
    listed = packages.from_text(text.decode())
    assert listed["torch"] == version("torch") and listed["pytorch-msssim"] == version("pytorch-msssim")
    assert starts[0]["code"]["fingerprint"] == code_files.fingerprint(code_files.contents())
    assert starts[0]["arithmetic"] == {
        "precision": "no",
        "tf32": False,
        "channels_last": True,
        "deterministic": True,
        "cudnn_benchmark": False,
        "threads": 1,
        "draws": 2,
    }
    assert starts[0]["command"]["words"] == sys.orig_argv and starts[0]["world"] == 1


def test_a_run_goes_on_where_nothing_can_be_recorded(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "record", lambda *_, **__: 1 / 0)
    code, output = train_small("evaluation.every_epochs=null", run_dir=tmp_path / "run")
    assert code == 0 and "capsule: what repeats this run was not recorded (ZeroDivisionError" in output
    assert "capsule" in read_summary(tmp_path / "run")["warnings"]


def test_a_part_that_cannot_be_recorded_leaves_the_others(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "own_modules", lambda _: 1 / 0)
    code, output = train_small("evaluation.every_epochs=null", run_dir=tmp_path / "run")
    assert code == 0 and "capsule: own_modules was not recorded (ZeroDivisionError" in output
    (recorded,) = files.read_starts(tmp_path / "run")
    assert "own_modules" not in recorded and recorded["code"]["fingerprint"] and recorded["packages"]


def test_a_credential_in_the_code_is_warned_of_and_kept(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "TOKEN = 'hf_abcdefghijklmnopqrstuvwxyz'\n"
    monkeypatch.setattr(start, "own_modules", lambda _: {"mine.py": text})
    code, output = train_small("evaluation.every_epochs=null", run_dir=tmp_path / "run")
    assert code == 0 and "holds what looks like a credential" in output and "hf_abc" not in output
    (recorded,) = files.read_starts(tmp_path / "run")
    assert files.read_json_part(tmp_path / "run", recorded["own_modules"]) == {"mine.py": text}


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUELL_TOKEN", "abc")
    monkeypatch.setenv("QUELL_CACHE", "s3://user:pass@host/cache")
    monkeypatch.setattr(sys, "orig_argv", ["python", "data.root=https://me:pw@host/shards"])
    recorded = process.variables()
    assert recorded["QUELL_TOKEN"] == "***" and "pass" not in recorded["QUELL_CACHE"]
    assert "pw" not in json.dumps(process.command())


def test_the_launcher_is_recognised_by_the_process_that_started_this_one(tmp_path: Path) -> None:
    (tmp_path / "accelerate").write_text(
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', sys.argv[1]])\n"
    )
    code = "from quell.launch.capsule import process; print(process.command()['launcher'])"
    words = [sys.executable, str(tmp_path / "accelerate"), code]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    printed = subprocess.run(words, capture_output=True, text=True, env=environment, check=True).stdout
    assert printed == "accelerate\n"


def test_modules_of_the_users_own_are_kept_with_their_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_networks").mkdir()
    (tmp_path / "my_networks" / "blocks.py").write_text("WIDTH = 3\n")
    (tmp_path / "my_networks" / "small.py").write_text("from my_networks.blocks import WIDTH\nimport my_helpers\n")
    (tmp_path / "my_helpers.py").write_bytes(b"# -*- coding: latin-1 -*-\n# \xe9\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("my_networks.small")
    for settings in (
        {"name": "supervised", "network": {"name": "my_networks.small", "width": 2}},
        {"name": "supervised", "losses": {"my_networks.small": {"weight": 1.0}}},
        {"name": "supervised", "network": {"name": "library_network", "target": "my_networks.small.Net"}},
    ):
        kept = {Path(path): text for path, text in own_modules(settings).items()}
        # modules that other tests of this process have imported are the user's own, too
        assert {path.name: text for path, text in kept.items() if path.is_relative_to(tmp_path)} == {
            "blocks.py": "WIDTH = 3\n",
            "small.py": "from my_networks.blocks import WIDTH\nimport my_helpers\n",
            "my_helpers.py": "# -*- coding: latin-1 -*-\n# \udce9\n",
        }
    assert (
        own_modules({"name": "supervised", "network": {"name": "library_network", "target": "torch.nn.Conv2d"}}) == {}
    )


def test_a_part_that_was_changed_is_not_read(tmp_path: Path) -> None:
    name = files.keep(tmp_path, "changes", "patch", b"as it was")
    assert files.read_part(tmp_path, name) == b"as it was"
    (files.folder_of(tmp_path) / name).write_bytes(b"changed")
    assert files.read_part(tmp_path, name) is None
    assert files.read_part(tmp_path, "../metrics.jsonl") is None and files.read_part(tmp_path, None) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64, torch.int64])
def test_a_fingerprint_of_weights_follows_every_bit(dtype: torch.dtype) -> None:
    weights = {"a": torch.arange(6).reshape(2, 3).to(dtype), "b": torch.tensor(1.0)}
    before = fingerprint(weights)
    assert before == fingerprint(dict(reversed(weights.items())))
    for changed in ({"a": weights["a"].reshape(3, 2)}, {"c": weights["b"]}, {"a": weights["a"] + 1}):
        assert fingerprint({**weights, **changed}) != before
    assert fingerprint({"a": torch.tensor(0.0)}) != fingerprint({"a": torch.tensor(-0.0)})


def test_packages_survive_being_written() -> None:
    listed = packages.installed()
    assert packages.from_text(packages.to_text(listed)) == listed and len(listed) > 10
