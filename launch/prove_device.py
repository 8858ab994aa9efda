"""Prove that training works on this machine's device: one PASS, FAIL or SKIP line per check, then JSON.

  python -m launch.prove_device                 every configuration, for at most ten minutes
  python -m launch.prove_device --only r2r      one configuration; may be repeated
  python -m launch.prove_device --checks speed  one kind of checks; may be repeated
  python -m launch.prove_device --json FILE     write the outcomes to a file as well

The images are made up, and every configuration is made small. On a machine without a GPU the CPU is proven, as far as
it can show anything. The exit code is 1 if a check failed.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from quell.configs.errors import run_command
from quell.configs.support.arguments import CommandParser

KINDS = ("copies", "processes", "zero", "steps", "recovery", "speed")
"""The kinds of checks: what they prove is in the files of launch/proof/."""


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, make the checks, print; the exit code."""
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="a file of configs/, without .yaml")
    parser.add_argument("--seconds", type=float, default=540.0, help="no check begins after this; default 540")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the outcomes")
    parser.add_argument("--checks", action="append", choices=KINDS, help="what to prove; default all, in this order")
    options = parser.parse_args(arguments)
    return run_command(lambda: prove(options.only, options.checks, options.seconds, options.json))


def prove(only: list[str] | None, kinds: list[str] | None, seconds: float, file: Path | None) -> int:
    """Make the checks that fit into the time; 1 if one of them failed."""
    from quell.configs.errors import ConfigError
    from quell.configs.support.suggestions import did_you_mean
    from quell.launch.proof import copies, recovery, several, sharding, speed, steps
    from quell.launch.proof.outcomes import Outcome, as_json, run_checks
    from quell.launch.proof.small_configs import CONFIGS, write_roots

    names = only or list(CONFIGS)
    if unknown := [name for name in names if name not in CONFIGS]:
        raise ConfigError(f"--only {unknown[0]}: no such file in configs/; {did_you_mean(unknown[0], list(CONFIGS))}")
    facts = describe_machine()
    print("  ".join(f"{key} {value}" for key, value in facts.items()))
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        roots = write_roots(Path(folder) / "shards")
        first_of_each_method = recovery.one_of_each_method(names)
        checks = {
            "copies": copies.checks(),
            "processes": several.checks(roots, Path(folder)),
            "zero": sharding.checks(roots, Path(folder)),
            "steps": steps.checks(names, roots, Path(folder)),
            "recovery": recovery.checks(first_of_each_method, roots, Path(folder)),
            "speed": speed.checks(first_of_each_method, roots, Path(folder)),
        }
        chosen = [check for kind in KINDS if kind in (kinds or KINDS) for check in checks[kind]]
        for outcome in run_checks(chosen, seconds):
            print(outcome.line(), flush=True)
            outcomes.append(outcome)
    content = json.dumps(as_json(outcomes, facts), indent=1)
    print(content)
    if file is not None:
        file.write_text(content + "\n")
    return int(any(outcome.status == "FAIL" for outcome in outcomes))


def describe_machine() -> dict[str, Any]:
    """What the numbers depend on."""
    import torch

    from quell.launch.machine import devices

    device = devices.take_device()
    facts: dict[str, Any] = {"torch": torch.__version__, "device": devices.describe(device)}
    if device.type == "cuda":
        facts |= {
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "gpus": torch.cuda.device_count(),
        }
    return facts


if __name__ == "__main__":
    sys.exit(main())
