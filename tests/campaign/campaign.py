"""A campaign: many attempts of every fault, drawn from a seed, and the table of what became of them."""

import time
from collections.abc import Callable, Mapping

import numpy as np

from quell.configs.support.logs import get_logger
from tests.campaign import damage, interruptions
from tests.campaign.outcomes import Outcome, Tally
from tests.campaign.workspace import Workspace, workspace

log = get_logger(__name__)

Attempt = Callable[[Workspace, np.random.Generator], tuple[Outcome, str]]
"""Tries a fault once; the outcome, and what was done."""

KILLS: Mapping[str, Attempt] = {
    "SIGKILL at a file operation": interruptions.kill_at_a_file_operation,
    "SIGKILL at a random moment": interruptions.kill_at_a_moment,
    "SIGTERM, SIGINT or SIGUSR2 at a random moment": interruptions.stop_at_a_moment,
}

DAMAGE: Mapping[str, tuple[Attempt, float]] = {
    "slip in a YAML": (damage.slip_in_a_config, 0.4),
    "damaged tar, read through the index": (damage.damage_a_shard, 0.25),
    "damaged index": (damage.damage_an_index, 0.25),
    "damaged tar, streamed into training": (damage.damage_a_stream, 0.03),
    "damaged checkpoint, resumed": (damage.damage_a_checkpoint, 0.04),
    "damaged log, summary or best.json, resumed": (damage.damage_a_side_file, 0.03),
}
"""Fault -> how it is tried, and its share of all mutations; those that train are slower and get fewer."""


def run(*, seed: int, kills: int, mutations: int, gan_kills: int = 0, rounds: int = 1) -> Tally:
    """Try every fault, and return what became of it.

    Args:
        seed: The same seed makes the same attempts; moments of signals depend on the machine all the same.
        kills: Attempts with kills and signals, shared among their kinds.
        mutations: Attempts with damaged files and configurations.
        gan_kills: Kills of one adversarial run of two processes; 0 leaves it out.
        rounds: How often that run is killed so and compared.
    """
    tally = Tally()
    with workspace() as space:
        for fault, attempt in KILLS.items():
            _try(tally, fault, attempt, space, seed, -(-kills // len(KILLS)) if kills else 0)
        for fault, (attempt, share) in DAMAGE.items():
            _try(tally, fault, attempt, space, seed, round(mutations * share))
        if gan_kills:
            name = f"{gan_kills} SIGKILLs of an adversarial run of two processes"
            _try(tally, name, lambda space, random: interruptions.kill_two_processes(space, random, gan_kills), space,
                 seed, rounds)  # fmt: skip
    return tally


def _try(tally: Tally, fault: str, attempt: Attempt, space: Workspace, seed: int, times: int) -> None:
    started = time.monotonic()
    for number in range(times):
        outcome, note = attempt(space, np.random.default_rng([seed, number, *fault.encode()]))
        tally.add(fault, outcome, f"seed {seed}, attempt {number}: {note}")
    if times:
        log.info("%s: %d attempts in %.0f s", fault, times, time.monotonic() - started)
