"""The estimated risk is the true mean squared error, on average, for restorations whose truth is known."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from quell.configs.fields import FieldSpec, Needs, Source
from quell.configs.schema import PipelineConfig
from quell.launch.evaluation.risk import estimated_risk
from quell.losses.noise.model import FieldNoise, spectrum_of_kernel
from quell.pipelines.base import Batch, Output, PhaseOutput, Pipeline

SIGMA, SCALE, SIZE, IMAGES = 0.1, 4.0, 96, 24
KERNEL = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])
RAMP = np.linspace(0.5, 1.5, 8)[None].repeat(8, 0)
NOISES = {
    "white": FieldNoise(SIGMA),
    "correlated": FieldNoise(SIGMA, spectrum_of_kernel(KERNEL)),
    "varying": FieldNoise(SIGMA, level_map=RAMP / np.sqrt(np.mean(RAMP**2))),
}


class Smoothing(Pipeline[PipelineConfig]):
    """Blurs, and shrinks what is left non-linearly; in units of the batch, which are a quarter of the stored ones."""

    def __init__(self) -> None:
        super().__init__(PipelineConfig(name="smoothing"), {"noisy": FieldSpec(1)})
        self.phases, self.outputs = {}, {"restored": Output("noisy", "clean")}

    @classmethod
    def needs(cls, config: PipelineConfig) -> Needs:
        return Needs({"noisy": Source(), "clean": Source()})

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        raise AssertionError("never trained")

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        x = batch["noisy"]
        parts = [x.real, x.imag] if x.is_complex() else [x]
        smooth = [functional.avg_pool2d(part, 3, 1, 1) for part in parts]
        restored = [0.9 * part + 0.02 * torch.tanh(10 * part) for part in smooth]
        return {"restored": torch.complex(*restored) if x.is_complex() else restored[0]}


def batch_of(kind: str, *, is_complex: bool = False) -> tuple[Batch, Tensor]:
    """Noisy images in units of the batch, and the clean ones in stored units."""
    random = np.random.default_rng(7)
    y, x = np.mgrid[:SIZE, :SIZE]
    clean = (0.5 + 0.4 * np.sin(x / 9) * np.cos(y / 7))[None].repeat(IMAGES, 0)
    noise = np.stack([NOISES[kind].sample(random, (SIZE, SIZE)) for _ in range(IMAGES)])
    if is_complex:
        noise = noise + 1j * np.stack([NOISES[kind].sample(random, (SIZE, SIZE)) for _ in range(IMAGES)])
    dtype = torch.complex64 if is_complex else torch.float32
    noisy = torch.from_numpy((clean + noise)[:, None] / SCALE).to(dtype)
    batch = {"noisy": noisy, "noisy_scale": torch.full((IMAGES, 1, 1, 1), SCALE), "index": torch.arange(IMAGES)}
    return batch, torch.from_numpy(clean[:, None]).to(dtype)


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("kind", NOISES)
def test_the_mean_risk_is_the_mean_squared_error(kind: str, is_complex: bool) -> None:
    batch, clean = batch_of(kind, is_complex=is_complex)
    pipeline = Smoothing().eval()
    restored = pipeline.restore(batch)
    risk = estimated_risk(pipeline, batch, restored, {"noisy": NOISES[kind]})["restored/risk"]
    assert risk.shape == (IMAGES,)
    truth = (restored["restored"] * SCALE - clean).abs().square().mean().item() / (2 if is_complex else 1)
    assert risk.mean().item() == pytest.approx(truth, rel=0.1)


def test_the_wrong_model_is_as_wrong_as_its_covariance() -> None:
    """White noise told where it is correlated: the risk of a blur comes out far too low, since its trace is smaller."""
    batch, clean = batch_of("correlated")
    pipeline = Smoothing().eval()
    restored = pipeline.restore(batch)
    truth = (restored["restored"] * SCALE - clean).square().mean().item()
    told_white = estimated_risk(pipeline, batch, restored, {"noisy": NOISES["white"]})["restored/risk"]
    assert told_white.mean().item() < 0.5 * truth


def test_the_probe_depends_on_the_sample_alone() -> None:
    batch, _ = batch_of("white")
    pipeline = Smoothing().eval()
    whole = estimated_risk(pipeline, batch, pipeline.restore(batch), {"noisy": NOISES["white"]})["restored/risk"]
    second = {name: value[3:5] for name, value in batch.items()}
    part = estimated_risk(pipeline, second, pipeline.restore(second), {"noisy": NOISES["white"]})["restored/risk"]
    torch.testing.assert_close(part, whole[3:5])


def test_fields_without_a_model_have_no_risk() -> None:
    batch, _ = batch_of("white")
    assert estimated_risk(Smoothing().eval(), batch, {"restored": batch["noisy"]}, {}) == {}


def test_half_precision_rounds_no_difference_away() -> None:
    """The residual is that of the images as they were restored; how they react to a change is measured in float32."""
    batch, _ = batch_of("white")
    network = torch.nn.Conv2d(1, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        network.weight.fill_(1 / 9)

    class Convolving(Smoothing):
        def restore(self, batch: Batch) -> dict[str, Tensor]:
            return {"restored": network(batch["noisy"]).float()}

    pipeline = Convolving().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        restored = pipeline.restore(batch)
        half = estimated_risk(pipeline, batch, restored, {"noisy": NOISES["white"]})["restored/risk"]
    full = estimated_risk(pipeline, batch, restored, {"noisy": NOISES["white"]})["restored/risk"]
    exact = estimated_risk(pipeline, batch, pipeline.restore(batch), {"noisy": NOISES["white"]})["restored/risk"]
    torch.testing.assert_close(half, exact, rtol=0.02, atol=0)
    assert not torch.allclose(full, exact, rtol=0.02, atol=0)  # what the difference to a rounded image would give
