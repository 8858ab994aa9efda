"""Weights & Biases: online, or files in RUN/wandb for `wandb sync`."""

import os
import uuid

import numpy as np

from quell.configs.support.event_log import CURVES
from quell.launch.runs.tracker import Ending
from quell.launch.runs.trackers.backend import Backend, TrackedRun
from quell.launch.runs.trackers.ledger import Steps

LOGIN_S, START_S = 1.0, 60.0
"""How long it may ask at the terminal for a key, and wait for its server, in seconds."""

_STEP = "step"
"""Logged with every point, of each kind of curves by itself."""


class WeightsAndBiases(Backend):
    """The project is `wandb_project`, or else `project`.

    Its own step is that of the run. Of several things that a killed process had to send for its last step, the server
    may hold some only, and it takes nothing more for a step that it holds: the rest is sent one step later. The values
    `train/step` and `val/step` say which step it is, and what the server holds.
    """

    accelerate_name = "wandb"

    def __init__(self, run: TrackedRun, identity: str | None, known: Steps) -> None:
        super().__init__(run, identity, known)
        self._step = self._own_step = -1
        """The step last sent, and what the server calls it."""

    def start(self) -> str:
        """Start or continue the run; its id is made up here."""
        tracking, identity = self.run.tracking, self.identity or uuid.uuid4().hex[:16]
        self.keeps_at_once = not self.is_offline(self.run)
        self.begin(
            tracking.wandb_project or tracking.project,
            entity=tracking.wandb.entity,
            group=tracking.wandb.group,
            tags=list(tracking.tags) or None,
            name=self.run.name,
            dir=str(self.run.run_dir),
            id=identity,
            resume="allow",
            mode="offline" if self.is_offline(self.run) else None,
            settings={"login_timeout": LOGIN_S, "init_timeout": START_S},
        )
        if self.tracker.tracker.resumed:
            self._own_step = self.tracker.tracker.starting_step - 1
        return identity

    @classmethod
    def is_offline(cls, run: TrackedRun) -> bool:
        """Whether it writes to the run folder, also because $WANDB_MODE says so."""
        return run.tracking.offline or os.environ.get("WANDB_MODE") == "offline"

    def sent(self) -> Steps:
        """What the server holds; nothing where it has never heard of the run."""
        if self.is_offline(self.run):
            return self.known
        run = self.tracker.tracker
        if not run.resumed:
            return {}
        held = {kind: run.summary.get(f"{kind}/{_STEP}") for kind in CURVES.values()}
        if any(held.values()):
            return {kind: int(step) for kind, step in held.items() if step is not None}
        return dict.fromkeys(CURVES.values(), run.starting_step - 1)  # a run that an earlier version began

    def log(self, values: dict[str, float], step: int) -> None:
        """Send the numbers of a step."""
        kind = next(iter(values)).split("/")[0]
        self.tracker.log({**values, f"{kind}/{_STEP}": step}, step=self._server_step(step))

    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """Send a picture, uint8 (H, W, 3)."""
        self.tracker.log_images({name: [picture_HWC]}, step=self._server_step(step))

    def finish(self, ending: Ending) -> None:
        """Send what is left, and end the run there; a stopped one counts as preempted."""
        if ending == "stopped":
            self.tracker.tracker.mark_preempting()
        self.tracker.tracker.finish(exit_code=0 if ending == "finished" else 1)

    def _server_step(self, step: int) -> int:
        if step != self._step:
            self._step, self._own_step = step, max(step, self._own_step + 1)
        return self._own_step
