"""Print the JSON schema of configurations, for editors and other programs.

  quell schema --output quell.schema.json     of a run; also: stages, site, study

An editor with a YAML plugin then completes and checks the keys of a file that begins with the line

  # yaml-language-server: $schema=quell.schema.json
"""

import argparse
import json
import sys
from pathlib import Path

from quell.configs.errors import run_command
from quell.configs.support.atomic_files import write_atomically

KINDS = ("run", "stages", "site", "study")


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, print or write the schema, return the exit code."""
    parser = argparse.ArgumentParser(
        prog="quell schema", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", nargs="?", choices=KINDS, default="run", help="kind of YAML file; default run")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write to a file instead of printing")
    options = parser.parse_args(arguments)

    def work() -> int:
        from quell.schema.documents import SCHEMAS

        text = json.dumps(SCHEMAS[options.kind](), indent=1, ensure_ascii=False) + "\n"
        if options.output is None:
            print(text, end="")
        else:
            write_atomically(options.output, text)
        return 0

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
