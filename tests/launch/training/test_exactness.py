"""An interrupted run equals an uninterrupted one bit for bit; the number of processes does not change the result."""

import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from quell.launch import train
from tests.support.commands import Command
from tests.support.runs import checkpoint_of, read_events, read_summary, read_weights, same_bits
from tests.support.small_runs import SMALL_CONFIG
from tests.support.train_each import Job, WorkerPair, train_each, training_output

pytestmark = [pytest.mark.xdist_group("pair"), pytest.mark.timeout(900)]

KILL_DURING_SAVE = """
import os, signal, sys
sys.path[0] = {root!r}
from quell.launch import train
from quell.launch.checkpoints import store
publish = store.publish
def killed_publish(hidden, meta):
    if meta["step"] == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    return publish(hidden, meta)
store.publish = killed_publish
sys.exit(train.main(sys.argv[1:]))
"""

SIGNAL_WHILE_TRAINING = """
import os, signal, sys
sys.path[0] = {root!r}
from quell.launch import train
from quell.launch.training import loop
train_step = loop.train_step
def signalled_step(phases, pipeline, step, *arguments):
    if step == {step}:
        os.kill(os.getpid(), signal.SIGUSR1)
    return train_step(phases, pipeline, step, *arguments)
loop.train_step = signalled_step
sys.exit(train.main(sys.argv[1:]))
"""

SGD = ["optimizer.name=sgd", "optimizer.lr=0.01"]


@pytest.fixture(scope="module")
def arguments(mini: Path) -> list[str]:
    return [
        "--config",
        SMALL_CONFIG,
        f"data.root={mini}",
        "loop.max_steps=10",
        "checkpoint.every_steps=5",
        "evaluation.every_epochs=null",
        "loop.ema_decay=0.9",
    ]


