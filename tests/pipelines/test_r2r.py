"""R2R: recorrupted pairs are unbiased and independent, results depend only on the sample, and errors."""

from typing import Any

import pytest
import torch
from torch import Tensor

from quell.configs.errors import ConfigError, DataError
from quell.configs.fields import FieldSpec
from quell.configs.loader import structure
from quell.pipelines.common import recorruption
from quell.pipelines.common.random_numbers import split_mix
from quell.pipelines.common.random_numbers.distributions import Draw
from quell.pipelines.r2r import R2R

COUNT = 200_000
"""Pixels behind each statistic: the error of a mean is about 1/450 of the standard deviation."""


def r2r(**settings: Any) -> R2R:
    network = {"name": "dncnn", "depth": 3, "width": 8}
    settings = {"sigma": 0.2, **settings} if settings.get("noise", "gaussian") == "gaussian" else settings
    return R2R(R2R.Config(name="r2r", network=network, **settings), {"noisy": FieldSpec(1)})


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numbers(version: int, count: int, *shape: int) -> Draw | Tensor:
    """What a number of images of a shape are recorrupted with, in a version of the random draws."""
    if version == 1:
        return normals(count, *shape)
    return Draw(split_mix.stream_seeds(7, torch.zeros(count, dtype=torch.int64), torch.arange(count)), "test")


def moments(first: Tensor, second: Tensor) -> tuple[float, float, float, float, float]:
    """Means, variances and correlation of two noisy copies of a constant image."""
    together = torch.stack([first.flatten(), second.flatten()])
    covariance = torch.cov(together)
    correlation = covariance[0, 1] / (covariance[0, 0] * covariance[1, 1]).sqrt()
    return (*together.mean(1).tolist(), *covariance.diagonal().tolist(), float(correlation))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_gaussian_pairs_are_unbiased_and_independent_with_the_known_variances(alpha: float) -> None:
    noisy = 3 + 0.2 * normals(1, 1, COUNT)
    mean1, mean2, var1, var2, correlation = moments(
        *recorruption.gaussian(noisy, normals(1, 1, COUNT, seed=1), sigma=0.2, alpha=alpha)
    )
    assert var1 == pytest.approx(0.04 * (1 + alpha**2), rel=0.02)
    assert var2 == pytest.approx(0.04 * (1 + alpha**-2), rel=0.02)
    assert abs(mean1 - 3) < 5 * (var1 / COUNT) ** 0.5 and abs(mean2 - 3) < 5 * (var2 / COUNT) ** 0.5
    assert abs(correlation) < 5 / COUNT**0.5


@pytest.mark.parametrize("version", [1, 2])
def test_poisson_pairs_are_unbiased_and_independent_poissons(version: int) -> None:
    gain, alpha, clean = 0.05, 0.3, 0.4
    counts = torch.poisson(torch.full((1, 1, COUNT), clean / gain), generator=torch.Generator().manual_seed(2))
    mean1, mean2, var1, var2, correlation = moments(
        *recorruption.poisson(gain * counts, numbers(version, 1, 1, COUNT), gain=gain, alpha=alpha)
    )
    assert var1 == pytest.approx(gain * clean / (1 - alpha), rel=0.02)
    assert var2 == pytest.approx(gain * clean / alpha, rel=0.02)
    assert abs(mean1 - clean) < 5 * (var1 / COUNT) ** 0.5 and abs(mean2 - clean) < 5 * (var2 / COUNT) ** 0.5
    assert abs(correlation) < 5 / COUNT**0.5


