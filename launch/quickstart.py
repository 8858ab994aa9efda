"""From nothing to a trained model, a table and a picture: what `make train` runs after installing.

`python -m launch.quickstart` trains on phantom knees; with `--data DIR` (a folder with a multi-echo knee as
`*.npz`) on two echoes of that knee.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from configs.errors import DataError, QuellError
from configs.support.paths import ROOT, resolve
from launch.cli import run

CONFIG = "configs/quickstart.yaml"
PHANTOM = ["phantom", "--size", "128", "--sigma", "0.1", "--train", "256", "--val", "16", "--test", "24"]


def main(arguments: list[str] | None = None) -> int:
    """Build shards, train, evaluate against the noisy images and NLM, say where everything is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", help="folder with a multi-echo knee (*.npz) instead of the phantom")
    parser.add_argument("--run-dir", metavar="DIR", help="run folder; default runs/quickstart")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="changes to configs/quickstart.yaml")
    return run(lambda: quickstart(parser.parse_intermixed_args(arguments)))


def quickstart(options: argparse.Namespace) -> int:
    """The three steps; the exit code of the first that fails."""
    name = "quickstart" if options.data is None else "quickstart_knee"
    shards = ROOT / "runs" / "data" / ("phantom" if options.data is None else "knee")
    run_dir = resolve(options.run_dir or f"runs/{name}")
    source = PHANTOM if options.data is None else ["knee_mese", "--input", str(knee_folder(Path(options.data)))]
    train = [
        "launch/train.py",
        "--config",
        CONFIG,
        "--run-dir",
        str(run_dir),
        f"data.root={shards}",
        *options.overrides,
    ]
    evaluate = [
        "launch/evaluate.py",
        "--run",
        str(run_dir),
        "--baseline",
        "noisy",
        "--baseline",
        "nlm",
        "--output",
        str(run_dir / "report.json"),
    ]
    if not all((shards / split / "index.json").is_file() for split in ("train", "val", "test")):
        step("1/3 shards", ["-m", "shards.build", *source, "--output", str(shards)])
    step(
        "2/3 training",
        [
            "-m",
            "accelerate.commands.launch",
            "--num_processes",
            "1",
            "--num_machines",
            "1",
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
            *train,
        ],
    )
    step("3/3 evaluation", evaluate)
    print(
        f"\ntable    {run_dir / 'report.md'}\npicture  {run_dir / 'report.png'}\n"
        f"curves   tensorboard --logdir {run_dir.parent}"
    )
    return 0


def knee_folder(path: Path) -> Path:
    """The folder with the knee, DataError when there is none in it."""
    if not list(path.glob("*.npz")):
        raise DataError(
            f"no *.npz knee in {path.resolve()}: give the folder of a multi-echo series, e.g. "
            "DATA=../shared/data/knee_mese"
        )
    return path.resolve()


def step(title: str, words: list[str]) -> None:
    """Run one Python command from the project's root, its output shown; StepFailed with its code when it fails."""
    print(f"\n== {title}: python {' '.join(words)}", flush=True)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = subprocess.run([sys.executable, *words], cwd=ROOT, env=env, check=False).returncode
    if code:
        raise StepFailed(f"{title} ended with exit code {code}; its message is above", code)


class StepFailed(QuellError):
    """A step that ended with an exit code of its own."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code


if __name__ == "__main__":
    sys.exit(main())
