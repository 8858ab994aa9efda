"""Find the largest batch that fits: `quell batch-size --config YAML`.

Takes training steps of the configuration with more and more samples at a time, each size in a process of its own, and
reports peak memory and speed. Proposes data.batch_size and loop.accumulate: first with the global batch as it is, which
trains the same way, then with as much as fits. Nothing is kept.
"""

import argparse

from quell.configs.support.arguments import CommandParser, real_number, whole_number
from quell.launch import cli


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, try sizes, propose one; return the exit code."""
    parser = CommandParser(
        prog="quell batch-size",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, metavar="YAML", help="what to train")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="changes to single keys")
    parser.add_argument(
        "--processes", type=whole_number(1), default=1, metavar="N", help="processes that the run will have (default 1)"
    )
    parser.add_argument(
        "--memory-gb",
        type=real_number(above=0),
        metavar="G",
        help="memory of one process, in 2^30 bytes (default: all of a GPU; on CPU, its share of what is available)",
    )
    parser.add_argument(
        "--headroom",
        type=real_number(least=0),
        default=0.1,
        metavar="F",
        help="share of the memory to leave free (default 0.1)",
    )
    parser.add_argument(
        "--largest", type=whole_number(1), default=1024, metavar="N", help="most samples to try (default 1024)"
    )
    parser.add_argument("--steps", type=whole_number(2), default=6, metavar="N", help="steps of each try (default 6)")
    options = cli.parse(parser, arguments)
    if options.headroom >= 1:
        parser.error(f"--headroom is a share below 1, got {options.headroom:g}")

    def work() -> int:
        from quell.launch.batch_size import search  # imports torch: not for --help

        return search.run(options)

    return cli.run(work)


if __name__ == "__main__":
    cli.leave(main())
