"""ClearML: a server, or sessions in RUN/clearml for `Task.import_offline_session`."""

import os

import numpy as np

from quell.launch.runs.tracker import Ending
from quell.launch.runs.trackers.backend import Backend

_SESSION = "offline-"
"""How the ids of tasks begin that exist in a session only; each start without a network writes one."""


class Clearml(Backend):
    """The project is `project`. Nothing that ClearML could collect by itself is: output, arguments, files."""

    accelerate_name = "clearml"

    def start(self) -> str:
        """Start or continue the task; the server gives it an id."""
        tracking, identity = self.run.tracking, self.identity
        self.keeps_at_once = not tracking.offline
        if tracking.offline:
            os.environ["CLEARML_CACHE_DIR"] = str((self.run.run_dir / "clearml").resolve())
        is_session = (identity or "").startswith(_SESSION)
        from clearml import Task

        Task.set_offline(tracking.offline)
        self.begin(
            tracking.project,
            task_name=self.run.name,
            tags=list(tracking.tags),
            output_uri=tracking.clearml.output_uri,
            continue_last_task=False if tracking.offline or is_session else identity or False,
            reuse_last_task_id=False,
            auto_connect_arg_parser=False,
            auto_connect_frameworks=False,
            auto_connect_streams=False,
            auto_resource_monitoring=False,
        )
        self.tracker.tracker.set_initial_iteration(0)  # steps are counted from the run's start, not from this one
        return str(identity if identity and (tracking.offline or not is_session) else self.tracker.tracker.id)

    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """Send a picture, uint8 (H, W, 3)."""
        self.tracker.tracker.get_logger().report_image(name, name, iteration=step, image=picture_HWC)

    def finish(self, ending: Ending) -> None:
        """Send what is left, and end the task there; a session in files has no state."""
        from clearml import Task

        identity = self.tracker.tracker.id
        self.tracker.finish()  # the server calls it completed
        if ending == "finished" or self.is_offline(self.run):
            return
        task: Task = Task.get_task(task_id=identity)
        if ending == "stopped":
            task.mark_stopped(force=True)
        else:
            task.mark_failed(force=True)