@pytest.mark.parametrize("version", [1, 2])
def test_gamma_pairs_are_unbiased_and_independent_gammas(version: int) -> None:
    looks, alpha, clean = 4.0, 0.5, 2.0
    speckle = torch.distributions.Gamma(looks, looks)
    torch.manual_seed(3)
    noisy = clean * speckle.sample((1, 1, COUNT)).double()
    mean1, mean2, var1, var2, correlation = moments(
        *recorruption.gamma(noisy, numbers(version, 1, 1, COUNT), looks=looks, alpha=alpha)
    )
    assert var1 == pytest.approx(clean**2 / (looks * (1 - alpha)), rel=0.03)
    assert var2 == pytest.approx(clean**2 / (looks * alpha), rel=0.03)
    assert abs(mean1 - clean) < 5 * (var1 / COUNT) ** 0.5 and abs(mean2 - clean) < 5 * (var2 / COUNT) ** 0.5
    assert abs(correlation) < 5 / COUNT**0.5


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("law", ["poisson", "gamma"])
def test_a_pair_depends_only_on_the_draw_of_its_own_sample(law: str, version: int) -> None:
    noisy, drawn = torch.full((3, 1, 8, 8), 2.0), numbers(version, 3, 1, 8, 8)

    def split(chosen: slice) -> Tensor:
        images = noisy[chosen]
        draws = drawn[chosen] if isinstance(drawn, Tensor) else drawn._replace(seeds=drawn.seeds[chosen])
        if law == "poisson":
            return recorruption.poisson(images, draws, gain=0.1, alpha=0.5)[0]
        return recorruption.gamma(images, draws, looks=2.0, alpha=0.5)[0]

    together = split(slice(None))
    assert torch.equal(together[1:2], split(slice(1, 2)))
    assert not torch.equal(together[0], together[1])
    halves = recorruption.gamma(noisy, drawn, looks=2.0, alpha=0.25)
    assert torch.allclose(0.75 * halves[0] + 0.25 * halves[1], noisy)


def test_sigma_is_estimated_accurately_on_a_smooth_image() -> None:
    ramp = torch.linspace(0, 1, 129).expand(2, 1, 129, 129)
    noisy = ramp + torch.tensor([0.1, 0.3]).view(2, 1, 1, 1) * normals(2, 1, 129, 129).float()
    assert recorruption.estimated_sigma(noisy).flatten().tolist() == pytest.approx([0.1, 0.3], rel=0.05)


def test_loss_minus_the_noise_power_is_the_error_to_the_clean_image() -> None:
    """If the network is the identity, the error of its input is (1 + alpha^2) sigma^2, in units of the scale."""
    pipeline = r2r(sigma=0.4, alpha=0.5)
    pipeline.network = torch.nn.Identity()
    scale = torch.tensor([2.0, 4.0]).view(2, 1, 1, 1)
    noisy = (1 + 0.4 * normals(2, 1, 300, 300).float()) / scale
    batch = {"noisy": noisy, "noisy_scale": scale, "recorruption": normals(2, 1, 300, 300, seed=5).float()}
    scalars = pipeline.loss("restorer", batch, {}).scalars
    expected = float((1.25 * (0.4 / scale) ** 2).mean())
    assert float(scalars["mse_to_clean"]) == pytest.approx(expected, rel=0.05)
    assert float(scalars["sigma"]) == pytest.approx(0.4)
    estimating = r2r(sigma="estimate")
    assert float(estimating.loss("restorer", batch, {}).scalars["sigma"]) == pytest.approx(0.4, rel=0.05)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("settings", [{}, {"noise": "poisson", "gain": 0.1}, {"noise": "gamma", "looks": 3.0}])
