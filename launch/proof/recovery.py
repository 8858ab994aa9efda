"""A training that is killed and started again ends with the bits of one that was not."""

import subprocess
import time
from functools import partial
from pathlib import Path

from quell.configs import loader
from quell.launch.checkpoints.layout import folder_name
from quell.launch.proof import processes
from quell.launch.proof.outcomes import Check
from quell.launch.proof.small_configs import CONFIGS
from quell.launch.proof.steps import small, write_config

STEPS, KILLED_AFTER = 6, 2
TIMEOUT_S = 240.0


def checks(names: list[str], roots: dict[str, Path], folder: Path) -> list[Check]:
    """One check per configuration."""
    return [(f"{name}: kill -9 and resume", partial(killed_and_resumed, name, roots, folder)) for name in names]


def killed_and_resumed(name: str, roots: dict[str, Path], folder: Path) -> tuple[bool, str]:
    """Compare the weights of a run with those of one that was killed after its first checkpoint."""
    config = small(name, roots, max_steps=STEPS)
    config = config.model_copy(
        update={"checkpoint": config.checkpoint.model_copy(update={"every_steps": KILLED_AFTER, "keep_last": 10})}
    )
    whole, broken = folder / f"{name}-whole", folder / f"{name}-broken"
    file = write_config(config, folder / f"{name}.yaml")
    words = ("launch/train.py", "--config", file, "--run-dir")
    processes.run(*words, whole, timeout_s=TIMEOUT_S)
    process = processes.start(*words, broken)
    _wait_for(broken / "checkpoints" / folder_name(KILLED_AFTER), process)
    process.kill()
    process.communicate()
    resumed = processes.run(*words, broken, timeout_s=TIMEOUT_S)
    if resumed.code:
        return False, f"the resumed run ended with {resumed.code}: {resumed.last_line()}"
    expected, found = (processes.weights_of(run, STEPS) for run in (whole, broken))
    other = [key for key in expected if not expected[key].equal(found[key])]
    return not other, f"{len(other)} of {len(expected)} tensors differ"


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a file exists or the process has ended."""
    deadline = time.monotonic() + TIMEOUT_S
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def one_of_each_method(names: list[str]) -> list[str]:
    """Of these configurations the first of every method: a kill takes three trainings."""
    methods: dict[str, str] = {}
    for name in names:
        methods.setdefault(loader.load(CONFIGS[name]).pipeline.name, name)
    return list(methods.values())
