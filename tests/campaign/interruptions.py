"""Kills and signals: at every kind of moment, the run started again has to end in the undisturbed run's weights."""

import signal
import time
from pathlib import Path

import numpy as np

from tests.campaign.outcomes import Outcome, of_code
from tests.campaign.processes import HUNG, outcome, signal_after, start, train_words, wait
from tests.campaign.workspace import GAN, GAN_STEPS_PER_KILL, Workspace, gan_shards
from tests.support.fault_points import FaultPoints, kill
from tests.support.runs import read_weights, same_bits

MANY_POINTS = 700
"""Numbers of file operations that are drawn from; a training of six steps passes fewer."""


def kill_at_a_file_operation(space: Workspace, random: np.random.Generator) -> tuple[Outcome, str]:
    """SIGKILL before, within or after a file operation of the run folder, up to three times in a row."""
    with space.folder() as folder:
        run, points = folder / "run", []
        for _ in range(int(random.integers(1, 4))):
            at = int(random.integers(MANY_POINTS))
            points.append(at)

            def killed(at: int = at) -> int:
                FaultPoints(run, at, kill).install()
                return train_words(space.words, run)()

            outcome(killed, folder / "log")
        return _resumed(space, run, folder), f"killed at file operations {points}"


def kill_at_a_moment(space: Workspace, random: np.random.Generator) -> tuple[Outcome, str]:
    """SIGKILL at a random moment of the run, up to three times in a row."""
    return _signalled(space, random, int(signal.SIGKILL))


def stop_at_a_moment(space: Workspace, random: np.random.Generator) -> tuple[Outcome, str]:
    """SIGTERM, SIGINT, SIGUSR1 or SIGUSR2 at a random moment of the run, up to three times in a row."""
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2]
    return _signalled(space, random, int(numbers[int(random.integers(len(numbers)))]))


def kill_two_processes(space: Workspace, random: np.random.Generator, kills: int) -> tuple[Outcome, str]:
    """Kill both ranks of an adversarial run again and again, then compare with an undisturbed one."""
    with space.folder() as folder:
        steps = GAN_STEPS_PER_KILL * kills
        words = (*GAN, f"data.root={gan_shards(folder / 'shards')}", f"loop.max_steps={steps}")
        undisturbed, run = folder / "undisturbed", folder / "run"
        started = time.monotonic()
        short = outcome(train_words((*words, "loop.max_steps=2"), folder / "short"), folder / "log-short", ranks=2)
        seconds = time.monotonic() - started
        code = short or outcome(train_words(words, undisturbed), folder / "log-undisturbed", ranks=2)
        if code != 0:
            return Outcome.CRASHED, f"the undisturbed run ended with exit code {code}"
        expected = read_weights(undisturbed, steps)
        killed = lives = runs = 0
        while killed < kills and lives < 4 * kills:
            children = start(train_words(words, run), folder / "log", ranks=2)
            signal_after(children, float(random.uniform(0.2, 2.0)) * seconds, int(signal.SIGKILL))
            code = wait(children)
            lives, killed = lives + 1, killed + (code == 128 + signal.SIGKILL)
            if code == 0:  # finished before the next kill: compare it, and go on with another
                if not same_bits(read_weights(run, steps), expected):
                    return Outcome.SILENT, f"run {runs} differs after {killed} kills of two processes"
                runs, run = runs + 1, folder / f"run-{runs + 1}"
        code = outcome(train_words(words, run), folder / "log", ranks=2)
        right = code == 0 and killed == kills and same_bits(read_weights(run, steps), expected)
        return of_code(code, right=right), f"{killed} kills of two processes in {runs + 1} runs, exit code {code}"


def _signalled(space: Workspace, random: np.random.Generator, number: int) -> tuple[Outcome, str]:
    with space.folder() as folder:
        run, moments = folder / "run", []
        for _ in range(int(random.integers(1, 4))):
            moment = float(random.uniform(0, 1.1 * space.seconds))
            moments.append(round(moment, 3))
            children = start(train_words(space.words, run), folder / "log")
            signal_after(children, moment, number)
            if wait(children) == HUNG:
                return Outcome.HUNG, f"{signal.Signals(number).name} after {moments} s"
        return _resumed(space, run, folder), f"{signal.Signals(number).name} after {moments} s"


def _resumed(space: Workspace, run: Path, folder: Path) -> Outcome:
    """Start the run again and compare its end; here a refusal is no better than a crash."""
    code = outcome(train_words(space.words, run), folder / "log")
    result = of_code(code, right=code == 0 and space.is_right(run))
    return Outcome.CRASHED if result is Outcome.REFUSED else result
