"""Run a fault campaign and print its table: `python -m tests.campaign --kills 300 --mutations 5000`."""

import argparse
import os
import sys

from quell.configs.support import logs
from quell.configs.support.arguments import whole_number
from tests.campaign.campaign import run


def main(arguments: list[str]) -> int:
    """The exit code is 1 if any attempt ended in a silent difference, a traceback or a hang."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=whole_number(0), default=1, help="the same seed makes the same attempts")
    parser.add_argument("--kills", type=whole_number(0), default=30, help="attempts with kills and signals")
    parser.add_argument("--mutations", type=whole_number(0), default=500, help="attempts with damaged files")
    parser.add_argument("--gan-kills", type=whole_number(0), default=0, help="kills of a run of two processes")
    parser.add_argument("--rounds", type=whole_number(1), default=1, help="how often that run is killed and compared")
    options = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    logs.configure(options)
    tally = run(
        seed=options.seed,
        kills=options.kills,
        mutations=options.mutations,
        gan_kills=options.gan_kills,
        rounds=options.rounds,
    )
    print(tally.table({}))
    for line in tally.bad:
        print(line, file=sys.stderr)
    return 1 if tally.bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
