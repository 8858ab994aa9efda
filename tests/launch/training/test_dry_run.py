"""What a dry run prints, and that it refuses what would fail in the first step."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.support import common
from quell.launch.runs.trackers import choice
from quell.pipelines.base import Batch, PhaseOutput
from quell.pipelines.tcfl import Tcfl
from tests.support.small_runs import TrainSmall, single_error

CNCL = (
    "{name: cncl, content: {name: unet, width: 4}, noise: {name: dncnn, depth: 3, width: 4, residual: false}, "
    "critic: {name: patch_discriminator, width: 4}}"
)
MSSSIM = "{name: supervised, network: {name: dncnn, depth: 3, width: 4}, losses: {msssim: {weight: 1, scales: 3}}}"


def test_a_dry_run_prints_sizes_and_writes_nothing(train_small: TrainSmall, tmp_path: Path) -> None:
    code, output = train_small(options=("--dry-run",))
    assert code == 0 and not (tmp_path / "run").exists()
    assert "26 samples of pd, pd_clean, pdfs, pdfs_clean in 1 shards" in output
    assert "3.25 steps per epoch, 4 steps" in output and "encoder" in output and "parameters" in output


@pytest.mark.parametrize(
    ("method", "code", "message"),
    [
        (CNCL, 4, "patch_discriminator: images must be at least 32x32 px, got 24x24: raise data.crop"),
        (MSSSIM, 2, "msssim with 3 scales and a window of 11 px needs images of more than 40 px a side, got 24x24"),
    ],
    ids=["critic", "msssim"],
)
@pytest.mark.parametrize("mode", ["indexed", "stream"])
def test_a_dry_run_refuses_what_would_fail_in_the_first_step(
    train_small: TrainSmall, tmp_path: Path, method: str, code: int, message: str, mode: str
) -> None:
    exit_code, output = train_small(
        f"pipeline={method}",
        "data.representation=magnitude",
        "data.crop=24",
        f"data.mode={mode}",
        "data.fields={noisy: pd, clean: pd_clean}",
        options=("--dry-run",),
    )
    assert exit_code == code and message in single_error(output) and not (tmp_path / "run").exists()
    assert "26 samples of pd, pd_clean, pdfs, pdfs_clean" in output, (
        "the description of the run is printed before the error"
    )


def test_a_dry_run_executes_a_method_that_calibrates_its_noise_level(train_small: TrainSmall, tmp_path: Path) -> None:
    code, output = train_small(
        "pipeline={name: r2r, sigma: estimate, network: {name: dncnn, depth: 3, width: 4}}",
        "data.fields={noisy: pd}",
        "data.mode=stream",
        options=("--dry-run",),
    )
    assert code == 0 and "3.25 steps per epoch" in output and not (tmp_path / "run").exists(), output


def test_a_dry_run_stores_no_activations_but_computes_a_gradient_penalty(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = common.write_shards(tmp_path / "data", side=32, count=2)
    requires_grad: list[bool] = []
    loss = Tcfl.loss

    def recording_loss(method: Tcfl, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        output = loss(method, phase, batch, carry)
        requires_grad.append(output.loss.requires_grad)
        return output

    monkeypatch.setattr(Tcfl, "loss", recording_loss)
    code, output = train_small(
        "pipeline={name: tcfl, generator: {name: dncnn, depth: 3, width: 4, residual: false}, "
        "critic: {name: patch_discriminator, width: 4}, gan: wgan_gp}",
        f"data.root={root}",
        "data.crop=32",
        options=("--dry-run",),
    )
    assert code == 0 and len(requires_grad) == 2, output
    assert not requires_grad[0], "only the critic's loss needs a graph, for its gradient penalty"


@pytest.mark.skipif(torch.accelerator.is_available(), reason="GPUs support fp16")
def test_a_dry_run_refuses_a_precision_that_the_device_does_not_support(train_small: TrainSmall) -> None:
    code, output = train_small("loop.precision=fp16", options=("--dry-run",))
    assert code == 2 and "fp16 needs a GPU" in single_error(output)


def test_a_dry_run_refuses_a_tracker_that_is_not_installed(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: None)
    code, output = train_small("tracking.wandb_project=mine", options=("--dry-run",))
    assert code == 6 and "wandb is not installed" in single_error(output)
