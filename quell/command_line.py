"""The command `quell`: every script of the project by one name, from any folder."""

import os
import runpy
import sys
from pathlib import Path
from typing import NamedTuple

import quell
from quell.configs.errors import ConfigError, run_command
from quell.configs.support.paths import BASE_VARIABLE, IS_INSTALLED, ROOT
from quell.configs.support.suggestions import did_you_mean


class Command(NamedTuple):
    """A word after `quell`."""

    module: str
    """What is run, as `python -m` would."""
    help: str
    """One line for the list of commands."""


COMMANDS = {
    "quickstart": Command("quell.launch.quickstart", "build a phantom, train on it, show what came out"),
    "build": Command("quell.shards.build", "images to shards"),
    "inspect": Command("quell.shards.inspect", "what shards hold"),
    "verify": Command("quell.shards.verify", "whether shards are intact"),
    "noise": Command("quell.shards.noise", "what noise images have, and which methods suit it"),
    "batch-size": Command("quell.launch.batch_size.command", "the largest batch that fits into memory"),
    "train": Command("quell.launch.train", "train one configuration"),
    "evaluate": Command("quell.launch.evaluate", "measure a run, next to classical baselines"),
    "denoise": Command("quell.launch.denoise", "restore files with a run"),
    "export": Command("quell.launch.exporting.command", "a run as an ONNX, torch.export or TorchScript file"),
    "diagnose": Command("quell.launch.diagnose", "why a run is as it is"),
    "compare": Command("quell.launch.comparing.command", "whether the differences between evaluated runs are real"),
    "report": Command("quell.launch.run_report.command", "a run as one HTML page"),
    "average": Command("quell.launch.averaging.command", "average a run's best checkpoints, compared with the best"),
    "experiments": Command("quell.launch.experiments", "train and compare many configurations"),
    "repeat": Command("quell.launch.repeating.command", "train a run again; are the weights the same, bit for bit?"),
    "schema": Command("quell.schema.command", "the configuration as JSON schema, for editors and other programs"),
    "share": Command("quell.launch.sharing.writing.command", "a run as a folder to publish, with a model card"),
    "zoo": Command("quell.launch.zoo.command", "the models that come with Quell"),
    "submit": Command("quell.slurm.submit", "stages as dependent SLURM jobs, or here; status, logs, cancel"),
    "import": Command("quell.launch.import_weights", "weights of other programs as run folders"),
    "prove-device": Command("quell.launch.prove_device", "whether this machine's device trains as documented"),
}
"""Every command, in the order in which a newcomer meets them."""


def main() -> int:
    """Run the command that the first argument names; its exit code (configs/errors.py)."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(overview())
        return 0
    if name == "--version":
        print(f"quell {quell.__version__}")
        return 0
    if name == "--path":
        return run_command(lambda: _show_path(arguments))
    if name not in COMMANDS:
        return run_command(lambda: _refuse(name))
    if not IS_INSTALLED and Path.cwd() != ROOT:  # the scripts that some commands start would take the checkout
        os.environ.setdefault(BASE_VARIABLE, str(Path.cwd()))
    sys.argv = [f"quell {name}", *arguments]
    sys.path[0] = ""  # modules of the user's own are found in the working directory, as with python -m
    runpy.run_module(COMMANDS[name].module, run_name="__main__")
    return 0


def overview() -> str:
    """The list of commands."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items())
    return (
        f"usage: quell COMMAND ...\n\n{listed}\n\nquell COMMAND --help shows the arguments of one; quell --version the "
        "version;\nquell --path configs/accelerate/cpu.yaml where a file that comes with Quell is."
    )


def _show_path(arguments: list[str]) -> int:
    """Print where a file of the code is, for programs that do not look for it there."""
    if len(arguments) != 1:
        raise ConfigError("--path takes the name of one file, such as configs/accelerate/cpu.yaml")
    path = ROOT / arguments[0]
    if not path.is_file():
        raise ConfigError(
            f"--path: no file {arguments[0]} comes with Quell; those of launch targets are in configs/accelerate/"
        )
    print(path)
    return 0


def _refuse(name: str) -> int:
    raise ConfigError(f"no command '{name}'; {did_you_mean(name, list(COMMANDS))}; quell --help lists all")
