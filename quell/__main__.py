"""`python -m quell COMMAND ...`, for a checkout that is not installed."""

import sys

from quell.command_line import main

if __name__ == "__main__":
    sys.exit(main())
