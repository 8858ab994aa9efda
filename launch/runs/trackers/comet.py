"""Comet: online, or archives in RUN/comet for `comet upload`."""

import uuid

import numpy as np

from quell.launch.runs.tracker import Ending
from quell.launch.runs.trackers.backend import Backend

EMPTY_BYTES = 22
"""Size of the archive that a killed process leaves."""


class Comet(Backend):
    """The project is `project`. Nothing that Comet could collect by itself is: code, output, gradients."""

    accelerate_name = "comet_ml"

    def start(self) -> str:
        """Start or continue the experiment; its key is made up here."""
        import comet_ml

        tracking, identity = self.run.tracking, self.identity or uuid.uuid4().hex
        folder = self.run.run_dir / "comet"
        self.keeps_at_once = not tracking.offline
        if tracking.offline:
            folder.mkdir(exist_ok=True)
            for archive in folder.glob("*.zip"):
                if archive.stat().st_size <= EMPTY_BYTES:
                    archive.unlink()
        self.begin(
            tracking.project,
            workspace=tracking.comet.workspace,
            experiment_key=identity,
            online=not tracking.offline,
            # without a network Comet cannot know whether the experiment exists; it does once an archive was written
            mode="get_or_create" if not tracking.offline else "get" if self.known else "create",
            experiment_config=comet_ml.ExperimentConfig(
                offline_directory=str(folder),
                name=self.run.name,
                tags=list(tracking.tags),
                display_summary_level=0,
                log_code=False,
                log_graph=False,
                log_git_patch=False,
                auto_output_logging="",
                auto_param_logging=False,
                auto_metric_logging=False,
                parse_args=False,
            ),
        )
        return identity

    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """Send a picture, uint8 (H, W, 3)."""
        from PIL import Image

        self.tracker.tracker.log_image(Image.fromarray(picture_HWC), name=name, step=step)

    def finish(self, ending: Ending) -> None:
        """Send what is left, and end the experiment, which has no state but `ending` among its other values."""
        self.tracker.tracker.log_other("ending", ending)
        self.tracker.tracker.end()
