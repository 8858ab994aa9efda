"""Compare evaluated runs: are their differences real? A ranked table with intervals and tests, and plots.

The runs must have been evaluated on the same images (`quell evaluate`). Runs that differ only in their seed are one
method, unless --method says otherwise. Images of one patient count once, where the shards record patients.
docs/comparing.md explains every number.
"""

import argparse
import sys

from quell.configs.support.arguments import whole_number
from quell.launch import cli


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments and compare; returns the exit code."""
    options = cli.parse(_parser(), arguments)

    def work() -> int:
        from quell.launch.comparing import compare_runs  # imports scipy and torch: not for --help

        return compare_runs.compare(options)

    return cli.run(work)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="evaluated run folders, or report files in them")
    parser.add_argument(
        "--method",
        action="append",
        metavar="NAME=RUN,RUN",
        help="these runs are the seeds of one method, whatever differs between them; may be given several times",
    )
    parser.add_argument(
        "--metrics", nargs="+", metavar="NAME", help="metrics to compare (default: all that every report has)"
    )
    parser.add_argument(
        "--against",
        metavar="NAME",
        help="compare everything with this run, method or baseline only: fewer tests than all pairs need",
    )
    parser.add_argument("--no-baselines", action="store_true", help="leave the baselines of the reports out")
    parser.add_argument("--fields", nargs="+", metavar="NAME", help="only these noisy fields of the shards")
    parser.add_argument(
        "--evaluate", action="store_true", help="first evaluate the runs that have no report, with the NLM baseline"
    )
    parser.add_argument("--output", metavar="DIR", default="runs/comparison", help="folder for tables and plots")
    parser.add_argument("--format", choices=("png", "svg"), default="png", help="of the plots")
    parser.add_argument(
        "--plots", type=whole_number(0), default=1, metavar="N", help="plot the first N metrics (default: 1)"
    )
    parser.add_argument(
        "--require-better",
        action="store_true",
        help="exit with code 3 unless the first run is distinguishably better than all others in the first metric",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
