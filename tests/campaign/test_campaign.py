"""A small campaign with a fixed seed: nothing may differ silently, end in a traceback or hang."""

import pytest

from tests.campaign.campaign import DAMAGE, KILLS, run
from tests.campaign.outcomes import Outcome, Tally, of_code


@pytest.mark.timeout(600)
def test_a_small_campaign_finds_nothing() -> None:
    tally = run(seed=7, kills=3, mutations=60)
    assert set(tally.counts) == {*KILLS, *DAMAGE}
    assert tally.bad == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_larger_campaign_with_two_processes_finds_nothing() -> None:
    tally = run(seed=8, kills=30, mutations=1000, gan_kills=10)
    assert tally.bad == []


def test_the_table_counts_and_keeps_what_went_wrong() -> None:
    tally = Tally()
    tally.add("kill", Outcome.SURVIVED, "at 3")
    tally.add("kill", Outcome.SILENT, "at 4")
    assert tally.bad == ["kill: silently different: at 4"]
    assert tally.table({}).splitlines()[-1] == "| kill | 2 | 1 | 0 | 1 | 0 | 0 |"


@pytest.mark.parametrize(
    ("code", "right", "outcome"),
    [
        (0, True, Outcome.SURVIVED),
        (0, False, Outcome.SILENT),
        (5, False, Outcome.REFUSED),
        (70, False, Outcome.CRASHED),
        (1, False, Outcome.CRASHED),
        (139, False, Outcome.CRASHED),
        (-1, False, Outcome.HUNG),
    ],
)
def test_exit_codes_become_outcomes(code: int, right: bool, outcome: Outcome) -> None:
    assert of_code(code, right=right) is outcome
