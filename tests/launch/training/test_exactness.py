"""Exactness: interrupted equals uninterrupted bit for bit, and the number of processes changes nothing."""

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from launch import train
from tests.launch.conftest import SMALL
from tests.support.train_each import Item, Pair, said, train_each

pytestmark = [pytest.mark.xdist_group("pair"), pytest.mark.timeout(900)]

KILL_DURING_SAVE = """
import os, signal, sys
sys.path[0] = {root!r}
from launch import train
from launch.checkpoints import store
publish = store.publish
def killed(hidden, meta):
    if meta["step"] == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    return publish(hidden, meta)
store.publish = killed
sys.exit(train.main(sys.argv[1:]))
"""

SIGNAL_WHILE_TRAINING = """
import os, signal, sys
sys.path[0] = {root!r}
from launch import train
from launch.training import loop
step_of = loop.train_step
def with_a_signal(phases, pipeline, step, *others):
    if step == {step}:
        os.kill(os.getpid(), signal.SIGUSR1)
    return step_of(phases, pipeline, step, *others)
loop.train_step = with_a_signal
sys.exit(train.main(sys.argv[1:]))
"""

SGD = ["optimizer.name=sgd", "optimizer.lr=0.01"]


@pytest.fixture(scope="module")
def arguments(mini: Path) -> list[str]:
    return [
        "--config",
        SMALL,
        f"data.root={mini}",
        "loop.max_steps=10",
        "checkpoint.every_steps=5",
        "evaluation.every_epochs=null",
        "loop.ema_decay=0.9",
    ]


@pytest.fixture(scope="module")
def straight(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run nobody interrupts."""
    run = tmp_path_factory.mktemp("straight")
    assert train.main([*arguments, "--run-dir", str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def two_ranks(arguments: list[str], pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs by two processes: `sgd`, and `adamw` as `straight` has it."""
    folder = tmp_path_factory.mktemp("two")
    items = [
        Item([*arguments, *SGD], folder / "sgd", compare=True),
        Item([*arguments, "checkpoint.keep_last=5"], folder / "adamw"),
    ]
    train_each(items, pair)
    for name in ("sgd", "adamw"):
        assert said(folder / name, processes=2)
    return folder


def weights(run: Path, name: str = "weights", step: int = 10) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:08d}" / f"{name}.safetensors")


def events(run: Path, kind: str) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_five_steps_killed_and_resumed_equal_ten(
    straight: Path, arguments: list[str], command, root: Path, tmp_path: Path
) -> None:
    """kill -9 in the middle of writing the second checkpoint: the first one is there, and the rest is bit-equal."""
    script = tmp_path / "killed.py"
    script.write_text(KILL_DURING_SAVE.format(root=str(root), step=10))
    run = tmp_path / "run"
    command([sys.executable, script, *arguments, "--run-dir", run], code=-signal.SIGKILL)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == [".step-00000010", "step-00000005"]
    finished = command([sys.executable, "launch/train.py", *arguments, "--run-dir", run])
    assert "at step 5 of 10" in finished.output
    assert same_bits(weights(run), weights(straight))
    assert same_bits(weights(run, "ema"), weights(straight, "ema"))
    assert not list((run / "checkpoints").glob(".step-*"))

    def losses(run: Path) -> list[tuple[int, float]]:
        return [(event["step"], event["loss_denoiser"]) for event in events(run, "train")]

    # the log has neither gap nor repetition; means of the logging interval that was cut begin anew at step 5
    assert [step for step, _ in losses(run)] == [step for step, _ in losses(straight)]
    assert losses(run)[-1] == losses(straight)[-1]


def test_a_signal_stops_with_a_checkpoint_and_the_rest_is_bit_equal(
    straight: Path, arguments: list[str], command, root: Path, tmp_path: Path
) -> None:
    script = tmp_path / "signalled.py"
    script.write_text(SIGNAL_WHILE_TRAINING.format(root=str(root), step=3))
    run = tmp_path / "run"
    stopped = command([sys.executable, script, *arguments, "checkpoint.every_steps=null", "--run-dir", run], code=75)
    assert "stopped by SIGUSR1 with a checkpoint" in stopped.output
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("stopped", 4)
    assert train.main([*arguments, "--run-dir", str(run)]) == 0
    assert same_bits(weights(run), weights(straight))


def test_two_processes_and_accumulation_learn_what_one_learns(
    two_ranks: Path, arguments: list[str], tmp_path: Path
) -> None:
    """2 x 4 = 1 x 8 = 4 accumulated twos with plain SGD, whose steps are linear in the gradient; ranks are equal."""
    one, two, four = tmp_path / "one", two_ranks / "sgd", tmp_path / "four"
    assert train.main([*arguments, *SGD, "--run-dir", str(one)]) == 0
    assert train.main([*arguments, *SGD, "loop.accumulate=4", "--run-dir", str(four)]) == 0
    ranks = [load_file(two / f"learned-{rank}.safetensors") for rank in (0, 1)]
    assert same_bits(*ranks) and same_bits(ranks[0], weights(two))
    assert events(two, "start")[0]["world"] == 2
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(two)[name], value, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(weights(four)[name], value, rtol=1e-4, atol=1e-6)
    for a, b in zip(events(one, "eval"), events(two, "eval"), strict=True):
        assert a["psnr"] == pytest.approx(b["psnr"], abs=1e-3)
    rows = {(run, e["step"]) for run in (one, two) for e in events(run, "train")}
    assert len(rows) == 10


def test_a_changed_world_continues_with_the_same_samples(
    straight: Path, two_ranks: Path, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(two_ranks / "adamw", run)
    second = run / "checkpoints" / "step-00000010"
    second.rename(tmp_path / "two")
    (run / "summary.json").unlink()
    assert train.main([*arguments, "--run-dir", str(run)]) == 0
    assert "written by 2 processes, now there are 1: the same samples follow" in capsys.readouterr().out
    again, before = weights(run), load_file(tmp_path / "two" / "weights.safetensors")
    for name, value in before.items():
        torch.testing.assert_close(again[name], value, rtol=1e-2, atol=5e-3)  # adamw divides rounding by rounding
    for a, b in zip(events(run, "train")[-2:], events(straight, "train")[-2:], strict=True):
        assert a["loss_denoiser"] == pytest.approx(b["loss_denoiser"], rel=1e-3)


def test_a_finished_run_is_left_alone(straight: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = (straight / "metrics.jsonl").read_bytes()
    assert train.main([*arguments, "--run-dir", str(straight)]) == 0
    assert "is finished (step 10): nothing to do" in capsys.readouterr().out
    assert (straight / "metrics.jsonl").read_bytes() == before


def test_another_configuration_is_refused_in_one_sentence(
    straight: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = train.main([*arguments, "loop.max_steps=20", "optimizer.lr=7e-4", "--run-dir", str(straight)])
    said = capsys.readouterr().err
    assert code == 5 and len(said.splitlines()) == 1
    assert "was written with another configuration: optimizer.lr was 0.0015 and is 0.0007" in said
