"""Check whether runs would start, all of them in one process: `python launch/check.py < requests.json`.

Reads a JSON list of requests (launch/preflight/requests.py) from stdin, and prints the problems of each by its name, as
JSON. `slurm/submit.py` asks before it submits anything; for a single run there is `launch/train.py --dry-run`.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # started as a script: import the package around this file, then what is where the user is
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    import quell  # noqa: F401

    sys.path[0] = ""

from quell.configs.support.arguments import CommandParser
from quell.launch import cli


def main(arguments: list[str] | None = None) -> int:
    """Check the requests on stdin; the exit code is 0 whatever is found."""
    parser = CommandParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cli.parse(parser, arguments)

    def work() -> int:
        from quell.launch.preflight import checks
        from quell.launch.preflight.requests import Answer, Requests

        found = checks.problems(Requests.validate_json(sys.stdin.buffer.read()))
        sys.stdout.buffer.write(Answer.dump_json(found) + b"\n")
        return 0

    return cli.run(work)


if __name__ == "__main__":
    cli.leave(main())
