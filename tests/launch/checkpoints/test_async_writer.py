"""Checkpoints written by a background thread: they contain the state at the save, and errors are raised."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from quell.configs.errors import MachineError
from quell.launch.checkpoints import store
from quell.launch.checkpoints.async_writer import AsyncWriter, wait_for_files
from quell.launch.checkpoints.layout import complete
from quell.launch.training import run
from tests.support.runs import checkpoint_of, read_events, read_summary, read_weights, same_bits
from tests.support.small_runs import SmallRun


def test_writing_does_not_block_the_caller_and_its_end_is_noticed() -> None:
    writer, may_finish = AsyncWriter(), threading.Event()
    done: list[str] = []

    def write() -> None:
        may_finish.wait()

    writer.start(write, lambda: done.append("done"), wait=False)
    writer.poll()
    assert done == []
    may_finish.set()
    writer.finish()
    assert done == ["done"]
    writer.start(lambda: None, lambda: done.append("waited"), wait=True)
    assert done == ["done", "waited"]


def test_an_error_in_the_thread_is_raised_at_the_next_save_or_at_the_end() -> None:
    def fail() -> None:
        raise MachineError("disk full")

    with pytest.raises(MachineError, match="disk full"), AsyncWriter() as writer:
        writer.start(fail, lambda: pytest.fail("nothing was saved"), wait=False)
        writer.start(lambda: pytest.fail("the next write must not start"), lambda: None, wait=False)
    with pytest.raises(MachineError, match="disk full"), AsyncWriter() as writer:
        writer.start(fail, lambda: None, wait=False)


def test_a_missing_file_of_another_rank_is_named(tmp_path: Path) -> None:
    (tmp_path / "rank-0.pt").touch()
    wait_for_files([tmp_path / "rank-0.pt"], 0)
    with pytest.raises(MachineError, match=r"rank-1\.pt .* did not appear"):
        wait_for_files([tmp_path / "rank-0.pt", tmp_path / "rank-1.pt"], 0)


def test_asynchronous_and_synchronous_saves_write_the_same_checkpoints(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step is saved, and a slow disk makes each write last into the following steps."""
    publish = store.publish

    def slow_publish(hidden: Path, meta: dict[str, Any]) -> Path:
        time.sleep(0.05)
        return publish(hidden, meta)

    monkeypatch.setattr(store, "publish", slow_publish)
    for name, asynchronous in (("asynchronous", "true"), ("synchronous", "false")):
        config = small_run(
            "loop.max_steps=4",
            "checkpoint.every_steps=1",
            "checkpoint.keep_last=9",
            f"checkpoint.asynchronous={asynchronous}",
            "evaluation.every_epochs=null",
        )
        assert run.train(config, tmp_path / name) == 0
    run_dirs = [tmp_path / name for name in ("asynchronous", "synchronous")]
    for step in range(1, 5):
        for name in ("weights", "ema"):
            assert same_bits(*(read_weights(run_dir, step, name) for run_dir in run_dirs))
        states = [torch.load(checkpoint_of(run_dir, step) / "state.pt", weights_only=True) for run_dir in run_dirs]
        moments = [state["optimizers"]["denoiser"]["state"] for state in states]
        assert all(torch.equal(moments[0][i]["exp_avg"], moments[1][i]["exp_avg"]) for i in moments[1])
    assert [event["step"] for event in read_events(tmp_path / "asynchronous", "checkpoint")] == [1, 2, 3, 4]


def test_a_full_disk_ends_the_run_and_keeps_the_last_checkpoint(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = store.write_weights

    def write_to_a_full_disk(hidden: Path, *arguments: Any) -> None:
        if hidden.name.endswith("2"):
            raise MachineError("cannot write the checkpoint (no space left)")
        write(hidden, *arguments)

    monkeypatch.setattr(store, "write_weights", write_to_a_full_disk)
    config = small_run("loop.max_steps=4", "checkpoint.every_steps=1", "checkpoint.keep_last=9")
    with pytest.raises(MachineError, match="no space left"):
        run.train(config, tmp_path / "run")
    assert [path.name for path in complete(tmp_path / "run" / "checkpoints")] == ["step-00000001"]
    assert read_summary(tmp_path / "run")["status"] == "failed"


def test_the_run_folder_contains_a_profile_and_the_speed(small_run: SmallRun, tmp_path: Path) -> None:
    config = small_run("loop.max_steps=6", "profile.steps=[2,4]", "evaluation.every_epochs=null")
    assert run.train(config, tmp_path / "run") == 0
    (trace,) = (tmp_path / "run" / "tensorboard").glob("rank0*.pt.trace.json")
    events = json.loads(trace.read_text())["traceEvents"]
    steps = {event["name"] for event in events if event.get("name", "").startswith("ProfilerStep")}
    assert steps == {"ProfilerStep#2", "ProfilerStep#3"}
    bench = read_summary(tmp_path / "run")["bench"]
    assert bench["images_per_s"] > 0 and bench["step_ms"] > 0 and 0 <= bench["data_wait"] <= 1
