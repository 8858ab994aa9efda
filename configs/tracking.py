"""The section `tracking` of a configuration: what is logged while training, and which trackers receive it."""

from typing import Literal

from pydantic import field_validator, model_validator

from quell.configs.registry import SettingsError
from quell.configs.sections import Positive, Section
from quell.configs.support.secrets import has_secret

TrackerName = Literal["tensorboard", "wandb", "mlflow", "comet", "clearml"]
"""Name of a tracker in a YAML file."""


class WandbConfig(Section):
    """Weights & Biases; the API key is read from `wandb login` or $WANDB_API_KEY."""

    entity: str | None = None
    """User or team that owns the project; null takes the account's own."""
    group: str | None = None
    """Group that the run is shown in, such as the name of a sweep."""


def _without_secret(uri: str | None, place: str) -> str | None:
    """The address itself; SettingsError for one with credentials, which belong in `place`."""
    if uri is not None and has_secret(uri):
        raise SettingsError([f"contains credentials; give them in {place}"])
    return uri


class MlflowConfig(Section):
    """MLflow; name and password are read from $MLFLOW_TRACKING_USERNAME and $MLFLOW_TRACKING_PASSWORD."""

    uri: str | None = None
    """Tracking server or database; null takes $MLFLOW_TRACKING_URI, else the database RUN/mlflow/mlflow.db."""

    @field_validator("uri")
    @classmethod
    def _has_no_password(cls, uri: str | None) -> str | None:
        return _without_secret(uri, "$MLFLOW_TRACKING_USERNAME and _PASSWORD")


class CometConfig(Section):
    """Comet; the API key is read from `comet login` or $COMET_API_KEY."""

    workspace: str | None = None
    """Workspace that owns the project; null takes the account's own."""


class ClearmlConfig(Section):
    """ClearML; server and keys are read from `clearml-init` or $CLEARML_API_HOST and its companions."""

    output_uri: str | None = None
    """Where the server keeps files of the run; null is its own file server."""

    @field_validator("output_uri")
    @classmethod
    def _has_no_password(cls, uri: str | None) -> str | None:
        return _without_secret(uri, "clearml.conf (`clearml-init`)")


class TrackingConfig(Section):
    """What is logged while training, and where it is sent (docs/tracking.md)."""

    log_every: Positive = 20
    """Steps between log lines; only then does the training thread wait for the device."""
    gradients: bool = False
    """Log the gradient norm of each network of a phase, beside that of the phase; not under DeepSpeed."""
    tensorboard: bool = True
    """Write TensorBoard event files to RUN/tensorboard, where `trackers` does not say otherwise."""
    wandb_project: str | None = None
    """Project at Weights & Biases. Where `trackers` is null, curves and pictures are sent there."""
    trackers: tuple[TrackerName, ...] | None = None
    """All trackers of the run, e.g. [tensorboard, wandb, mlflow]; null is TensorBoard, where `tensorboard` is true, and
    Weights & Biases, where `wandb_project` is given. metrics.jsonl is written in any case."""
    project: str = "quell"
    """Project at Weights & Biases (unless `wandb_project` is given), Comet and ClearML, and experiment at MLflow."""
    tags: tuple[str, ...] = ()
    """Tags of the run at every tracker that has tags."""
    offline: bool = False
    """Use no network: Weights & Biases, MLflow, Comet and ClearML write to the run folder, to be sent later."""
    wandb: WandbConfig = WandbConfig()
    mlflow: MlflowConfig = MlflowConfig()
    comet: CometConfig = CometConfig()
    clearml: ClearmlConfig = ClearmlConfig()

    @field_validator("trackers", mode="before")
    @classmethod
    def _are_different(cls, trackers: object) -> object:
        if isinstance(trackers, list | tuple) and len(set(map(str, trackers))) < len(trackers):
            raise SettingsError([f"names a tracker twice: {', '.join(map(str, trackers))}"])
        return trackers

    @model_validator(mode="after")
    def _agree(self) -> "TrackingConfig":
        if self.trackers is None:
            return self
        if self.wandb_project is not None and "wandb" not in self.trackers:
            raise SettingsError(["wandb_project is given, but trackers does not name wandb: add it, or leave it out"])
        return self
