"""Views of cross-guided training: inputs are independent of their target's noise. And the correction of magnitudes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.configs.loader import structure
from quell.pipelines.common import guided_views, rician
from tests.pipelines.test_cross_guided import SIGMA, batch, make, normals, pictures

WIDTHS = [1, 2]


def noisy_stack(side: int = 400) -> tuple[Tensor, Tensor, Tensor]:
    """Three noisy channels around 0.5, a standard normal draw of the same shape, and the noise levels."""
    noise = SIGMA * normals(2, 3, side, side, seed=3)
    return 0.5 + noise, normals(2, 3, side, side, seed=4), torch.full((2, 3, 1, 1), SIGMA)


@pytest.mark.parametrize("scheme", ["stack", "own", "masked"])
def test_inputs_are_independent_of_the_targets_noise_where_they_are_compared(scheme: guided_views.Scheme) -> None:
    noisy, normal, sigma = noisy_stack()
    seen, target, mask = guided_views.training(scheme, noisy, normal, sigma=sigma, alpha=0.5, widths=WIDTHS)
    mask = torch.ones_like(seen) if mask is None else mask
    assert len(seen) == len(target) == len(mask) == (2 if scheme == "stack" else 4)
    for shift in (0, 1):  # the pixel itself and its neighbour
        moved = torch.roll(seen, shift, dims=-1) - 0.5
        for channel in range(3):
            here = mask[:, channel] > 0
            for input_channel in range(3):
                products = (moved[:, input_channel] * (target[:, channel] - 0.5))[here] / SIGMA**2
                assert abs(float(products.mean())) < 5 * float(products.std()) / products.numel() ** 0.5


def test_views_of_a_contrast_show_the_other_contrasts_unchanged() -> None:
    noisy, normal, sigma = noisy_stack(32)
    for scheme in ("own", "masked"):
        seen, _, mask = guided_views.training(scheme, noisy, normal, sigma=sigma, alpha=0.5, widths=WIDTHS)
        assert mask is not None
        assert torch.equal(seen[:2, 1:], noisy[:, 1:]) and torch.equal(seen[2:, :1], noisy[:, :1])
        assert not mask[:2, 1:].any() and not mask[2:, :1].any()
        assert torch.equal(seen[:2, :1] != noisy[:, :1], mask[:2, :1] > 0)
    assert mask is not None and mask[:2, :1].mean() == pytest.approx(guided_views.HIDDEN, rel=0.2)
    first = noisy + 1
    shown = guided_views.inference("own", noisy, first, WIDTHS)
    assert torch.equal(guided_views.merged("own", shown, WIDTHS), first)
    assert torch.equal(guided_views.inference("masked", noisy, first, WIDTHS), noisy)


def test_a_hidden_pixel_is_replaced_by_a_visible_neighbour() -> None:
    noisy = torch.arange(64.0).view(1, 1, 8, 8)
    normal = torch.full((1, 1, 8, 8), 3.0)
    normal[0, 0, 4, 4] = normal[0, 0, 3, 3] = -3.0
    seen, target, _ = guided_views.training("masked", noisy, normal, sigma=torch.ones(1), alpha=0.5, widths=[1])
    neighbours = {float(noisy[0, 0, y, x]) for y in (3, 4, 5) for x in (3, 4, 5)} - {4 * 8 + 4, 3 * 8 + 3}
    assert float(seen[0, 0, 4, 4]) in neighbours
    assert torch.equal(target, noisy) and int((seen != noisy).sum()) == 2
    drawn = torch.full((1, 1, 400, 400), 3.0)
    drawn[..., ::3, ::3] = torch.special.ndtri(guided_views.HIDDEN * (torch.arange(134 * 134) + 0.5) / 134**2).view(
        134, 134
    )
    place = torch.arange(160_000.0).view(1, 1, 400, 400)
    moved = guided_views.training("masked", place, drawn, sigma=torch.ones(1), alpha=0.5, widths=[1]).seen - place
    counts = moved[..., 3:-3:3, 3:-3:3].unique(return_counts=True)[1]
    assert len(counts) == 8 and counts.min() > 0.9 * counts.max()


class Smoothing(nn.Module):
    """A fixed, imperfect restoration: the mean of 3 x 3 pixels."""

    def forward(self, stack: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(stack, 3, 1, 1, count_include_pad=False)


@pytest.mark.parametrize("scheme", ["own", "masked"])
def test_the_loss_is_the_error_inside_the_mask_and_estimates_the_error_to_clean_images(
    scheme: guided_views.Scheme,
) -> None:
    pipeline = make(scheme=scheme, antithetic=False)
    pipeline.network = Smoothing()
    data = batch(*pictures(4, 256, seed=2))
    noisy, normal = (torch.cat([data[f"{n}{s}"] for n in ("pd", "pdfs")], 1) for s in ("", "_normal"))
    clean = torch.cat([data["pd_clean"], data["pdfs_clean"]], 1).repeat(2, 1, 1, 1)
    seen, target, mask = guided_views.training(
        scheme, noisy, normal, sigma=torch.full((1, 1, 1, 1), SIGMA), alpha=0.5, widths=[1, 1]
    )
    assert mask is not None
    error = pipeline.network(seen)
    scalars = pipeline.loss("restorer", data, {}).scalars
    assert float(scalars["l2"]) == pytest.approx(float((error - target)[mask > 0].square().mean()), rel=1e-4)
    assert float(scalars["mse_to_clean"]) == pytest.approx(float((error - clean)[mask > 0].square().mean()), rel=0.1)


@pytest.mark.parametrize("scheme", ["own", "masked"])
@pytest.mark.parametrize("network", ["residual_unet", "fusion_unet"])
def test_every_scheme_trains_and_uses_the_other_contrast(scheme: str, network: str) -> None:
    torch.manual_seed(0)
    pipeline = make(scheme=scheme, passes=2, network={"name": network, "widths": [4, 6], "blocks": [1, 1]})
    data = batch(*pictures(2, 22, seed=3))
    pipeline.loss("restorer", data, {}).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pipeline.trained_parameters("restorer"))
    with torch.no_grad():
        before, after = (pipeline.eval().restore(d) for d in (data, data | {"pdfs": data["pdfs"] + 1}))
    assert before["pd"].shape == data["pd"].shape and not torch.equal(before["pd"], after["pd"])


def test_the_calibrated_noise_level_is_saved_with_the_weights_and_used() -> None:
    clean = torch.full((3, 1, 96, 96), 0.5)
    images = [batch(clean, clean, seed=k, sigma=s) for k, s in ((1, 0.1), (2, 0.2), (3, 0.2))]
    for data in images:
        for name in ("pd", "pdfs"):
            data[name], data[f"{name}_scale"] = data[name] / 5, data[f"{name}_scale"] * 5
    pipeline, copy = make(sigma="estimate"), make(sigma="estimate")
    assert pipeline.calibrates
    pipeline.calibrate(iter(images))
    copy.load_checkpoint_state(pipeline.checkpoint_state())
    data = batch(clean, clean, sigma=0.4)
    for method in (pipeline, copy):
        scalars = method.loss("restorer", data, {}).scalars
        assert float(scalars["sigma_pd"]) == pytest.approx(0.2, rel=0.05)
    each = make(sigma="estimate_each").loss("restorer", data, {}).scalars
    assert float(each["sigma_pd"]) == pytest.approx(0.4, rel=0.05)


@pytest.mark.parametrize("signal", [0.0, 0.3, 1.0, 5.0, 11.9, 12.1, 40.0])
def test_the_signal_is_recovered_from_the_mean_magnitude(signal: float) -> None:
    sigma = 0.1
    noise = sigma * normals(2, 1_000_000, seed=int(10 * signal))
    mean = torch.hypot(signal * sigma + noise[0], noise[1]).mean()
    assert float(rician.mean(torch.tensor(signal))) * sigma == pytest.approx(float(mean), abs=5e-4)
    recovered = rician.from_mean((rician.mean(torch.tensor([signal])) * sigma).float(), torch.tensor([sigma]))
    assert float(recovered) == pytest.approx(signal * sigma, abs=1e-4)
    square = (signal**2 + 2) * sigma**2
    assert float(rician.from_square(torch.tensor(square).sqrt(), torch.tensor(sigma))) == pytest.approx(
        signal * sigma, abs=1e-4
    )


def test_without_noise_the_mean_magnitude_is_the_signal() -> None:
    restored, none = torch.tensor([0.0, 0.3, 2.0]), torch.zeros(1)
    for correct in (rician.from_mean, rician.from_square):
        torch.testing.assert_close(correct(restored, none), restored)


@pytest.mark.parametrize("magnitude", ["koay", "square"])
def test_the_noise_bias_of_restored_magnitudes_is_removed(magnitude: str) -> None:
    biased = torch.full((1, 1, 32, 32), float(rician.mean(torch.tensor(0.0))) * SIGMA)
    data = batch(biased, biased, sigma=0)
    settings: dict[str, Any] = {"passes": 0}
    plain, corrected = make(**settings), make(**settings, magnitude=magnitude)
    for pipeline in (plain, corrected):
        pipeline.network = nn.Identity()
    assert float(plain.restore(data)["pd"].mean()) == pytest.approx(1.2533 * SIGMA, rel=1e-3)
    assert float(corrected.restore(data)["pd"].mean()) < 0.02 * SIGMA


def test_a_scheme_that_uses_the_other_contrast_is_refused_without_it() -> None:
    with pytest.raises(ConfigError, match="needs scheme stack"):
        structure({"pipeline": {"name": "cross_guided", "together": False, "scheme": "own"}})
