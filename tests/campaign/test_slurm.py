"""A small campaign on a real SLURM: no job is lost, and every one ends with the weights of one left in peace."""

from pathlib import Path

import pytest

from tests.campaign import slurm
from tests.campaign.slurm import Fault
from tests.support.slurm.cluster import install


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.xdist_group("slurm")
def test_jobs_disturbed_at_random_moments_end_bit_identical(tmp_path: Path) -> None:
    if reason := install():
        pytest.skip(reason)
    faults = [Fault(stage, stage, 2) for stage in ("requeued", "preempted", "failing", "restarted")]
    slurm.run(faults, tmp_path, seed=7)
    assert all(fault.is_exact and fault.done == 2 for fault in faults), slurm.table(faults)


def test_the_table_says_what_became_of_each_job() -> None:
    exact = Fault("requeued", "requeued", 3, during_start_up=1, done=3, released=1, starts=4, is_exact=True)
    lost = Fault("preempted", "preempted", 2, done=1, starts=2, notes=["the job ended as FAILED before all was done"])
    assert slurm.table([exact, lost]).splitlines()[2:] == [
        "| requeued | 3 | 1 | 1 | 4 | bit-identical |",
        "| preempted | 1 | 0 | 0 | 2 | DIFFERENT; the job ended as FAILED before all was done |",
    ]
