"""Write a run as one HTML page that needs no network: results, curves, images, noise, findings, configuration, machine.

The page is RUN/report.html. It shows what the run folder holds, and restores a few images once more if its data are
still there.
"""

import argparse
import sys

from quell.configs.support.arguments import whole_number
from quell.configs.support.paths import resolve
from quell.launch import cli


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments and write the page; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument("--output", metavar="HTML", help="the file to write (default: RUN/report.html)")
    parser.add_argument(
        "--images",
        type=whole_number(0),
        default=2,
        metavar="N",
        help="show the N worst and the N best images, and the middle one (default: 2); 0 restores none",
    )
    parser.add_argument("--no-diagnosis", action="store_true", help="leave out the findings, which take a few seconds")
    options = cli.parse(parser, arguments)

    def work() -> int:
        from quell.launch.run_report.build import write_report  # imports torch: not for --help

        output = None if options.output is None else resolve(options.output)
        print(write_report(options.run, output, images=options.images, diagnosis=not options.no_diagnosis))
        return 0

    return cli.run(work)


if __name__ == "__main__":
    sys.exit(main())
