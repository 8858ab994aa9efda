"""SURE: its divergence against the exact Jacobian, and its estimate against the true error, for correlated noise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quell.configs.fields import FieldSpec
from quell.losses.noise.model import FieldNoise, NoiseModel, spectrum_of_kernel
from quell.pipelines.common.self_supervised.divergence import divergence
from quell.pipelines.sure import Sure

NETWORK = {"name": "dncnn", "depth": 3, "width": 4}
SIGMA = 0.2
KERNEL = np.outer([1.0, 2, 1], [1.0, 2, 1])


def normals(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Smoothing(nn.Module):
    """A linear network: a convolution that smooths."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        with torch.no_grad():
            self.convolution.weight.copy_(torch.from_numpy(KERNEL / KERNEL.sum()))

    def forward(self, image_NCHW: Tensor) -> Tensor:
        restored: Tensor = self.convolution(image_NCHW)
        return restored


class Threshold(nn.Module):
    """A network that is not linear: shrink what is smaller than two standard deviations of the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(2 * SIGMA))

    def forward(self, image_NCHW: Tensor) -> Tensor:
        return image_NCHW * torch.sigmoid(8 * (image_NCHW.abs() - self.threshold))


def method(path: Path, noise: FieldNoise, network: nn.Module | None = None) -> Sure:
    file = path / "noise.npz"
    NoiseModel({"noisy": noise}).save(file)
    settings: dict[str, Any] = {"sigma": noise.sigma, "noise": {"given": str(file)}}
    made = Sure(Sure.Config(name="sure", network=NETWORK, **settings), {"noisy": FieldSpec(1)})
    made.network = network or made.network
    made.calibrate([{"noisy": 0.5 + SIGMA * normals(9, 2, 1, 64, 64), "noisy_scale": torch.ones(2, 1, 1, 1)}])
    return made


def correlated() -> FieldNoise:
    return FieldNoise(SIGMA, spectrum_of_kernel(KERNEL))


def test_the_divergence_of_one_probe_is_its_quadratic_form_with_the_jacobian() -> None:
    network, image, probe = Smoothing(), normals(0, 1, 1, 6, 7), normals(1, 1, 1, 6, 7)
    jacobian = torch.autograd.functional.jacobian(network, image).reshape(42, 42)
    estimate = divergence(network, image, network(image), probe).sum()
    assert torch.isclose(estimate, probe.flatten() @ jacobian @ probe.flatten(), rtol=1e-3)


def test_probes_with_the_covariance_of_the_noise_give_the_trace_with_it(tmp_path: Path) -> None:
    network, side = Smoothing(), 8
    made = method(tmp_path, correlated(), network)
    image = torch.zeros(1, 1, side, side)
    jacobian = torch.autograd.functional.jacobian(network, image).reshape(side**2, side**2)
    impulses = torch.eye(side**2).reshape(-1, 1, side, side)
    amplitude = SIGMA * made.noise_level.coloured("noisy", impulses, image, None).reshape(side**2, side**2)
    covariance = amplitude.T @ amplitude  # of the noise that `coloured` draws
    probes = SIGMA * made.noise_level.coloured("noisy", normals(2, 20_000, 1, side, side), image, None)
    with torch.no_grad():
        images = image.expand_as(probes)
        samples = divergence(network, images, network(images), probes).sum((1, 2, 3))
    assert float(samples.mean()) == pytest.approx(
        float((jacobian @ covariance).trace()), abs=float(4 * samples.std() / 141)
    )


@pytest.mark.parametrize("noise", [FieldNoise(SIGMA), correlated()], ids=["white", "correlated"])
@pytest.mark.parametrize("network", [Smoothing(), Threshold()], ids=["linear", "nonlinear"])
def test_the_risk_is_an_unbiased_estimate_of_the_error_to_the_clean_image(
    noise: FieldNoise, network: nn.Module, tmp_path: Path
) -> None:
    made, side, count = method(tmp_path, noise, network), 64, 200
    clean = 0.2 * torch.linspace(0, 6.28, side).sin().expand(count, 1, side, side)
    random = np.random.default_rng(3)
    padded = side + made.noise_level.margin_px  # noise is drawn periodic
    drawn = np.stack([noise.sample(random, (padded, padded))[:side, :side] for _ in range(count)])
    noisy = clean + torch.from_numpy(drawn).float()[:, None]
    batch = {
        "noisy": noisy,
        "noisy_scale": torch.ones(count, 1, 1, 1),
        "probe": normals(4, count, 1, padded, padded),
    }
    with torch.no_grad():
        risk = made._risk(batch, batch["probe"])[0].flatten(1).mean(1)
        error = (network(noisy) - clean).square().flatten(1).mean(1)
        loss = made.loss("restorer", batch, {})
    difference = risk - error
    assert abs(float(difference.mean())) < 4 * float(difference.std()) / count**0.5
    assert float(difference.std()) / count**0.5 < 0.03 * SIGMA**2  # the test could tell a wrong covariance
    assert torch.isclose(loss.scalars["mse_to_clean"], risk.mean())


def test_a_wrong_spectrum_biases_the_risk(tmp_path: Path) -> None:
    made, side = method(tmp_path, FieldNoise(SIGMA), Smoothing()), 64
    random = np.random.default_rng(3)
    noisy = torch.from_numpy(np.stack([correlated().sample(random, (side, side)) for _ in range(60)])).float()[:, None]
    batch = {"noisy": noisy, "noisy_scale": torch.ones(60, 1, 1, 1), "probe": normals(4, 60, 1, side, side)}
    with torch.no_grad():
        difference = made._risk(batch, batch["probe"])[0].mean() - made.network(noisy).square().mean()
    assert abs(float(difference)) > 0.2 * SIGMA**2


def test_diagnostics_give_the_risk_in_stored_units(tmp_path: Path) -> None:
    made = method(tmp_path, FieldNoise(SIGMA), Smoothing())
    noisy = SIGMA * normals(6, 2, 1, 32, 32)
    scales = torch.tensor([1.0, 4.0]).view(2, 1, 1, 1)
    batch = {"noisy": noisy / scales, "noisy_scale": scales, "index": torch.tensor([0, 0])}
    batch["noisy"][1] = batch["noisy"][0] / 4
    with torch.no_grad():
        risk = made.diagnostics(batch, made.restore(batch))["mse_to_clean"]
    assert torch.isclose(risk[0], risk[1], rtol=1e-3)


def test_it_warns_of_noise_that_follows_the_signal(tmp_path: Path) -> None:
    made = method(tmp_path, FieldNoise(SIGMA))
    made.found = NoiseModel({"noisy": FieldNoise(SIGMA, gain=0.03)})
    assert any("grows with the signal" in sentence for sentence in made.warnings())


@pytest.mark.parametrize(
    ("risk", "is_ok", "word"), [(0.01, True, "below"), (-0.001, False, "negative"), (0.05, False, "0.04")]
)
def test_findings_judge_the_estimated_error(risk: float, is_ok: bool, word: str, tmp_path: Path) -> None:
    (finding,) = method(tmp_path, FieldNoise(SIGMA)).findings({"mse_to_clean": risk})
    assert finding.ok == is_ok and word in finding.message
    assert not method(tmp_path, FieldNoise(SIGMA)).findings({})
