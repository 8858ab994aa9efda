"""What a dry run prints, and that it refuses what the first step would refuse."""

from pathlib import Path

import pytest
import torch

from benchmarks.support import common
from pipelines.tcfl import Tcfl
from tests.launch.conftest import one_sentence

CNCL = (
    "{name: cncl, content: {name: unet, width: 4}, noise: {name: dncnn, depth: 3, width: 4, residual: false}, "
    "critic: {name: patch_discriminator, width: 4}}"
)
MSSSIM = "{name: supervised, network: {name: dncnn, depth: 3, width: 4}, losses: {msssim: {weight: 1, scales: 3}}}"


def test_the_dry_run_prints_sizes_and_writes_nothing(go, tmp_path: Path) -> None:
    code, said = go(options=("--dry-run",))
    assert code == 0 and not (tmp_path / "run").exists()
    assert "26 samples of pd, pd_clean, pdfs, pdfs_clean in 1 shards" in said
    assert "3.25 steps per epoch, 4 steps" in said and "encoder" in said and "parameters" in said


@pytest.mark.parametrize(
    ("method", "code", "says"),
    [
        (CNCL, 4, "patch_discriminator: images must be at least 32x32 px, got 24x24: raise data.crop"),
        (MSSSIM, 2, "msssim with 3 scales and a window of 11 px needs images of more than 40 px a side, got 24x24"),
    ],
    ids=["critic", "msssim"],
)
@pytest.mark.parametrize("mode", ["indexed", "stream"])
def test_the_dry_run_refuses_what_the_first_step_would(
    go, tmp_path: Path, method: str, code: int, says: str, mode: str
) -> None:
    ended, said = go(
        f"pipeline={method}",
        "data.representation=magnitude",
        "data.crop=24",
        f"data.mode={mode}",
        "data.fields={noisy: pd, clean: pd_clean}",
        options=("--dry-run",),
    )
    assert ended == code and says in one_sentence(said) and not (tmp_path / "run").exists()
    assert "26 samples of pd, pd_clean, pdfs, pdfs_clean" in said, "what a dry run prints comes first"


def test_the_dry_run_tries_a_method_that_calibrates(go, tmp_path: Path) -> None:
    code, said = go(
        "pipeline={name: r2r, sigma: estimate, network: {name: dncnn, depth: 3, width: 4}}",
        "data.fields={noisy: pd}",
        "data.mode=stream",
        options=("--dry-run",),
    )
    assert code == 0 and "3.25 steps per epoch" in said and not (tmp_path / "run").exists(), said


def test_the_dry_run_keeps_no_activations_and_takes_the_slope_a_loss_asks_for(
    go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = common.shards(tmp_path / "data", side=32, count=2)
    kept = []
    loss = Tcfl.loss

    def watched(*arguments):
        step = loss(*arguments)
        kept.append(step.loss.requires_grad)
        return step

    monkeypatch.setattr(Tcfl, "loss", watched)
    code, said = go(
        "pipeline={name: tcfl, generator: {name: dncnn, depth: 3, width: 4, residual: false}, "
        "critic: {name: patch_discriminator, width: 4}, gan: wgan_gp}",
        f"data.root={root}",
        "data.crop=32",
        options=("--dry-run",),
    )
    assert code == 0 and len(kept) == 2, said
    assert not kept[0], "of the generator; the critic's loss holds a slope's graph"


@pytest.mark.skipif(torch.accelerator.is_available(), reason="a GPU has fp16")
def test_the_dry_run_refuses_a_precision_the_device_has_not(go) -> None:
    code, said = go("loop.precision=fp16", options=("--dry-run",))
    assert code == 2 and "fp16 needs a GPU" in one_sentence(said)
