"""Weights & Biases: online, or files in RUN/wandb for `wandb sync`."""

import os
import uuid

import numpy as np

from quell.configs.support.event_log import CURVES
from quell.launch.runs.trackers.backend import Backend
from quell.launch.runs.trackers.ledger import Steps

LOGIN_S, START_S = 1.0, 60.0
"""How long it may ask at the terminal for a key, and wait for its server, in seconds."""


class WeightsAndBiases(Backend):
    """The project is `wandb_project`, or else `project`."""

    accelerate_name = "wandb"

    def start(self) -> str:
        """Start or continue the run; its id is made up here."""
        tracking, identity = self.run.tracking, self.identity or uuid.uuid4().hex[:16]
        self.keeps_at_once = not self._is_offline()
        self.begin(
            tracking.wandb_project or tracking.project,
            entity=tracking.wandb.entity,
            group=tracking.wandb.group,
            tags=list(tracking.tags) or None,
            name=self.run.name,
            dir=str(self.run.run_dir),
            id=identity,
            resume="allow",
            mode="offline" if self._is_offline() else None,
            settings={"login_timeout": LOGIN_S, "init_timeout": START_S},
        )
        return identity

    def sent(self) -> Steps:
        """What the server holds, which takes nothing for a step before its own."""
        run = self.tracker.tracker
        if self._is_offline() or not run.resumed:
            return self.known
        return dict.fromkeys(CURVES.values(), run.starting_step - 1)

    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """Send a picture, uint8 (H, W, 3)."""
        self.tracker.log_images({name: [picture_HWC]}, step=step)

    def _is_offline(self) -> bool:
        return self.run.tracking.offline or os.environ.get("WANDB_MODE") == "offline"
