"""MLflow: a tracking server, or the database RUN/mlflow/mlflow.db with the pictures beside it."""

import os
from pathlib import Path

import numpy as np

from quell.configs.support.event_log import CURVES
from quell.configs.support.mappings import flatten
from quell.configs.tracking import TrackingConfig
from quell.launch.runs.tracker import Ending
from quell.launch.runs.trackers.backend import Backend
from quell.launch.runs.trackers.ledger import Steps

_EVERYWHERE = "epoch"
"""Logged with every point of every curve."""
_STATUS: dict[Ending, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


def uri_of(tracking: TrackingConfig, run_dir: Path) -> str:
    """Where the run is tracked."""
    if not tracking.offline and (given := tracking.mlflow.uri or os.environ.get("MLFLOW_TRACKING_URI")):
        return given
    return f"sqlite:///{(run_dir / 'mlflow' / 'mlflow.db').resolve()}"


class Mlflow(Backend):
    """The experiment is `project`."""

    accelerate_name = "mlflow"

    def start(self) -> str:
        """Start or continue the run; the server gives it an id."""
        import mlflow

        tracking, uri = self.run.tracking, uri_of(self.run.tracking, self.run.run_dir)
        is_local = uri.startswith("sqlite:///")
        folder = self.run.run_dir / "mlflow"
        if is_local:
            folder.mkdir(exist_ok=True)
        mlflow.set_tracking_uri(uri)
        self.begin(
            tracking.project,
            run_id=self._known_there(),
            run_name=self.run.name,
            tags=dict.fromkeys(tracking.tags, "true"),
            logging_dir=(folder / "artifacts").resolve().as_uri() if is_local else None,
        )
        return str(self.tracker.tracker.info.run_id)

    def sent(self) -> Steps:
        """What the server holds."""
        from mlflow import MlflowClient

        held = {}
        for kind in CURVES.values():
            history = MlflowClient().get_metric_history(self.tracker.tracker.info.run_id, f"{kind}/{_EVERYWHERE}")
            held[kind] = max((point.step for point in history), default=-1)
        return held

    def configure(self) -> None:
        """Send the configuration: as parameters, of which one that is there already cannot change, and as a file."""
        import mlflow

        known = mlflow.get_run(self.tracker.tracker.info.run_id).data.params
        flat = {name: str(value) for name, value in flatten(self.run.config).items()}
        self.tracker.store_init_configuration({name: value for name, value in flat.items() if name not in known})
        mlflow.log_dict(self.run.config, "config.yaml")

    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """Send a picture, uint8 (H, W, 3)."""
        import mlflow

        mlflow.log_image(picture_HWC, key=name, step=step)

    def finish(self, ending: Ending) -> None:
        """End the run there; every call has sent what it was given."""
        import mlflow

        mlflow.end_run(_STATUS[ending])

    def _known_there(self) -> str | None:
        """The run's id; None where this server or database has no such run, because the run was tracked elsewhere."""
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            return None if self.identity is None else str(MlflowClient().get_run(self.identity).info.run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
