"""The proof's trainings in several processes: what they show on the CPU, and that what does not hold is a FAIL."""

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from quell.launch import prove_device
from quell.launch.checkpoints.layout import folder_name
from quell.launch.machine import devices
from quell.launch.proof import processes, rank, several, sharding
from quell.launch.proof.outcomes import SkippedError
from quell.launch.proof.processes import Ended
from quell.launch.proof.small_configs import write_roots
from quell.launch.runs.folder import RunFolder

WITHOUT_DEEPSPEED = not all(importlib.util.find_spec(name) for name in ("deepspeed", "transformers"))

Start = Callable[..., tuple[Ended, Path]]


def prove(kind: str, file: Path) -> dict[str, dict[str, Any]]:
    """Outcomes of one kind of checks, by name; none may fail."""
    code = prove_device.main(["--only", "quickstart", "--checks", kind, "--json", str(file)])
    outcomes = {outcome["name"]: outcome for outcome in json.loads(file.read_text(encoding="utf-8"))["outcomes"]}
    assert code == 0, outcomes
    return outcomes


@pytest.mark.slow
def test_two_processes_are_proven_over_gloo(tmp_path: Path) -> None:
    outcomes = prove("processes", tmp_path / "proof.json")
    skipped = {name: outcome["found"] for name, outcome in outcomes.items() if outcome["status"] == "SKIP"}
    assert skipped == {"2 processes: one context each": "only CUDA has contexts"}
    assert "ranks alike" in outcomes["2 processes train as one does"]["found"]
    assert outcomes["2 processes: USR2 in a step"]["found"].startswith("exit codes [75, 75], a checkpoint")
    assert ", 0 left, its sentence was printed" in outcomes["2 processes: one fails"]["found"]


@pytest.mark.slow
@pytest.mark.skipif(WITHOUT_DEEPSPEED, reason="needs pip install -e '.[deepspeed]'")
@pytest.mark.timeout(1200)
def test_zero_is_proven_over_gloo(tmp_path: Path) -> None:
    (outcome,) = prove("zero", tmp_path / "proof.json").values()
    assert outcome["status"] == "PASS"


def test_the_sentence_of_out_of_memory_is_that_of_a_step(tmp_path: Path) -> None:
    checks = dict(several.checks(write_roots(tmp_path / "shards"), tmp_path))
    holds, found = checks["out of memory is one sentence"]()
    assert holds, found
    assert found.startswith("exit code 6, error: out of memory on cpu") and "1 EiB asked for" in found


def pretend(folder: Path, runs: dict[int, tuple[float, float]], digests: list[str]) -> Start:
    """What starts trainings, for runs that have ended: number of processes -> a weight and a gradient norm."""

    def start(event: str, count: int, *_: str) -> tuple[Ended, Path]:
        run, reports = folder / f"{event}-{count}-run", folder / f"{event}-{count}"
        weight, norm = runs[count]
        checkpoint = run / "checkpoints" / folder_name(several.STEPS)
        for made in (checkpoint, reports):
            made.mkdir(parents=True)
        save_file({"w": torch.tensor([weight])}, checkpoint / "weights.safetensors")
        RunFolder(run).metrics_file.write_text(json.dumps({"event": "train", "grad_norm_a": norm}) + "\n")
        for number, text in enumerate(digests[:count]):
            (reports / f"{number}.json").write_text(json.dumps({"weights": text}))
        return Ended(0, "", 1.0), run

    return start


@pytest.mark.parametrize(
    ("two", "digests", "holds"),
    [
        ((1.0, 3.0), ["a", "a"], True),
        ((1.00001, 3.0), ["a", "a"], True),
        ((1.01, 3.0), ["a", "a"], False),
        ((1.0, 6.0), ["a", "a"], False),
        ((1.0, 3.0), ["a", "b"], False),
    ],
)
def test_other_weights_gradients_or_ranks_are_noticed(
    two: tuple[float, float], digests: list[str], holds: bool, tmp_path: Path
) -> None:
    start = pretend(tmp_path, {2: two, 1: (1.0, 3.0)}, digests)
    assert several.train_as_one(start, tmp_path)[0] is holds


@pytest.mark.parametrize(
    ("codes", "saved", "holds"), [([75, 75], True, True), ([75, 0], True, False), ([75, 75], False, False)]
)
def test_a_rank_that_does_not_stop_or_save_is_noticed(
    codes: list[int], saved: bool, holds: bool, tmp_path: Path
) -> None:
    def start(event: str, count: int, *_: str) -> tuple[Ended, Path]:
        run, reports = tmp_path / "run", tmp_path / f"{event}-{count}"
        for made in (run / "checkpoints" / folder_name(4 if saved else 1), reports):
            made.mkdir(parents=True)
        (run / "summary.json").write_text(json.dumps({"status": "stopped", "step": 4}))
        for number, code in enumerate(codes):
            (reports / f"{number}.json").write_text(json.dumps({"code": code}))
        return Ended(1, "", 1.0), run

    assert several.stopped_together(start, tmp_path)[0] is holds


@pytest.mark.parametrize(
    ("output", "left", "holds"),
    [
        (f"rank 1: error: {rank.FAILURE}", False, True),
        ("rank 0: error: lost the connection to rank 1", False, False),
        (f"rank 1: error: {rank.FAILURE}", True, False),
    ],
)
def test_a_rank_that_is_left_behind_or_speaks_of_another_error_is_noticed(
    output: str, left: bool, holds: bool, tmp_path: Path
) -> None:
    def start(event: str, count: int, *_: str) -> tuple[Ended, Path]:
        reports = tmp_path / f"{event}-{count}"
        reports.mkdir()
        if left:
            (reports / "0.json").write_text(json.dumps({"pid": os.getpid()}))
        return Ended(1, output, 1.0), tmp_path

    assert several.fail_together(start, tmp_path)[0] is holds


def test_contexts_are_counted_beside_those_of_other_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "default_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(devices, "module_of", lambda _: SimpleNamespace(device_count=lambda: 2))
    monkeypatch.setattr(rank, "contexts", lambda: ["7, GPU-a"])
    reports = tmp_path / "nothing-2"
    reports.mkdir()
    for expected, seen in ((True, ["8, GPU-a", "9, GPU-b"]), (False, ["8, GPU-a", "9, GPU-a", "9, GPU-b"])):
        (reports / "0.json").write_text(json.dumps({"contexts": ["7, GPU-a", *seen]}))
        assert several.one_context_each(tmp_path)[0] is expected


def test_one_gpu_is_the_reason_for_skipping_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "default_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(devices, "module_of", lambda _: SimpleNamespace(device_count=lambda: 1))
    with pytest.raises(SkippedError, match="one GPU, and NCCL wants one for each of 2 processes"):
        several.train_as_one(None, tmp_path)


def test_what_deepspeed_lacks_is_the_reason_for_skipping_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SkippedError, match="deepspeed and transformers not installed"):
        sharding.moved({}, tmp_path)


def test_a_command_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "TIMEOUT_S", 5.0)
    file = tmp_path / "pid"
    script = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with pytest.raises(TimeoutError, match="not finished after 5 s"):
        processes.run("-c", script)
    if not file.exists():  # on a machine so busy that Python had not started, there is nothing to look for
        return
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)
