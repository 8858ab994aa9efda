"""Series of runs: real processes, failures, resuming an interrupted series, and signals."""

import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from quell.configs import loader
from quell.configs.errors import EXIT_REQUEUE
from quell.configs.support import child_process
from quell.configs.support.paths import ROOT
from quell.launch import experiments
from quell.launch.studies.experiment import Experiment
from tests.support.small_runs import SMALL_CONFIG

ONE_STEP = ["loop.max_steps=1", "evaluation.limit=2"]

pytestmark = pytest.mark.xdist_group("experiments")


@pytest.fixture(scope="module")
def configs(mini: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`good.yaml` on the mini shards and `broken.yaml` on data that does not exist."""
    folder = tmp_path_factory.mktemp("configs")
    for name, data in (("good", mini), ("broken", folder / "nothing")):
        config = loader.load(root / SMALL_CONFIG, [f"data.root={data}", f"name={name}"])
        (folder / f"{name}.yaml").write_text(loader.dump(config))
    return folder


@pytest.fixture(scope="module")
def finished(configs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Run both configurations, the broken one first; returns the folder and the exit code."""
    output = tmp_path_factory.mktemp("experiments")
    code = experiments.main(
        [
            "--configs",
            f"{configs}/broken.yaml",
            f"{configs}/good.yaml",
            "--output",
            str(output),
            "--continue-on-error",
            *ONE_STEP,
        ]
    )
    return output, code


def test_a_failure_sets_the_exit_code_and_the_other_runs_are_still_compared(finished: tuple[Path, int]) -> None:
    output, code = finished
    assert code == 4
    text = (output / "results.md").read_text()
    assert "| good |" in text
    header = next(line for line in text.splitlines() if line.startswith("| experiment"))
    for column in (
        "cross start",
        "cross end",
        "floor",
        "cross/floor",
        "collapse",
        "leak source",
        "PSNR cross path",
        "PSNR same path",
        "PSNR noisy",
        "PSNR NLM",
        "minutes",
    ):
        assert f"| {column} |" in header + " |", column
    assert (output / "results.csv").is_file()
    assert (output / "results.png").is_file()


def test_finished_runs_are_not_run_again(
    finished: tuple[Path, int], configs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output, _ = finished
    before = {file: file.stat().st_mtime_ns for file in (output / "good").iterdir() if file.is_file()}
    assert experiments.main(["--configs", f"{configs}/good.yaml", *ONE_STEP, "--output", str(output)]) == 0
    assert "good: finished before" in capfd.readouterr().out
    assert before == {file: file.stat().st_mtime_ns for file in (output / "good").iterdir() if file.is_file()}


def test_runs_that_are_unfinished_or_have_changed_are_run(finished: tuple[Path, int], configs: Path) -> None:
    output, _ = finished
    options = ["--configs", f"{configs}/good.yaml", "--output", str(output)]
    (changed,) = plan([*options, "loop.max_steps=2", "evaluation.limit=2"])
    assert not changed.is_trained()
    (unchanged,) = plan([*options, *ONE_STEP])
    assert unchanged.is_trained()
    assert unchanged.is_evaluated()
    summary, report = (output / "good" / name for name in ("summary.json", "report.json"))
    os.utime(summary, ns=(report.stat().st_mtime_ns + 10**9,) * 2)
    assert not unchanged.is_evaluated()
    os.utime(report, ns=(summary.stat().st_mtime_ns,) * 2)
    assert unchanged.is_evaluated()


def test_a_failure_stops_the_series(configs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = [f"{configs}/broken.yaml", f"{configs}/good.yaml"]
    assert experiments.main(["--configs", *files, "--output", str(tmp_path)]) == 4
    assert "broken: train.py ended with exit code 4" in capfd.readouterr().err
    assert not (tmp_path / "good").exists()


def test_summary_compares_finished_runs_without_training(
    finished: tuple[Path, int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output, _ = finished
    assert experiments.main(["--summary", "--output", str(output)]) == 0
    assert "| good |" in capsys.readouterr().out
    assert experiments.main(["--summary", "--output", str(tmp_path)]) == 6


def plan(arguments: list[str]) -> list[Experiment]:
    """The experiments that a command line would run."""
    planned: list[list[Experiment]] = []

    def record(runs: list[Experiment], **options: object) -> int:
        planned.append(runs)
        return EXIT_REQUEUE  # main() then compares nothing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "run_all", record)
        experiments.main(arguments)
    return planned[0]


def test_options_select_the_documented_configurations(
    capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path
) -> None:
    def commands(*arguments: str) -> list[str]:
        assert experiments.main([*arguments, "--dry-run", "--output", str(tmp_path / "out")]) == 0
        return capsys.readouterr().out.splitlines()

    assert len(commands("--cross-domain")) == 2 * 5
    assert len(commands("--loss-ablation")) == 2 * 7
    assert len(commands("--all", "--cross-domain")) == 2 * 12
    lines = commands("--configs", "pure_noise2noise", "data.batch_size=2", "--epochs", "3", "--seeds", "1", "2")
    assert len(lines) == 4
    words = shlex.split(lines[2])
    assert words[1:] == [
        str(root / "launch" / "train.py"),
        "--config",
        str(root / "configs" / "pure_noise2noise.yaml"),
        "data.batch_size=2",
        "loop.epochs=3",
        "seed=2",
        "--run-dir",
        str(tmp_path / "out" / "pure_noise2noise-seed2"),
        "--resume",
        "auto",
    ]
    assert not (tmp_path / "out").exists()


def test_a_study_runs_its_rows_with_their_seeds_and_overrides(tmp_path: Path, configs: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        f"set: [seed=7, data.batch_size=2]\nbaselines: [noisy]\nruns:\n"
        f"  a: {{config: {configs}/good.yaml, seeds: [1, 2]}}\n"
        f"  b: {{config: {configs}/good.yaml, set: [data.batch_size=4]}}\n"
    )
    runs = plan(["--study", str(study), "loop.max_steps=1"])
    assert [run.folder.relative_to(ROOT).as_posix() for run in runs] == [
        "runs/studies/study/a-seed1",
        "runs/studies/study/a-seed2",
        "runs/studies/study/b-seed1",
    ]
    assert [(run.config.name, run.config.seed, run.config.data.batch_size) for run in runs] == [
        ("a", 1, 2),
        ("a", 2, 2),
        ("b", 1, 4),
    ]
    assert runs[0].commands(1)["evaluate.py"].count("--baseline") == 1
    (row,) = plan(["--study", str(study), "--only", "b", "--seeds", "3", "--output", str(tmp_path)])
    assert row.folder == tmp_path / "b-seed3" and row.config.loop.max_steps != 1


def test_a_second_stage_runs_after_the_first_and_starts_from_its_folder(tmp_path: Path) -> None:
    names = ["progressive_training_stage2", "progressive_training"]
    first, second = plan(["--configs", *names, "--output", str(tmp_path)])
    assert (first.folder.name, second.folder.name) == ("progressive_training", "progressive_training_stage2")
    assert second.config.init_from is not None
    assert second.config.init_from.run == str(first.folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to run"),
        (["--configs", "pure_nose2noise"], "did you mean 'pure_noise2noise'"),
        (["--cross-domain", "pipeline.latnt_channels=4"], "did you mean 'latent_channels'"),
        (["--study", "gided"], "did you mean 'guided'"),
        (["--only", "own"], "also give --study NAME"),
        (["--configs", "quickstart", "r2r", "name=same"], "two configurations would run in"),
    ],
)
def test_errors_are_reported_before_anything_runs(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert experiments.main([*arguments, "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_signal_is_forwarded_to_the_run_and_its_exit_code_is_returned(tmp_path: Path) -> None:
    ready, handler = tmp_path / "ready", signal.getsignal(signal.SIGTERM)
    program = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        f"pathlib.Path({str(ready)!r}).touch()\ntime.sleep(600)"
    )

    def send_signal() -> None:
        while not ready.exists() or signal.getsignal(signal.SIGTERM) == handler:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=send_signal)
    thread.start()
    assert child_process.run([sys.executable, "-c", program]) == 75
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == handler
    assert child_process.run([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]) == 137
