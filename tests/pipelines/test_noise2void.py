"""Noise2Void: masks as wide as the noise is correlated, no leak into what the network sees, and its findings."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from quell.configs.fields import FieldSpec
from quell.losses.noise.model import FieldNoise, NoiseModel, spectrum_of_kernel
from quell.pipelines.noise2void import MASK, Noise2Void

NETWORK = {"name": "dncnn", "depth": 3, "width": 4}


def normals(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def method(**settings: Any) -> Noise2Void:
    config = Noise2Void.Config(name="noise2void", network=NETWORK, **settings)
    return Noise2Void(config, {"noisy": FieldSpec(1)})


def streaks(count: int, side: int) -> Tensor:
    """Noise of unit variance, averaged over three columns."""
    return functional.avg_pool2d(normals(1, count, 1, side, side + 2), (1, 3), 1) * 3**0.5


def batch(noisy: Tensor) -> dict[str, Tensor]:
    return {
        "noisy": noisy,
        "noisy_scale": torch.ones(len(noisy), 1, 1, 1),
        "spots": normals(2, *noisy.shape),
        "replacement": normals(3, *noisy.shape),
        "index": torch.arange(len(noisy)),
    }


@pytest.mark.parametrize(("columns", "leaks"), [(0, True), (2, False)])
def test_what_is_seen_near_a_centre_is_independent_of_its_noise_with_a_mask_that_is_wide_enough(
    columns: int, leaks: bool
) -> None:
    noisy = batch(streaks(20, 96))
    made = method(mask={"rows": 0, "columns": columns})
    seen, centre = made._with_spots(noisy["noisy"], noisy["spots"], noisy["replacement"])
    inner = centre.clone()
    inner[..., :4], inner[..., -4:] = False, False
    shares = []
    for shift in range(-3, 4):
        products = (torch.roll(seen, shift, -1) * noisy["noisy"])[inner]
        shares.append(abs(float(products.mean())) / (float(products.std()) / products.numel() ** 0.5))
    assert (max(shares) > 20) == leaks
    assert leaks or max(shares) < 5


def test_auto_hides_as_many_neighbours_as_the_noise_is_correlated_with() -> None:
    made = method()
    made.calibrate([batch(0.5 + 0.1 * streaks(4, 128))])
    assert (made.extent.rows, made.extent.columns) == (0, 2)
    assert made.get_buffer(MASK).tolist() == [0, 2]
    assert not made.warnings()
    other = method()
    other.load_checkpoint_state(made.checkpoint_state())
    assert other.extent == made.extent
    made.calibrate([batch(0.5 + 0.1 * normals(5, 4, 1, 128, 128))])
    assert made.extent == (0, 0)


def test_a_mask_that_is_too_narrow_is_warned_of() -> None:
    made = method(mask={"rows": 3, "columns": 1})
    kernel = torch.ones(1, 5).numpy().astype(float)
    made.found = NoiseModel({"noisy": FieldNoise(0.1, spectrum_of_kernel(kernel))})
    (sentence,) = made.warnings()
    assert "over 0 rows and 4 columns" in sentence and "hides 3 and 1" in sentence


def test_the_loss_compares_the_centres_alone() -> None:
    noisy, made = batch(normals(4, 2, 1, 24, 24)), method(mask={})
    made.network = nn.Identity()
    seen, centre = made._with_spots(noisy["noisy"], noisy["spots"], noisy["replacement"])
    expected = (seen - noisy["noisy"])[centre].square().mean()
    assert torch.isclose(made.loss("restorer", noisy, {}).loss, expected)


class Brighten(nn.Module):
    """Adds one."""

    def forward(self, image_NCHW: Tensor) -> Tensor:
        return image_NCHW + 1


def test_with_passes_every_pixel_that_was_a_centre_is_restored_unseen() -> None:
    noisy = batch(torch.zeros(1, 1, 16, 16))
    hidden = 0.25
    made = method(mask={}, hidden=hidden, passes=40)
    made.network = Brighten()
    noisy["noisy"] = noisy["noisy"] + torch.arange(256.0).reshape(1, 1, 16, 16)
    restored = made.restore(noisy)["restored"]
    unseen = (restored - noisy["noisy"] - 1).abs() > 1e-4  # a mean of neighbours is the pixel itself by chance only
    assert float(unseen.float().mean()) > 0.9
    assert torch.equal(made.restore(noisy)["restored"], restored)
    published = method(mask={})
    published.network = Brighten()
    assert torch.equal(published.restore(noisy)["restored"], noisy["noisy"] + 1)


def test_a_network_that_copies_what_it_sees_is_found_out() -> None:
    noisy, made = batch(normals(6, 2, 1, 48, 48)), method(mask={})
    made.network = nn.Identity()
    copied = made.diagnostics(noisy, {})["visible_over_blind"]
    assert copied.shape == (2,) and float(copied.max()) == 0
    (finding,) = made.findings({"visible_over_blind": 0.0})
    assert not finding.ok and "copies noise" in finding.message
    made.network = nn.AvgPool2d(1, 1)
    blind = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        blind.weight.fill_(1 / 8)
        blind.weight[..., 1, 1] = 0
    made.network = blind
    with torch.no_grad():
        unused = made.diagnostics(noisy, {})["visible_over_blind"]
    assert float(unused.min()) > 0.95
    assert made.findings({"visible_over_blind": float(unused.mean())})[0].ok
