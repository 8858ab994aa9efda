"""Magnitudes: their mean at a signal, its inverse, and their noise in units that do not depend on the signal."""

import pytest
import torch

from quell.pipelines.common import rician

SIGMA = torch.tensor(0.1)


def test_the_mean_is_the_inverse_of_the_correction_at_every_signal() -> None:
    signals = torch.cat([torch.linspace(0.02, 1.4, 200), torch.tensor([5.0, 100.0])])
    means = rician.expected(signals, SIGMA)
    assert torch.allclose(rician.from_mean(means, SIGMA), signals, rtol=1e-3, atol=1e-3)
    assert float(rician.expected(torch.zeros(1), SIGMA)) == pytest.approx(0.1 * (torch.pi / 2) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("signal", [0.0, 0.05, 0.1, 0.3, 2.0])
def test_the_residual_of_a_magnitude_has_mean_0_and_the_deviation_of_a_component(signal: float) -> None:
    parts = torch.randn(2, 100_000, generator=torch.Generator().manual_seed(0)) * SIGMA
    clean = torch.full((100_000,), signal)
    residual = rician.residual(torch.hypot(clean + parts[0], parts[1]), clean, SIGMA)
    assert float(residual.mean()) == pytest.approx(0, abs=1.5e-3)
    assert float(residual.std()) == pytest.approx(0.1, rel=0.01)
