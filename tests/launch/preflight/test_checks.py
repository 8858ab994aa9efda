"""Runs that would fail in their first seconds on a cluster are refused before they are submitted."""

import json
from pathlib import Path
from typing import Any

import pytest

from quell.configs import loader
from quell.launch.preflight import checks
from quell.launch.preflight.requests import Request
from quell.shards import build
from tests.support.slurm.launcher import ROOT, TINY

CONFIG = ROOT / "configs" / "cross_no_skip.yaml"


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantom knees of 32 x 32 pixels."""
    folder = tmp_path_factory.mktemp("knees") / "phantom"
    build.build(["phantom", "--size", "32", "--train", "8", "--val", "2", "--test", "2", "--output", str(folder)])
    return folder


@pytest.fixture
def request_for(knees: Path, tmp_path: Path) -> Any:
    """A function that makes a request of the tiny configuration with some changes."""

    def make(name: str = "run", *overrides: str, config: Path = CONFIG, **fields: Any) -> Request:
        tiny = TINY if config == CONFIG else {}
        settings = [f"{key}={json.dumps(value)}" for key, value in {**tiny, "data.root": str(knees)}.items()]
        text = loader.dump(loader.load(config, [*settings, *overrides]))
        return Request(name=name, config=text, run_dir=str(tmp_path / name), **fields)

    return make


def found(*requests: Request) -> list[str]:
    """The problems of the last request."""
    return checks.problems(requests)[requests[-1].name]


def test_a_run_that_would_start_has_no_problems(request_for: Any) -> None:
    assert found(request_for()) == []


def test_fields_splits_sizes_and_batches_are_checked(request_for: Any) -> None:
    (fields,) = found(request_for(config=ROOT / "configs" / "supervised.yaml"))
    assert "does not hold noisy (member 'noisy'), clean (member 'clean'), which this method needs" in fields
    (split,) = found(request_for("run", "data.val_split=nowhere"))
    assert "no shards at" in split
    (batch,) = found(request_for("run", world=3))
    assert "data.batch_size must be a multiple of 3" in batch


def test_packages_and_precision_are_checked_where_they_are_known(
    request_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    deepspeed = {"ACCELERATE_USE_DEEPSPEED": "true"}
    wandb = ("run", "tracking.wandb_project=p")
    assert "wandb is not installed" in found(request_for(*wandb))[0]
    assert found(request_for(*wandb, same_packages=False)) == []
    missing, unsupported = found(request_for("run", "loop.precision=fp16", environment=deepspeed))
    assert missing.startswith("DeepSpeed needs deepspeed and transformers") and "own loss scaler" in unsupported
    assert found(request_for("run", "loop.precision=fp16"))
    assert found(request_for("run", "loop.precision=fp16", on_cpu=False)) == []


def test_weights_of_a_stage_that_is_not_trained_yet_are_compared_by_their_shapes(request_for: Any) -> None:
    def denoise(*overrides: str) -> Request:
        init = json.dumps({"run": "wherever", "parts": ["encoder"]})
        return request_for("denoise", f"init_from={init}", *overrides, weights_of=("warmup",))

    assert found(request_for("warmup"), denoise()) == []
    (shape,) = found(request_for("warmup"), denoise("pipeline.latent_channels=4"))
    assert "holds another model's weights" in shape and "has shape" in shape
    (missing,) = found(request_for("run", "init_from.run=/nowhere"))
    assert missing.startswith("init_from.run: no checkpoint in /nowhere")


def test_a_run_that_cannot_continue_its_checkpoints_is_refused(
    request_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for()
    checkpoint = Path(request.run_dir, "checkpoints", "step-00000030")
    checkpoint.mkdir(parents=True)
    opened = checks.dry_run.open_run(loader.structure(loader.parse(request.config)), 1)
    config = loader.structure(loader.parse(request.config)).model_dump(mode="json")
    meta = {"step": 30, "config": config, "samples": 8, "data": opened.shards.fingerprint}
    monkeypatch.setattr(checks.store, "read_meta", lambda _: meta)
    monkeypatch.setattr(checks, "step_folders", lambda folder: [checkpoint] if folder == checkpoint.parent else [])
    assert found(request) == []
    assert "optimizer.lr was" in found(request_for("run", "optimizer.lr=0.5"))[0]
    assert "is at step 30, and this configuration ends at step 5" in found(request_for("run", "loop.max_steps=5"))[0]
    meta["samples"] = 7
    assert "was trained on 7 samples, but" in found(request)[0]
