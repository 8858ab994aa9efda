"""Average the weights of a run's checkpoints, and compare the average with the best one: `quell average RUN`.

Writes RUN/checkpoints/average, which `quell evaluate`, `quell denoise` and `init_from` read with `--which average`. Set
checkpoint.keep_best to have several checkpoints to average.
"""

import argparse

from quell.configs.support.arguments import CommandParser, whole_number
from quell.launch import cli


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, average, compare; return the exit code."""
    parser = CommandParser(
        prog="quell average",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="run folder")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--best",
        type=whole_number(2),
        metavar="K",
        help="average the K best checkpoints (default: checkpoint.keep_best)",
    )
    chosen.add_argument("--last", type=whole_number(2), metavar="K", help="average the K latest checkpoints instead")
    parser.add_argument(
        "--batches",
        type=whole_number(1),
        default=100,
        metavar="N",
        help="training batches on which the statistics of batch normalisation are computed anew, where there is any",
    )
    parser.add_argument("--limit", type=whole_number(1), metavar="N", help="compare on the first N validation images")
    options = cli.parse(parser, arguments)

    def work() -> int:
        from quell.launch.averaging import average  # imports torch: not for --help

        return average.run(options)

    return cli.run(work)


if __name__ == "__main__":
    cli.leave(main())
