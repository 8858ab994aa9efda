"""Disturb jobs of a real SLURM at random moments and print the table: `python -m tests.campaign.slurm`.

Four trainings run at the same time on a cluster of virtual nodes. One is requeued, one is preempted by jobs of higher
priority, one loses its node, and one is stopped while the controller is killed; each of them again and again, at random
moments from the first second of a start on. In the end their weights are compared with those of a run that was left in
peace.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock

from quell.configs.support import event_log, logs
from quell.configs.support.arguments import whole_number
from quell.slurm.node import records
from tests.support.runs import read_events
from tests.support.slurm.cluster import Cluster, install
from tests.support.slurm.launcher import Launcher, build_tiny_data, wait_until, weights

NAME = "campaign"
CONFIG = {"config": "configs/cross_no_skip.yaml"}
WINDOW_S = 18.0
"""Latest moment of a disturbance, in seconds after the start of a job; about half of that is its start-up."""
PACE_S = 0.3
"""How long a run that is disturbed rests before every step, so that it does not finish too early."""

_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
_SAVED_AFTER_S, _REGISTERED_AFTER_S = 6.0, 6.0
"""How long the controller takes to save what it did, and the nodes to register after its start."""
_HELD = "launch_failed_requeued_held"
"""Why SLURM holds a job that it could not start on a node, which it drains."""

log = logs.get_logger(__name__)


@dataclass
class Fault:
    """One way of disturbing a job."""

    words: str
    stage: str
    times: int
    during_start_up: int = 0
    done: int = 0
    released: int = 0
    starts: int = 0
    is_exact: bool = False
    notes: list[str] = field(default_factory=list)

    def row(self) -> str:
        """Its line of the table."""
        outcome = "bit-identical" if self.is_exact else "; ".join(["DIFFERENT", *self.notes])
        return f"| {self.words} | {self.done} | {self.during_start_up} | {self.released} | {self.starts} | {outcome} |"


class Campaign:
    """The jobs and what is done to them."""

    def __init__(self, jobs: Launcher, cluster: Cluster, seed: int) -> None:
        self._jobs, self._cluster, self._seed = jobs, cluster, seed
        self._controller_is_safe = Lock()
        """Held by whoever makes the controller change jobs, and while it is killed."""

    def run(self, faults: list[Fault]) -> None:
        """Submit the stages, disturb them all at once, and compare what comes out."""
        self._jobs.submit(self._stage_file(faults))
        disturb: dict[str, Callable[[str], None]] = {
            "requeued": self._requeue, "preempted": self._preempt, "failing": self._fail_node,
            "restarted": self._restart_controller,
        }  # fmt: skip
        with ThreadPoolExecutor(len(faults)) as threads:
            for future in [threads.submit(self._disturb, fault, disturb[fault.stage]) for fault in faults]:
                future.result()
        for fault in [Fault("left in peace", "undisturbed", 0), *faults]:
            wait_until(partial(self._has_ended, fault), lambda: str(self._jobs.status(NAME)), pause_s=1)
        expected = weights(self._jobs.runs(NAME) / "undisturbed")
        for fault in faults:
            self._compare(fault, expected)

    def _stage_file(self, faults: list[Fault]) -> Path:
        """All stages; one node is only for the job that loses it, and one only for preemption."""
        steps = int(WINDOW_S / PACE_S) * (max(fault.times for fault in faults) + 1)
        lost, *_, contested = self._cluster.names
        places = {
            "failing": {"extra": {"nodelist": lost}},
            "preempted": {"partition": "low", "extra": {"nodelist": contested}},
        }
        other = {"exclude": lost}
        stages: dict[str, object] = {"undisturbed": {**CONFIG, "resources": other}}
        for fault in faults:
            folder = self._jobs.runs(NAME) / fault.stage
            folder.mkdir(parents=True)
            (folder / "pace").write_text(str(PACE_S))
            stages[fault.stage] = {**CONFIG, "resources": places.get(fault.stage, other), "max_requeues": 1000}
        overrides = {"loop.max_steps": steps, "checkpoint.every_steps": 20}
        return self._jobs.stage_file(NAME, stages, overrides=overrides, resources={"time_min": 59})

    def _disturb(self, fault: Fault, disturb: Callable[[str], None]) -> None:
        draw = random.Random(f"{self._seed} {fault.stage}")
        last = ""
        for number in range(fault.times):
            start = self._wait_for_start(fault, last)
            if not start:
                break
            began = time.time()
            time.sleep(draw.uniform(0, WINDOW_S))
            fault.during_start_up += not self._has_trained_since(fault, began)
            disturb(fault.stage)
            fault.done += 1
            log.info("%s: %d of %d, after %.1f s", fault.stage, number + 1, fault.times, time.time() - began)
            last = start if fault.stage != "restarted" else ""
        (self._jobs.runs(NAME) / fault.stage / "pace").unlink()

    def _wait_for_start(self, fault: Fault, last: str) -> str:
        """Wait until the job runs and has started since; when it did, or '' once it has ended."""
        seen = {"state": "", "time": ""}

        def has_started() -> bool:
            shown = self._help_to_start(fault)
            seen.update(state=shown.get("JobState", ""), time=shown.get("StartTime", ""))
            return seen["state"] in _ENDED or (seen["state"] == "RUNNING" and seen["time"] != last)

        wait_until(has_started, lambda: f"{fault.stage} does not start: {seen}", pause_s=0.5)
        if seen["state"] != "RUNNING":
            fault.notes.append(f"the job ended as {seen['state']} before all was done")
            return ""
        return seen["time"]

    def _has_ended(self, fault: Fault) -> bool:
        return self._help_to_start(fault).get("JobState") in _ENDED

    def _help_to_start(self, fault: Fault) -> dict[str, str]:
        """Do what an operator does for a job that waits to start again; what SLURM says about it.

        A controller that is killed before it has saved that a job runs starts it twice; SLURM then holds the job and
        drains its node.
        """
        with self._controller_is_safe:
            self._patiently(self._cluster.start_requeued)
        shown = self._properties(fault.stage)
        if shown.get("Reason") == _HELD:
            fault.released += 1
            self._patiently(self._cluster.resume_drained)
            self._patiently(lambda: self._cluster.run("scontrol", "release", self._job(fault.stage)))
        return shown

    def _properties(self, stage: str) -> dict[str, str]:
        shown = self._patiently(lambda: self._cluster.run("scontrol", "show", "job", "-o", self._job(stage)))
        return dict(pair.partition("=")[::2] for pair in str(shown).split())

    def _patiently(self, call: Callable[[], object]) -> object:
        """Call SLURM again while its controller is being restarted."""
        deadline = time.monotonic() + 120
        while True:
            try:
                return call()
            except (AssertionError, subprocess.TimeoutExpired):
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def _requeue(self, stage: str) -> None:
        def requeue() -> None:
            if self._properties(stage).get("JobState") == "RUNNING":  # else it took effect, and the answer was lost
                self._cluster.run("scontrol", "requeue", self._job(stage))

        with self._controller_is_safe:
            self._patiently(requeue)

    def _preempt(self, stage: str) -> None:
        node = self._cluster.names[-1]
        command = ["sbatch", "--partition=high", f"--nodelist={node}", "--cpus-per-task=4", "--output=/dev/null"]
        with self._controller_is_safe:
            self._patiently(lambda: self._cluster.run(*command, "--wrap", "sleep 1"))

    def _fail_node(self, stage: str) -> None:
        with self._controller_is_safe:
            self._patiently(lambda: self._cluster.fail(self._cluster.names[0]))
        time.sleep(1)
        self._patiently(lambda: self._cluster.repair(self._cluster.names[0]))

    def _restart_controller(self, stage: str) -> None:
        """Ask the run to stop, and kill the controller, which the job then asks for its requeue.

        Nothing else happens around that: a controller that is killed forgets what it has not saved, and a slurmd that
        registers anew deletes the script of a job that it is just starting.
        """
        with self._controller_is_safe:
            time.sleep(_SAVED_AFTER_S)
            self._patiently(lambda: self._cluster.run("scancel", "--signal=USR2", self._job(stage)))
            self._cluster.kill_controller()
            time.sleep(5)
            self._cluster.start_controller()
            time.sleep(_REGISTERED_AFTER_S)

    def _job(self, stage: str) -> str:
        return self._jobs.job(NAME, stage)

    def _has_trained_since(self, fault: Fault, began: float) -> bool:
        events = event_log.read_events(self._jobs.runs(NAME) / fault.stage / "metrics.jsonl", last_bytes=10_000)
        return any(event["event"] == "train" and event["time"] > began for event in events)

    def _compare(self, fault: Fault, expected: bytes) -> None:
        """Compare weights and log with those of the run that was left in peace."""
        run = self._jobs.runs(NAME) / fault.stage
        fault.starts = len(records.starts(self._jobs.runs(NAME) / "jobs" / fault.stage, self._job(fault.stage)))
        if self._jobs.state(NAME, fault.stage) != "finished":
            fault.notes.append(self._jobs.status(NAME)[fault.stage])
            return
        steps = [event["step"] for event in read_events(run, "train")]
        if steps != list(range(1, len(steps) + 1)):
            fault.notes.append("the log has gaps or repetitions")
        fault.is_exact = weights(run) == expected and not fault.notes


def run(faults: list[Fault], folder: Path, *, seed: int) -> None:
    """Bring up a cluster and disturb its jobs; what became of them is in `faults`.

    SLURM kills what does not stop in 30 seconds, and some starts are so caught before they listen to signals.
    """
    data = build_tiny_data(folder)
    with Cluster(kill_wait_s=30, grace_s=30) as cluster:
        Campaign(Launcher(folder, data, cluster), cluster, seed).run(faults)


def table(faults: list[Fault]) -> str:
    """What became of the jobs, as Markdown."""
    headings = (
        "done to a job",
        "times",
        "before the first step of a start",
        "held, and released",
        "starts",
        "in the end",
    )
    head = [f"| {' | '.join(headings)} |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *(fault.row() for fault in faults)])


def main(arguments: list[str]) -> int:
    """The exit code is 1 if a job was lost, or its weights differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.slurm", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=whole_number(0), default=1, help="the same seed draws the same moments")
    for name, default in (("requeues", 20), ("preemptions", 10), ("node-failures", 5), ("controller-restarts", 5)):
        parser.add_argument(f"--{name}", type=whole_number(1), default=default)
    options = parser.parse_args(arguments)
    logs.configure(options)
    if reason := install():
        print(reason, file=sys.stderr)
        return 6
    faults = [
        Fault("requeued", "requeued", options.requeues),
        Fault("preempted", "preempted", options.preemptions),
        Fault("node lost", "failing", options.node_failures),
        Fault("stopped, and the controller killed", "restarted", options.controller_restarts),
    ]
    with tempfile.TemporaryDirectory(prefix="quell-campaign-") as name:
        run(faults, Path(name), seed=options.seed)
    print(table(faults))
    return 0 if all(fault.is_exact for fault in faults) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
