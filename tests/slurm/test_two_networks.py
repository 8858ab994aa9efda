"""Two nodes with networks of their own: ranks that talk over Ethernet, and a node lost in the middle of a step."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from quell.slurm.node import records
from tests.support.slurm.cluster import install
from tests.support.slurm.launcher import TIMEOUT_S, Launcher, steps_logged, wait_until, weights
from tests.support.slurm.networks import INTERFACE, IsolatedCluster, missing
from tests.support.slurm.trainers import Trainers

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm"), pytest.mark.timeout(TIMEOUT_S)]

NAME = "networks"
STEPS = 30
STAGE = {"config": "configs/cross_no_skip.yaml", "resources": {"nodes": 2, "tasks_per_node": 2}}
SITE = {"environment": {"GLOO_SOCKET_IFNAME": INTERFACE, "NCCL_SOCKET_IFNAME": INTERFACE}}


@pytest.fixture(scope="module")
def isolated(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Iterator[Launcher]:
    """The launcher with two nodes for jobs, each in a network of its own."""
    if reason := install() or missing():
        pytest.skip(reason)
    with IsolatedCluster(nodes=3) as cluster:
        yield Launcher(tmp_path_factory.mktemp("isolated"), tiny_data, cluster)


def test_two_ranks_on_each_of_two_nodes_survive_the_loss_of_a_node(isolated: Launcher) -> None:
    cluster = isolated.cluster
    assert isinstance(cluster, IsolatedCluster)
    runs, lost = isolated.runs(NAME), cluster.names[1]
    trainers = Trainers(runs / "lost")
    trainers.close_gate(15)
    stages = {"lost": STAGE, "undisturbed": {**STAGE, "after": ["lost"]}}
    overrides = {"loop.max_steps": STEPS}
    isolated.submit(isolated.stage_file(NAME, stages, site=SITE, overrides=overrides))
    wait_until(lambda: len(steps_of(runs / "lost")) == 15, lambda: isolated.status(NAME)["lost"])
    assert {process.environ()["MASTER_ADDR"] for process in trainers.ranks().values()} == {cluster.names[0]}
    with trainers.held(lambda: isolated.status(NAME)["lost"]):
        cluster.fail(lost)
    cluster.repair(lost)
    isolated.wait_for(NAME, "lost", "finished")
    before = [cluster.received_bytes(node) for node in cluster.names[:2]]
    isolated.wait_for(NAME, "undisturbed", "finished")
    received = [cluster.received_bytes(node) - count for node, count in zip(cluster.names, before, strict=False)]
    assert weights(runs / "lost") == weights(runs / "undisturbed")
    assert steps_logged(runs / "lost") == steps_logged(runs / "undisturbed") == list(range(1, STEPS + 1))
    assert [event["step"] for event in starts(isolated, "lost")] == [0, 10], "from the last checkpoint before"
    size = len(weights(runs / "lost"))
    assert min(received) > STEPS * size, f"gradients of {size} bytes crossed the network at every step: {received}"


def steps_of(run: Path) -> list[int]:
    """The steps logged so far."""
    return steps_logged(run) if (run / "metrics.jsonl").exists() else []


def starts(jobs: Launcher, stage: str) -> list[records.Event]:
    return records.starts(jobs.runs(NAME) / "jobs" / stage, jobs.job(NAME, stage))