@pytest.fixture(scope="module")
def uninterrupted(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ten steps in one process."""
    run = tmp_path_factory.mktemp("uninterrupted")
    assert train.main([*arguments, "--run-dir", str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def two_ranks(arguments: list[str], worker_pair: WorkerPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs in two processes: `sgd`, and `adamw` with the settings of `uninterrupted`."""
    folder = tmp_path_factory.mktemp("two")
    jobs = [
        Job([*arguments, *SGD], folder / "sgd", save_rank_weights=True),
        Job([*arguments, "checkpoint.keep_last=5"], folder / "adamw"),
    ]
    train_each(jobs, worker_pair)
    for name in ("sgd", "adamw"):
        assert training_output(folder / name, processes=2)
    return folder


def test_a_run_killed_and_resumed_at_step_five_equals_ten_uninterrupted_steps(
    uninterrupted: Path, arguments: list[str], command: Command, root: Path, tmp_path: Path
) -> None:
    """SIGKILL arrives while the second checkpoint is written, so the run resumes from the first."""
    script = tmp_path / "killed.py"
    script.write_text(KILL_DURING_SAVE.format(root=str(root), step=10))
    run = tmp_path / "run"
    command([sys.executable, script, *arguments, "--run-dir", run], code=-signal.SIGKILL)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [".step-00000010", "step-00000005"]
    finished = command([sys.executable, "launch/train.py", *arguments, "--run-dir", run])
    assert "at step 5 of 10" in finished.output
    for name in ("weights", "ema"):
        assert same_bits(read_weights(run, 10, name), read_weights(uninterrupted, 10, name))
    assert not list((run / "checkpoints").glob(".step-*"))

    def losses(run: Path) -> list[tuple[int, float]]:
        return [(event["step"], event["loss_denoiser"]) for event in read_events(run, "train")]

    # No step is missing or logged twice. The interval in which the run was killed is averaged from step 5 on only, so
    # that the losses in between differ.
    assert [step for step, _ in losses(run)] == [step for step, _ in losses(uninterrupted)]
    assert losses(run)[-1] == losses(uninterrupted)[-1]


def test_a_run_stopped_by_a_signal_resumes_bit_for_bit(
    uninterrupted: Path, arguments: list[str], command: Command, root: Path, tmp_path: Path
) -> None:
    script = tmp_path / "signalled.py"
    script.write_text(SIGNAL_WHILE_TRAINING.format(root=str(root), step=3))
    run = tmp_path / "run"
    stopped = command([sys.executable, script, *arguments, "checkpoint.every_steps=null", "--run-dir", run], code=75)
    assert "stopped by SIGUSR1 with a checkpoint" in stopped.output
    summary = read_summary(run)
    assert (summary["status"], summary["step"]) == ("stopped", 4)
    assert train.main([*arguments, "--run-dir", str(run)]) == 0
    assert same_bits(read_weights(run, 10), read_weights(uninterrupted, 10))


def test_two_processes_or_accumulation_train_the_same_weights_as_one_process(
    two_ranks: Path, arguments: list[str], tmp_path: Path
) -> None:
    """Two ranks with 4 images each, one with 8, and one with 4 times 2; SGD, whose steps are linear in the gradient."""
    plain, two, accumulated = tmp_path / "plain", two_ranks / "sgd", tmp_path / "accumulated"
    assert train.main([*arguments, *SGD, "--run-dir", str(plain)]) == 0
    assert train.main([*arguments, *SGD, "loop.accumulate=4", "--run-dir", str(accumulated)]) == 0
    ranks = [load_file(two / f"rank-{rank}-weights.safetensors") for rank in (0, 1)]
    assert same_bits(*ranks) and same_bits(ranks[0], read_weights(two, 10))
    assert read_events(two, "start")[0]["world"] == 2
    for name, value in read_weights(plain, 10).items():
        torch.testing.assert_close(read_weights(two, 10)[name], value, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(read_weights(accumulated, 10)[name], value, rtol=1e-4, atol=1e-6)
    for a, b in zip(read_events(plain, "eval"), read_events(two, "eval"), strict=True):
        assert a["psnr"] == pytest.approx(b["psnr"], abs=1e-3)
    rows = {(run, event["step"]) for run in (plain, two) for event in read_events(run, "train")}
    assert len(rows) == 10


def test_a_run_resumed_with_another_world_size_sees_the_same_samples(
    uninterrupted: Path, two_ranks: Path, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(two_ranks / "adamw", run)
    checkpoint_of(run, 10).rename(tmp_path / "two")
    (run / "summary.json").unlink()
    assert train.main([*arguments, "--run-dir", str(run)]) == 0
    assert "written by 2 processes, now there are 1: the same samples follow" in capsys.readouterr().out
    by_one, by_two = read_weights(run, 10), load_file(tmp_path / "two" / "weights.safetensors")
    for name, value in by_two.items():
        torch.testing.assert_close(by_one[name], value, rtol=1e-2, atol=5e-3)  # AdamW amplifies rounding errors
    for a, b in zip(read_events(run, "train")[-2:], read_events(uninterrupted, "train")[-2:], strict=True):
        assert a["loss_denoiser"] == pytest.approx(b["loss_denoiser"], rel=1e-3)


def test_a_finished_run_is_left_unchanged(
    uninterrupted: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (uninterrupted / "metrics.jsonl").read_bytes()
    assert train.main([*arguments, "--run-dir", str(uninterrupted)]) == 0
    assert "is finished (step 10): nothing to do" in capsys.readouterr().out
    assert (uninterrupted / "metrics.jsonl").read_bytes() == before


def test_resuming_with_another_configuration_is_refused(
    uninterrupted: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = train.main([*arguments, "loop.max_steps=20", "optimizer.lr=7e-4", "--run-dir", str(uninterrupted)])
    error = capsys.readouterr().err
    assert code == 5 and len(error.splitlines()) == 1
    assert "was written with another configuration: optimizer.lr was 0.0015 and is 0.0007" in error
