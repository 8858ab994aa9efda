"""The section `tracking`: older configurations mean what they meant, and lists of trackers are checked."""

from pathlib import Path

import pytest

from quell.configs import loader
from quell.configs.errors import ConfigError
from quell.configs.tracking import TrackingConfig
from quell.launch.runs.trackers import choice


def chosen(root: Path, *overrides: str) -> tuple[str, ...]:
    return choice.chosen(loader.load(root / "configs/quickstart.yaml", list(overrides)).tracking)


def test_older_keys_choose_trackers_as_they_did(root: Path) -> None:
    assert chosen(root) == ("tensorboard",)
    assert chosen(root, "tracking.tensorboard=false") == ()
    assert chosen(root, "tracking.wandb_project=knees") == ("tensorboard", "wandb")


def test_a_list_of_trackers_is_all_of_them(root: Path) -> None:
    assert chosen(root, "tracking.trackers=[mlflow, comet]") == ("mlflow", "comet")
    assert chosen(root, "tracking.trackers=[]") == ()
    assert choice.chosen(TrackingConfig(trackers=("wandb",), wandb_project="knees")) == ("wandb",)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tracking.trackers=[mlflow, mlflow]", "tracking.trackers: names a tracker twice: mlflow, mlflow"),
        ("tracking.trackers=[neptune]", "tracking.trackers.0"),
        ("tracking.mlflow.server=x", "tracking.mlflow.server: unknown key"),
        ("tracking.mlflow.uri=https://me:pw@host", "tracking.mlflow.uri: contains credentials"),
        ("tracking.clearml.output_uri=s3://me:pw@bucket", "tracking.clearml.output_uri: contains credentials"),
    ],
)
def test_mistakes_are_named(root: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        chosen(root, override)
    assert message in str(error.value), str(error.value)
    assert "pw" not in str(error.value)


def test_a_project_without_its_tracker_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="wandb_project is given, but trackers does not name wandb"):
        chosen(root, "tracking.wandb_project=p", "tracking.trackers=[mlflow]")
