"""Every file in configs/accelerate starts a run; a run can be resumed under one process, DDP, and ZeRO-1, 2 and 3."""

import importlib.util
import sys
from pathlib import Path

import pytest
import yaml

from quell.launch import train
from tests.support.commands import Command
from tests.support.ports import free_ports
from tests.support.runs import read_events, read_summary, read_weights
from tests.support.small_runs import SMALL_CONFIG

FOLDER = Path("configs/accelerate")
TARGETS = ["cpu", "deepspeed_zero1", "deepspeed_zero2", "deepspeed_zero3", "multi_gpu", "multi_node", "one_gpu"]
WITHOUT_DEEPSPEED = not all(importlib.util.find_spec(name) for name in ("deepspeed", "transformers"))
needs_deepspeed = pytest.mark.skipif(WITHOUT_DEEPSPEED, reason="needs pip install -e '.[deepspeed]'")


@pytest.fixture
def arguments(mini: Path) -> list[str]:
    """The command line of a small training, without its length and run folder."""
    return [
        "launch/train.py",
        "--config",
        SMALL_CONFIG,
        f"data.root={mini}",
        "optimizer.lr=1e-3",
        "evaluation.every_epochs=null",
        "schedule.name=constant",
        "loop.ema_decay=0.9",
    ]


def launch(target: str, *words: object) -> list[object]:
    """The command that launches a script with `configs/accelerate/<target>.yaml`."""
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", FOLDER / f"{target}.yaml", *words]


def test_every_file_documents_its_command(root: Path) -> None:
    assert sorted(path.stem for path in (root / FOLDER).glob("*.yaml")) == TARGETS
    for name in TARGETS:
        text = (root / FOLDER / f"{name}.yaml").read_text()
        assert f"accelerate launch --config_file {FOLDER}/{name}.yaml" in text and "launch/train.py --config" in text
        assert yaml.safe_load(text)["num_processes"] >= 1


@pytest.mark.parametrize(("target", "processes"), [("cpu", 1), ("one_gpu", 1), ("multi_gpu", 2)])
def test_a_target_trains(target: str, processes: int, arguments: list[str], command: Command, tmp_path: Path) -> None:
    """The targets for GPUs run on CPU where the machine has none; what they say of precision is followed."""
    asked = "bf16" if target == "one_gpu" else None
    options = ["--main_process_port", free_ports(1)[0]] if processes > 1 else []
    options += ["--mixed_precision", asked] if asked else []
    result = command(launch(target, *options, *arguments, "loop.max_steps=2", "--run-dir", tmp_path / "run"))
    start = next(event for event in read_events(tmp_path / "run") if event["event"] == "start")
    assert start["world"] == processes and start["precision"] == (asked or "no")
    assert ("precision bf16 (auto: asked of accelerate launch)" in result.output) == (asked is not None)
    assert f"{processes} process{'es' if processes > 1 else ''} on cpu" in result.output


def test_two_machines_form_one_process_group(
    arguments: list[str], command: Command, root: Path, tmp_path: Path
) -> None:
    """Both are on this computer, started with the command that the file documents."""

    def machine(rank: int) -> list[object]:
        options = ["--machine_rank", rank, "--main_process_port", port]
        return launch("multi_node", *options, *arguments, "loop.max_steps=2", "--run-dir", tmp_path / "run")

    port = free_ports(1)[0]
    commands = [[str(word) for word in machine(rank)] for rank in (0, 1)]
    script = f"import subprocess as s; a = s.Popen({commands[1]!r}); b = s.call({commands[0]!r}); exit(a.wait() or b)"
    command([sys.executable, "-c", script])
    assert read_events(tmp_path / "run")[0]["world"] == 2


@needs_deepspeed
@pytest.mark.timeout(1200)
def test_a_run_can_be_resumed_on_another_target(arguments: list[str], command: Command, tmp_path: Path) -> None:
    """Three steps each under ZeRO-1, 3, 2 and in this process must equal twelve steps in this process.

    If the state of AdamW were lost, its first steps would differ by about the learning rate, 1e-3.
    """

    def train_until(run: str, steps: int, target: str | None) -> None:
        words = [f"loop.max_steps={steps}", "--run-dir", str(tmp_path / run)]
        if target is None:
            assert train.main([*arguments[1:], *words]) == 0
            return
        launcher = launch(target, "--main_process_port", free_ports(1)[0])
        command([*launcher, *arguments, *words], env={"ACCELERATE_USE_CPU": "false"})

    train_until("uninterrupted", 12, None)
    for steps, target in ((3, "deepspeed_zero1"), (6, "deepspeed_zero3"), (9, "deepspeed_zero2"), (12, None)):
        train_until("moved", steps, target)
    for name in ("weights", "ema"):
        uninterrupted, moved = (read_weights(tmp_path / run, 12, name) for run in ("uninterrupted", "moved"))
        assert uninterrupted.keys() == moved.keys()
        assert max(float((moved[k].double() - uninterrupted[k].double()).abs().max()) for k in moved) < 3e-4
    means = [read_summary(tmp_path / run)["metrics"] for run in ("uninterrupted", "moved")]
    assert means[0]["psnr"] == pytest.approx(means[1]["psnr"], abs=5e-3)
    starts = [event for event in read_events(tmp_path / "moved") if event["event"] in ("start", "resume")]
    assert [(event["step"], event["world"]) for event in starts] == [(0, 2), (3, 2), (6, 2), (9, 1)]


@needs_deepspeed
def test_several_phases_are_refused_under_deepspeed(arguments: list[str], command: Command, tmp_path: Path) -> None:
    words = [
        "launch/train.py",
        "--config",
        "configs/tcfl.yaml",
        arguments[3],
        "data.fields.noisy=pd",
        "data.fields.clean=pd_clean",
        "data.representation=magnitude",
        "data.crop=16",
        "tracking.tensorboard=false",
    ]
    launcher = launch("deepspeed_zero2", "--num_processes", 1, "--main_process_port", free_ports(1)[0])
    result = command([*launcher, *words, "--run-dir", tmp_path / "run"], code=None, env={"ACCELERATE_USE_CPU": "false"})
    assert "error: pipeline tcfl trains generator and critic in turns" in result.output
    assert "use DDP" in result.output and not list((tmp_path / "run").glob("checkpoints/*"))


def test_without_deepspeed_the_error_names_what_to_install(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert train.main([*arguments[1:], "--run-dir", str(tmp_path / "run")]) == 6
    assert "pip install -e '.[deepspeed]'" in capsys.readouterr().err
