"""From a run folder to its diagnosis: train for a while if there is no run yet, collect the facts, check them."""

import math
from dataclasses import replace
from pathlib import Path

from quell.configs import loader
from quell.configs.errors import EXIT_INTERRUPTED, CheckpointError, ConfigError, DataError, DivergedError, QuellError
from quell.configs.support.event_log import read_events
from quell.configs.support.logs import get_logger
from quell.launch.diagnosis import probe
from quell.launch.diagnosis.diagnosis import Diagnosis
from quell.launch.diagnosis.general_rules import general_checks
from quell.launch.diagnosis.noise_rules import noise_checks
from quell.launch.diagnosis.steps import examine_steps
from quell.launch.methods import method_of
from quell.launch.runs.folder import RunFolder
from quell.launch.training import run
from quell.pipelines.reporting.facts import RunFacts

log = get_logger(__name__)

LOGS, EVALUATIONS = 24, 3
"""How often a run that is trained for its diagnosis is logged and evaluated."""
FURTHER_STEPS = 3
"""Steps that are taken from the last checkpoint of a run."""


def train_for_diagnosis(config: str | Path, overrides: list[str], folder: Path, *, steps: int) -> None:
    """Train for a number of steps, logging and evaluating often enough for the checks; divergence is not an error.

    Raises:
        ConfigError: `steps` is not positive, or the configuration is wrong.
    """
    if steps < 1:
        raise ConfigError(f"--steps must be 1 or more, got {steps}")
    frequent = [
        f"loop.max_steps={steps}",
        "loop.epochs=null",
        f"tracking.log_every={max(1, steps // LOGS)}",
        "tracking.tensorboard=false",
        "tracking.gradients=true",
        f"evaluation.every_steps={math.ceil(steps / EVALUATIONS)}",
        "evaluation.every_epochs=null",
    ]
    try:
        if run.train(loader.load(config, [*frequent, *overrides]), folder) == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
    except DivergedError as error:  # a diverged run is worth a diagnosis more than any other
        log.info("training diverged: %s", error)


def diagnose_run(folder: Path, *, further_steps: int = FURTHER_STEPS) -> Diagnosis:
    """Diagnose the run in a folder, as far as possible without its networks and data if they cannot be loaded.

    Args:
        folder: The run folder, in which nothing is changed.
        further_steps: Steps that are taken from its last checkpoint, to show their losses and gradients.

    Raises:
        CheckpointError: Nothing has been trained there.
    """
    facts, notes = read_facts(RunFolder(folder)), []
    steps = None
    last_evaluation = facts.eval_events[-1] if facts.eval_events else {}
    metrics = {name: value for name, value in last_evaluation.items() if isinstance(value, float)}
    try:
        probed = probe.probe(folder, metrics)
        facts = replace(
            facts,
            probe=probed.values,
            findings=probed.findings,
            noise=probed.noise,
            assumed_noise=probed.assumed_noise,
        )
    except (CheckpointError, DataError) as error:
        notes.append(f"Networks and data were not examined: {error}")
    else:
        try:
            steps = examine_steps(folder, further_steps)
        except QuellError as error:
            notes.append(f"Single steps were not examined: {error}")
    method = method_of(facts.config).diagnose(facts)
    return Diagnosis(
        folder,
        facts,
        checks=[*general_checks(facts), *noise_checks(facts), *method.checks],
        disputes=list(method.disputes),
        notes=[*notes, *method.notes],
        recommendation=method.recommendation,
        steps=steps,
    )


def read_facts(folder: RunFolder) -> RunFacts:
    """The facts in a run folder, without those that need its networks.

    Raises:
        CheckpointError: Nothing has been trained there.
    """
    facts = RunFacts(folder.config(), read_events(folder.metrics_file), folder.summary())
    if not facts.train_events:
        raise CheckpointError(f"{folder.path} has no training log yet: train the run first")
    return facts
