"""The models that come with Quell: a table of all, or the card of one.

`quell zoo` lists them, `quell zoo NAME` prints the card of one; `quell denoise --zoo NAME FILES --output DIR` restores
files with it.
"""

import sys

from quell.configs.support.arguments import CommandParser
from quell.launch import cli


def main(arguments: list[str] | None = None) -> int:
    """Print the table or a card; return the exit code."""
    parser = CommandParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("name", nargs="?", metavar="NAME", help="print the card of this model")
    options = cli.parse(parser, arguments)
    return cli.run(lambda: zoo(options.name))


def zoo(name: str | None) -> int:
    """Print the table, or the card of a model."""
    from quell.launch.evaluation.report import markdown_table  # imports torch: not for --help
    from quell.launch.sharing import zoo as models

    if name is None:
        print(markdown_table(models.rows()), end="")
        return 0
    folder = models.folder(name)
    print((folder / "README.md").read_text(encoding="utf-8") + f"\n{folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
