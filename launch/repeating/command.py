"""Train a run again, and say whether the weights are the same, bit for bit.

  quell repeat RUN --check-only     what differs here: code, packages, machine, data
  quell repeat RUN                  train again in RUN-repeat, and compare
  quell repeat RUN --steps 100      only as far as step 100
  quell repeat RUN --code           with the code of the run, from git and the changes it recorded

Exit codes: 0 identical weights, 7 different (with --check-only: something differs), 8 weights not compared, 4 other
data; configs/errors.py has all.
docs/repeating.md explains what is recorded and compared.
"""

import argparse
import sys
from pathlib import Path

from quell.configs.support.arguments import whole_number
from quell.configs.support.paths import from_here
from quell.launch import cli


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, repeat the run, return the exit code."""
    parser = argparse.ArgumentParser(
        prog="quell repeat", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument("--run-dir", metavar="DIR", help="folder of the repetition; default RUN-repeat")
    parser.add_argument("--check-only", action="store_true", help="only say what differs, and print the commands")
    parser.add_argument("--steps", type=whole_number(1), metavar="N", help="train to step N; default the newest step")
    parser.add_argument("--code", action="store_true", help="train with the code of the run, not with this one")
    parser.add_argument("--data-root", metavar="DIR", help="where the data are now, if they were moved")
    options = cli.parse(parser, arguments)

    def work() -> int:
        from quell.launch.repeating.repeat import Request, repeat

        run = from_here(options.run)
        run_dir = Path(options.run_dir).absolute() if options.run_dir else run.with_name(f"{run.name}-repeat")
        data_root = options.data_root
        if data_root and "://" not in data_root:
            data_root = str(from_here(data_root).absolute())
        return repeat(Request(run, run_dir, options.steps, data_root, options.check_only, options.code))

    return cli.run(work)


if __name__ == "__main__":
    sys.exit(main())
