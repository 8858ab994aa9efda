"""Two processes, on two GPUs over NCCL or on the CPU over gloo: equal to one, stopped together, failing together."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from quell.configs.errors import EXIT_REQUEUE, MachineError
from quell.launch.checkpoints.layout import folder_name
from quell.launch.machine import complex_gradients, devices
from quell.launch.proof import processes, rank
from quell.launch.proof.outcomes import Check, SkippedError
from quell.launch.proof.steps import small, write_config
from quell.launch.runs.folder import RunFolder

CONFIG = "quickstart"
"""Its networks have no batch norm, whose statistics are those of each process."""
RANKS, BATCH, STEPS = 2, 4, 3
RELATIVE, ABSOLUTE = 1e-4, 1e-6
"""Largest difference of a weight after steps of SGD that another order of summation explains."""


def checks(roots: dict[str, Path], folder: Path) -> list[Check]:
    """Independent of --only: one small configuration, which every device and backend trains."""
    started = partial(_start, roots, folder)
    return [
        (f"{RANKS} processes train as one does", partial(train_as_one, started, folder)),
        (f"{RANKS} processes: one context each", partial(one_context_each, folder)),
        (f"{RANKS} processes average complex gradients", partial(complex_gradients_are_right, started, folder)),
        (f"{RANKS} processes: USR2 in a step", partial(stopped_together, started, folder)),
        (f"{RANKS} processes: one fails", partial(fail_together, started, folder)),
        ("out of memory is one sentence", partial(out_of_memory, started)),
    ]


def train_as_one(start: Any, folder: Path) -> tuple[bool, str]:
    """The same global batches in two processes and in one: gradient norms and weights, and the weights of each rank."""
    _refuse_one_gpu()
    runs = []
    for count in (RANKS, 1):
        ended, run = start("nothing", count)
        if ended.code:
            return False, f"{count} processes ended with {ended.code}: {ended.last_line()}"
        runs.append(run)
    weights = [processes.weights_of(run, STEPS) for run in runs]
    excess = max(
        float(((a - b).abs() - RELATIVE * b.abs()).max())
        for a, b in ((weights[0][key], weights[1][key]) for key in weights[1])
    )
    norms = max(
        abs(a[key] / b[key] - 1)
        for a, b in zip(_logged(runs[0]), _logged(runs[1]), strict=True)
        for key in b
        if key.startswith("grad_norm")
    )
    alike = len({report["weights"] for report in _reports(folder / f"nothing-{RANKS}")}) == 1
    holds = alike and excess <= ABSOLUTE and norms <= RELATIVE
    apart = max(float((weights[0][key] - weights[1][key]).abs().max()) for key in weights[1])
    ranks = "ranks alike" if alike else "RANKS DIFFER"
    return holds, f"weights {apart:.1e} apart, gradient norms {norms:.1e} of their size, {ranks}"


def one_context_each(folder: Path) -> tuple[bool, str]:
    """Of the processes that had a context in the run before, all but those of other programs are its ranks."""
    _refuse_one_gpu()
    if devices.default_device().type != "cuda":
        raise SkippedError("only CUDA has contexts")
    reports = _reports(folder / f"nothing-{RANKS}")
    during: list[str] = next((report["contexts"] for report in reports if report.get("contexts")), [])
    if not during:
        raise SkippedError("nvidia-smi shows no processes here, as in most containers")
    new = set(during) - set(rank.contexts())
    return len(new) == RANKS, f"{len(new)} contexts of {RANKS} processes"


def complex_gradients_are_right(start: Any, folder: Path) -> tuple[bool, str]:
    """The check that each run with complex weights makes before it trains."""
    _refuse_one_gpu()
    ended, _ = start("complex", RANKS)
    if ended.code:
        return False, f"ended with {ended.code}: {ended.last_line()}"
    worst = max(float(report["difference"]) for report in _reports(folder / f"complex-{RANKS}"))
    allowed = complex_gradients.TOLERANCE
    return worst <= allowed, f"relative difference {worst:.1e}, allowed {allowed:.0e}"


def stopped_together(start: Any, folder: Path) -> tuple[bool, str]:
    """SIGUSR2 to one process inside a step ends all with exit code 75 and a checkpoint."""
    _refuse_one_gpu()
    ended, run = start("signal", RANKS, "loop.max_steps=1000")
    codes = [report.get("code") for report in _reports(folder / f"signal-{RANKS}")]
    step = RunFolder(run).summary().get("step")
    saved = isinstance(step, int) and (run / "checkpoints" / folder_name(step)).is_dir()
    holds = codes == [EXIT_REQUEUE] * RANKS and saved
    return holds, f"exit codes {codes}, {'a' if saved else 'NO'} checkpoint at step {step}, {ended.seconds:.0f} s"


def fail_together(start: Any, folder: Path) -> tuple[bool, str]:
    """An error on one rank ends all of them while they wait for it in a collective, and is what is printed."""
    _refuse_one_gpu()
    ended, _ = start("failure", RANKS, "loop.max_steps=1000")
    said = any("error: " in line and rank.FAILURE in line for line in ended.output.splitlines())
    alive = [report["pid"] for report in _reports(folder / f"failure-{RANKS}") if psutil.pid_exists(report["pid"])]
    words = "its sentence was printed" if said else f"NOT ITS SENTENCE: {ended.last_line()}"
    return ended.code != 0 and said and not alive, f"ended after {ended.seconds:.0f} s, {len(alive)} left, {words}"


def out_of_memory(start: Any) -> tuple[bool, str]:
    """A step that asks for more memory than there is ends with one sentence and its exit code."""
    if devices.default_device().type not in ("cuda", "cpu"):
        raise SkippedError("memory is limited on CUDA and asked for in vain on CPUs only")
    ended, _ = start("memory", 1)
    line = ended.last_line()
    holds = ended.code == MachineError.exit_code and "out of memory on" in line and "; start" in line
    return holds and "Traceback" not in ended.output, f"exit code {ended.code}, {line}"


def _start(
    roots: dict[str, Path], folder: Path, event: str, count: int, *overrides: str
) -> tuple[processes.Ended, Path]:
    """Train in this many processes until the event; the run's folder, beside which they report."""
    file = write_config(small(CONFIG, roots, tf32=False), folder / f"{event}-{count}.yaml")
    reports, run = folder / f"{event}-{count}", folder / f"{event}-{count}-run"
    reports.mkdir(exist_ok=True)
    settings = [
        f"data.batch_size={BATCH}",
        "optimizer.name=sgd",
        "optimizer.lr=0.01",
        "schedule.name=constant",
        "schedule.warmup_steps=0",
    ]
    options = ["tracking.log_every=1", "loop.threads=1", f"loop.max_steps={STEPS}"]
    words = [event, reports, "--config", file, *settings, *options, *overrides, "--run-dir", run]
    if count == 1:
        return processes.run("-m", rank.__name__, *words), run
    return processes.torchrun(count, rank.__name__, *words), run


def _refuse_one_gpu() -> None:
    device = devices.default_device()
    if device.type == "cuda" and devices.module_of(device).device_count() < RANKS:
        raise SkippedError(f"one GPU, and NCCL wants one for each of {RANKS} processes")
    if device.type not in ("cuda", "cpu"):
        raise SkippedError(f"this check has no backend for {device.type}")


def _reports(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]


def _logged(run: Path) -> list[dict[str, float]]:
    """What the steps logged that is a number."""
    events = [json.loads(line) for line in RunFolder(run).metrics_file.read_text().splitlines()]
    return [
        {key: value for key, value in event.items() if isinstance(value, float) and math.isfinite(value)}
        for event in events
        if event["event"] == "train"
    ]
