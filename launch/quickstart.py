"""From nothing to a trained model, a table, a picture and a page: what `make train` runs after installing.

`python -m launch.quickstart` trains on phantom knees; with `--data DIR` (a folder with a multi-echo knee as
`*.npz`) on two echoes of that knee.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from quell.configs.errors import DataError, QuellError
from quell.configs.locations import run_folder
from quell.configs.support import logs
from quell.configs.support.arguments import CommandParser
from quell.configs.support.paths import ROOT, base, child_environment, import_folder
from quell.launch import cli

log = logs.get_logger(__name__)

CONFIG = "configs/quickstart.yaml"
PHANTOM = ["phantom", "--size", "128", "--sigma", "0.1", "--train", "256", "--val", "16", "--test", "24"]

# every choice is spelled out, so that a configuration that the user made for accelerate does not interfere
ACCELERATE = ["-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no"]


def main(arguments: list[str] | None = None) -> int:
    """Build shards, train, compare with the noisy images and NLM, and show it all on one page."""
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", help="folder with a multi-echo knee (*.npz) instead of the phantom")
    parser.add_argument("--run-dir", metavar="DIR", help="run folder (default: runs/quickstart)")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="changes to configs/quickstart.yaml")
    options = cli.parse(parser, arguments)
    return cli.run(lambda: quickstart(options))


def quickstart(options: argparse.Namespace) -> int:
    """Run the four steps; return 0, or raise with the exit code of the first that fails."""
    name = "quickstart" if options.data is None else "quickstart_knee"
    shards = base() / "runs" / "data" / ("phantom" if options.data is None else "knee")
    run_dir = run_folder(options.run_dir or f"runs/{name}")
    source = PHANTOM if options.data is None else ["knee_mese", "--input", str(knee_folder(Path(options.data)))]
    train = [str(ROOT / "launch" / "train.py"), "--config", CONFIG, "--run-dir", str(run_dir), f"data.root={shards}"]
    evaluate = [str(ROOT / "launch" / "evaluate.py"), "--run", str(run_dir), "--baseline", "noisy", "--baseline", "nlm"]
    if not all((shards / split / "index.json").is_file() for split in ("train", "val", "test")):
        run_step("1/4 shards", ["-m", "quell.shards.build", *source, "--output", str(shards)])
    run_step("2/4 training", [*ACCELERATE, *train, *options.overrides])
    run_step("3/4 evaluation", [*evaluate, "--pictures", "1", "--output", str(run_dir / "report.json")])
    run_step("4/4 page", ["-m", "quell.launch.run_report.command", str(run_dir)])
    print(
        f"\ntable    {run_dir / 'report.md'}\npicture  {run_dir / 'report.png'}\npage     {run_dir / 'report.html'}\n"
        f"curves   tensorboard --logdir {run_dir.parent}"
    )
    return 0


def knee_folder(path: Path) -> Path:
    """The absolute path of the folder with the knee; DataError where it holds none."""
    if not list(path.glob("*.npz")):
        raise DataError(
            f"no *.npz knee in {path.resolve()}: give the folder of a multi-echo series, e.g. "
            "DATA=../shared/data/knee_mese"
        )
    return path.resolve()


def run_step(title: str, arguments: list[str]) -> None:
    """Run a Python command where relative paths start, its output shown; StepError with its code where it fails."""
    log.info(f"\n== {title}: python {' '.join(arguments)}")
    env = {**child_environment(), "PYTHONPATH": str(import_folder())}
    code = subprocess.run([sys.executable, *arguments], cwd=base(), env=env, check=False).returncode
    if code:
        raise StepError(f"{title} failed with exit code {code}; its message is above", code)


class StepError(QuellError):
    """A step failed; carries the exit code of its command."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code


if __name__ == "__main__":
    sys.exit(main())