def test_a_step_is_determined_by_its_batch_and_trains_the_network(settings: dict[str, Any], version: int) -> None:
    pipeline = r2r(**settings)
    pipeline.draws = version
    batch = {
        "noisy": 0.1 * torch.randint(0, 20, (2, 1, 16, 16), generator=torch.Generator().manual_seed(0)),
        "noisy_scale": torch.ones(2, 1, 1, 1),
    }
    needs = pipeline.training_needs()
    batch |= {name: normals(2, 1, 16, 16).float() for name in needs.normals}
    if needs.seeds:
        batch["seeds"] = split_mix.stream_seeds(0, torch.zeros(2, dtype=torch.int64), torch.arange(2))
    assert needs.seeds == (version == 2 and "noise" in settings) and needs.seeds != bool(needs.normals)
    first, second = (pipeline.loss("restorer", batch, {}).loss for _ in range(2))
    assert torch.equal(first, second)
    first.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pipeline.trained_parameters("restorer"))
    assert len(pipeline.trained_parameters("restorer")) == len(list(pipeline.parameters()))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "settings", [{}, {"sigma": "estimate"}, {"noise": "poisson", "gain": 0.1}, {"noise": "gamma", "looks": 3.0}]
)
def test_a_restored_image_depends_on_its_sample_but_not_on_its_batch_or_the_global_seed(
    settings: dict[str, Any], version: int
) -> None:
    pipeline = r2r(passes=3, **settings).eval()
    pipeline.draws = version
    noisy = 0.1 * torch.randint(0, 20, (3, 1, 15, 13), generator=torch.Generator().manual_seed(0))

    def restored(images: Tensor, *indices: int) -> Tensor:
        scale = torch.ones(len(images), 1, 1, 1)
        batch = {"noisy": images, "noisy_scale": scale, "index": torch.tensor(indices)}
        with torch.no_grad():
            return pipeline.restore(batch)["restored"]

    together = restored(noisy, 4, 7, 9)
    torch.manual_seed(99)
    alone, other_index = restored(noisy[1:2], 7), restored(noisy[1:2], 8)
    assert torch.allclose(together[1:2], alone, atol=1e-6)
    assert not torch.allclose(alone, other_index, atol=1e-4)


def test_the_noise_level_is_calibrated_on_full_training_images_and_saved() -> None:
    pipeline, scale = r2r(sigma="estimate"), torch.tensor([2.0, 5.0]).view(2, 1, 1, 1)
    noisy = (1 + 0.3 * normals(2, 1, 128, 128).float()) / scale
    pipeline.calibrate([{"noisy": noisy, "noisy_scale": scale}])
    assert pipeline.checkpoint_state()["levels"].item() == pytest.approx(0.3, rel=0.03)
    blank = {
        "noisy": torch.ones(1, 1, 8, 8),
        "noisy_scale": torch.full((1, 1, 1, 1), 4.0),
        "recorruption": normals(1, 1, 8, 8).float(),
    }
    kept = pipeline.checkpoint_state()["levels"].item()
    assert pipeline.loss("restorer", blank, {}).scalars["sigma"].item() == pytest.approx(kept), "not the image's own"
    older = {name: value for name, value in pipeline.checkpoint_state().items() if name != "levels"}
    pipeline.load_checkpoint_state(pipeline.migrate_state(older))
    assert pipeline.loss("restorer", blank, {}).scalars["sigma"].item() == 0, (
        "an old checkpoint estimates from the image"
    )


def test_a_noise_level_that_cannot_be_estimated_is_an_error() -> None:
    """With a level of 0, both images would equal the noisy one, and the network would learn the identity."""
    masked = normals(3, 1, 64, 64).float()
    masked[..., :44] = 0
    data = [{"noisy": masked, "noisy_scale": torch.ones(3, 1, 1, 1)}]
    with pytest.raises(DataError, match="noisy.*more than half.*pipeline.sigma"):
        r2r(sigma="estimate").calibrate(data)


def test_without_passes_the_noisy_image_itself_is_the_input() -> None:
    pipeline, noisy = r2r(passes=0).eval(), torch.rand(1, 1, 9, 8)
    assert torch.equal(pipeline.restore({"noisy": noisy})["restored"], pipeline.network(noisy))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 0.1, "loss": "l1"}, "only the squared error averages away; the loss must be l2"),
        ({}, "noise gaussian needs sigma"),
        ({"noise": "poisson"}, "noise poisson needs gain"),
        ({"noise": "gamma", "looks": 2, "sigma": 0.1}, "sigma is not read with noise gamma"),
        ({"noise": "poisson", "gain": 1, "alpha": 1.5}, "must be below 1"),
        ({"sigma": 0}, "pipeline.sigma"),
    ],
)
def test_invalid_settings_are_refused_with_a_reason(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        structure({"pipeline": {"name": "r2r", **settings}})
    assert message in str(caught.value)


def test_complex_images_are_refused() -> None:
    config = R2R.Config(name="r2r", sigma=0.1)
    with pytest.raises(ConfigError, match="representation to ri"):
        R2R(config, {"noisy": FieldSpec(1, "complex")})
