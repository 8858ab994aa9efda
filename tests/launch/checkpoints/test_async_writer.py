"""Checkpoints written beside training: they hold the moment of the save, errors surface, nothing is half there."""

import json
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from configs.errors import MachineError
from launch.checkpoints import store
from launch.checkpoints.async_writer import AsyncWriter, snapshot, wait_for_files
from launch.training import run
from tests.support.small_runs import SmallRun


def test_a_snapshot_does_not_follow_what_comes_after() -> None:
    weight = torch.ones(3)
    state = {"weights": weight, "list": [weight, 1], "pair": (weight, "a"), "number": 2.5}
    copy = snapshot(state)
    weight.add_(1)
    assert torch.equal(copy["weights"], torch.ones(3)) and torch.equal(copy["list"][0], torch.ones(3))
    assert torch.equal(copy["pair"][0], torch.ones(3)) and copy["pair"][1] == "a" and copy["number"] == 2.5


def test_writing_does_not_hold_the_caller_and_its_end_is_noticed() -> None:
    writer, go, done = AsyncWriter(), threading.Event(), []
    writer.start(go.wait, lambda: done.append("done"), wait=False)
    writer.poll()
    assert done == []
    go.set()
    writer.finish()
    assert done == ["done"]
    writer.start(lambda: None, lambda: done.append("waited"), wait=True)
    assert done == ["done", "waited"]


def test_an_error_of_the_thread_is_raised_at_the_next_save_or_the_end() -> None:
    def fail() -> None:
        raise MachineError("disk full")

    with pytest.raises(MachineError, match="disk full"), AsyncWriter() as writer:
        writer.start(fail, lambda: pytest.fail("nothing was saved"), wait=False)
        writer.start(lambda: pytest.fail("the next write must not begin"), lambda: None, wait=False)
    with pytest.raises(MachineError, match="disk full"), AsyncWriter() as writer:
        writer.start(fail, lambda: None, wait=False)


def test_a_rank_that_does_not_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "rank-0.pt").touch()
    wait_for_files([tmp_path / "rank-0.pt"], 0)
    with pytest.raises(MachineError, match=r"rank-1\.pt .* did not appear"):
        wait_for_files([tmp_path / "rank-0.pt", tmp_path / "rank-1.pt"], 0)


def test_both_ways_of_saving_leave_the_same_checkpoints(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step saved, while a slow disk makes each write last over the following steps."""
    publish = store.publish

    def slow(hidden: Path, meta: dict) -> Path:
        time.sleep(0.05)
        return publish(hidden, meta)

    monkeypatch.setattr(store, "publish", slow)
    for name, asynchronous in (("beside", "true"), ("waiting", "false")):
        config = small_run(
            "loop.max_steps=4",
            "checkpoint.every_steps=1",
            "checkpoint.keep_last=9",
            f"checkpoint.asynchronous={asynchronous}",
            "evaluation.every_epochs=null",
        )
        assert run.train(config, tmp_path / name) == 0
    for step in range(1, 5):
        folders = [tmp_path / name / "checkpoints" / f"step-{step:08d}" for name in ("beside", "waiting")]
        for file in ("weights", "ema"):
            one, other = (load_file(folder / f"{file}.safetensors") for folder in folders)
            assert all(torch.equal(one[key], other[key]) for key in other)
        one, other = (torch.load(folder / "state.pt", weights_only=True) for folder in folders)
        moments = [state["optimizers"]["denoiser"]["state"] for state in (one, other)]
        assert all(torch.equal(moments[0][i]["exp_avg"], moments[1][i]["exp_avg"]) for i in moments[1])
    lines = [json.loads(line) for line in (tmp_path / "beside" / "metrics.jsonl").read_text().splitlines()]
    assert [e["step"] for e in lines if e["event"] == "checkpoint"] == [1, 2, 3, 4]


def test_a_full_disk_ends_the_run_and_leaves_the_last_checkpoint(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = store.write_weights

    def full(hidden: Path, *arguments) -> None:
        if hidden.name.endswith("2"):
            raise MachineError("cannot write the checkpoint (no space left)")
        write(hidden, *arguments)

    monkeypatch.setattr(store, "write_weights", full)
    config = small_run("loop.max_steps=4", "checkpoint.every_steps=1", "checkpoint.keep_last=9")
    with pytest.raises(MachineError, match="no space left"):
        run.train(config, tmp_path / "run")
    assert [path.name for path in store.complete(tmp_path / "run" / "checkpoints")] == ["step-00000001"]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"


def test_a_profile_and_the_speed_are_left_in_the_run_folder(small_run: SmallRun, tmp_path: Path) -> None:
    config = small_run("loop.max_steps=6", "profile.steps=[2,4]", "evaluation.every_epochs=null")
    assert run.train(config, tmp_path / "run") == 0
    (trace,) = (tmp_path / "run" / "tensorboard").glob("rank0*.pt.trace.json")
    events = json.loads(trace.read_text())["traceEvents"]
    steps = {event["name"] for event in events if event.get("name", "").startswith("ProfilerStep")}
    assert steps == {"ProfilerStep#2", "ProfilerStep#3"}
    bench = json.loads((tmp_path / "run" / "summary.json").read_text())["bench"]
    assert bench["images_per_s"] > 0 and bench["step_ms"] > 0 and 0 <= bench["data_wait"] <= 1
