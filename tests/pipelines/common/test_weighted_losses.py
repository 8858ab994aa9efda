"""Supervised, Noise2Noise and Spectroformer: losses by name, trained parameters, precision, and messages."""

from typing import Any

import pytest
import torch
from torch import Tensor

from quell.configs.errors import ConfigError
from quell.configs.fields import FieldSpec, Layout
from quell.configs.loader import dump, parse, structure
from quell.pipelines.common.weighted_losses import WeightedPipeline
from quell.pipelines.noise2noise import Noise2Noise
from quell.pipelines.spectroformer import SpectroformerTraining
from quell.pipelines.supervised import Supervised
from tests.support.images import uniform_batch

SMALL = {"name": "dncnn", "depth": 3, "width": 8}
VGG: dict[str, Any] = {"weights": None, "random_trunk": True}


def fields(channels: int = 1, *names: str, layout: Layout = "real") -> dict[str, FieldSpec]:
    return {name: FieldSpec(channels, layout) for name in names or ("noisy", "clean")}


def batch(*names: str, channels: int = 1, size: int = 24, count: int = 2) -> dict[str, Any]:
    images = uniform_batch(*names, count=count, channels=channels, side=size, seed=3, dtype=torch.float32)
    return {**images, "noisy_scale": torch.ones(count, 1, 1, 1), "index": torch.arange(count)}


def supervised(**settings: Any) -> Supervised:
    config = Supervised.Config(**{"name": "supervised", "network": SMALL, **settings})
    return Supervised(config, fields())


def run(settings: dict[str, Any]) -> Any:
    """The pipeline section of a run's configuration."""
    return structure({"pipeline": settings}).pipeline


def step(pipeline: WeightedPipeline[Any], batch: dict[str, Any]) -> dict[str, Tensor]:
    """Take one optimizer step of the only phase; returns the loss terms."""
    optimizer = torch.optim.SGD(pipeline.trained_parameters("restorer"), lr=0.1)
    result = pipeline.loss("restorer", batch, {})
    result.loss.backward()
    optimizer.step()
    return result.scalars


def test_losses_can_be_a_mapping_with_weights_or_arguments_or_a_list() -> None:
    expected = {"l1": {"weight": 0.5, "modulus": False}, "charbonnier": {"weight": 2.0, "eps": 0.01}}
    mapped = {"l1": 0.5, "charbonnier": {"weight": 2, "eps": 0.01}}
    assert run({"name": "supervised", "losses": mapped}).losses == expected
    listed = [{"name": "l1", "weight": 0.5}, {"name": "charbonnier", "weight": 2, "eps": 0.01}]
    assert run({"name": "supervised", "losses": listed}).losses == expected
    assert run({"name": "supervised", "losses": "l2"}).losses == {"l2": {"weight": 1.0}}
    assert list(run({"name": "spectroformer", "losses": {"l1": 1, "vgg": None}}).losses) == ["l1"]


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"l1": 0}, "pipeline.losses: l1: weight must be > 0"),
        ({"charbonier": 1}, "did you mean 'charbonnier'"),
        ({"charbonnier": {"epsilon": 1e-3}}, "unknown argument 'epsilon' of charbonnier; did you mean 'eps'"),
        (["l1", "l1"], "l1 is given twice"),
        ([3], "expected losses by name"),
        ({}, "at least one loss"),
    ],
)
def test_invalid_losses_are_refused_and_named(losses: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run({"name": "supervised", "losses": losses})
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["supervised", "noise2noise", "spectroformer", "r2r"])
def test_the_resolved_configuration_loads_back_equal(name: str) -> None:
    settings = {"name": name, "sigma": 0.1} if name == "r2r" else {"name": name}
    config = structure({"pipeline": settings})
    assert structure(parse(dump(config))) == config


def test_the_loss_is_the_weighted_sum_and_every_term_is_logged() -> None:
    pipeline = supervised(losses={"l1": 0.5, "l2": 2.0, "msssim": {"weight": 0.1, "scales": 1}})
    images = batch("noisy", "clean")
    result = pipeline.loss("restorer", images, {})
    restored = pipeline.network(images["noisy"])
    l1, l2 = (restored - images["clean"]).abs().mean(), (restored - images["clean"]).square().mean()
    parts = {name: float(value) for name, value in result.scalars.items()}
    total = 0.5 * float(l1.detach()) + 2 * float(l2.detach()) + 0.1 * parts["msssim"]
    assert float(result.loss.detach()) == pytest.approx(total, rel=1e-5)
    assert set(parts) == {"l1", "l2", "msssim", "msssim_dead", "weight_l1", "weight_l2", "weight_msssim"}
    assert not any(value.requires_grad for value in result.scalars.values())


def test_supervised_trains_only_its_network() -> None:
    pipeline = supervised(losses={"l1": 1, "vgg": VGG})
    before = {name: p.detach().clone() for name, p in pipeline.named_parameters()}
    step(pipeline, batch("noisy", "clean"))
    changed = {name.split(".")[0] for name, p in pipeline.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"network"}
    assert pipeline.restore(batch("noisy"))["restored"].shape == (2, 1, 24, 24)


def test_learned_weights_are_trained_and_saved_with_the_network() -> None:
    pipeline = SpectroformerTraining(
        SpectroformerTraining.Config(name="spectroformer", losses={"charbonnier": {}, "vgg": VGG, "laplacian": {}}),
        fields(3),
    )
    assert pipeline.config.weighting == "uncertainty"
    before = pipeline.weighting.current().detach().clone()
    parts = step(pipeline, batch("noisy", "clean", channels=3))
    assert {"weight_charbonnier", "weight_vgg", "weight_laplacian"} <= set(parts)
    assert (pipeline.weighting.current() != before).all()
    saved = pipeline.checkpoint_state()
    assert "weighting.log_variance" in saved and not any(name.startswith("criteria") for name in saved)
    assert any(name.startswith("network.") for name in saved)


def test_randomly_drawn_weights_are_saved_and_not_trained() -> None:
    torch.manual_seed(0)
    pipeline = supervised(losses={"l1": 1, "l2": 1}, weighting="random_softmax")
    saved = {name: value.clone() for name, value in pipeline.checkpoint_state().items()}
    resumed = supervised(losses={"l1": 1, "l2": 1}, weighting="random_softmax")
    assert not torch.equal(resumed.weighting.current(), pipeline.weighting.current())
    resumed.load_checkpoint_state(saved)
    assert torch.equal(resumed.weighting.current(), pipeline.weighting.current())
    assert len(pipeline.trained_parameters("restorer")) == len(list(pipeline.network.parameters()))


def test_dead_samples_and_one_hot_weights_are_reported_at_the_end_of_an_epoch() -> None:
    pipeline = supervised(losses={"l1": 1, "msssim": 1}, weighting="softmax")
    messages = pipeline.on_epoch_end({"weight_l1": 0.98, "weight_msssim": 0.02, "msssim_dead": 0.25})
    assert len(messages) == 2 and "gone to l1" in messages[0] and "25 %" in messages[1]
    assert pipeline.on_epoch_end({"weight_l1": 0.98, "weight_msssim": 0.02, "msssim_dead": 0.25}) == []
    healthy = supervised(losses={"l1": 1, "msssim": 1}, weighting="softmax")
    assert healthy.on_epoch_end({"weight_l1": 0.5, "weight_msssim": 0.5, "msssim_dead": 0.0}) == []


def test_losses_are_computed_in_float32_under_bfloat16() -> None:
    torch.manual_seed(0)
    losses = {"charbonnier": {}, "laplacian": {}, "msssim": {"scales": 2}}
    pipeline = SpectroformerTraining(SpectroformerTraining.Config(name="spectroformer", losses=losses), fields(3))
    images = batch("noisy", "clean", channels=3, size=32)
    exact = pipeline.loss("restorer", images, {})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = pipeline.loss("restorer", images, {})
    assert rough.loss.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in rough.scalars.values())
    assert float(rough.loss.detach()) == pytest.approx(float(exact.loss.detach()), rel=0.05)


def test_complex_and_unequal_channels_are_refused() -> None:
    config = Supervised.Config(name="supervised", network=SMALL)
    with pytest.raises(ConfigError, match="representation to ri"):
        Supervised(config, fields(layout="complex"))
    perceptual = SpectroformerTraining.Config(name="spectroformer", losses={"vgg": VGG})
    with pytest.raises(ConfigError, match="vgg loss is for grey or RGB images, but these have 2"):
        SpectroformerTraining(perceptual, fields(2))
    with pytest.raises(ConfigError, match="noisy 1, clean 3"):
        Supervised(config, {"noisy": FieldSpec(1), "clean": FieldSpec(3)})


def test_supervised_needs_clean_images_and_noise2noise_only_uses_them_for_metrics() -> None:
    assert not Supervised.needs(Supervised.Config(name="supervised")).fields["clean"].optional
    clean = Noise2Noise.needs(Noise2Noise.Config(name="noise2noise")).fields["clean"]
    assert clean.optional and clean.evaluation and clean.scale_of == "noisy"


def noise2noise(*others: str, **settings: Any) -> Noise2Noise:
    config = Noise2Noise.Config(name="noise2noise", network=SMALL, others=others or ("noisy_other",), **settings)
    return Noise2Noise(config, fields(1, "noisy", *config.others))


def test_noise2noise_predicts_the_other_noisy_image() -> None:
    pipeline, images = noise2noise().eval(), batch("noisy", "noisy_other")
    expected = (pipeline.network(images["noisy"]) - images["noisy_other"]).square().mean()
    assert torch.allclose(pipeline.loss("restorer", images, {}).loss, expected)


def test_symmetric_noise2noise_is_the_mean_of_both_directions() -> None:
    pipeline, images = noise2noise(symmetric=True).eval(), batch("noisy", "noisy_other")
    a, b = images["noisy"], images["noisy_other"]
    expected = ((pipeline.network(a) - b).square().mean() + (pipeline.network(b) - a).square().mean()) / 2
    assert torch.allclose(pipeline.loss("restorer", images, {}).loss, expected)


def test_noise2noise_chooses_among_several_targets_uniformly_and_from_the_batch() -> None:
    pipeline = noise2noise("first", "second", "third")
    assert Noise2Noise.needs(pipeline.config).normals == {"choice": "noisy"}
    count = 3000
    values = {name: torch.full((count, 1, 1, 1), float(i)) for i, name in enumerate(("first", "second", "third"))}
    choice = torch.randn(count, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    chosen = pipeline._target({**values, "choice": choice}).flatten()
    assert torch.equal(chosen, pipeline._target({**values, "choice": choice}).flatten())
    shares = torch.bincount(chosen.long(), minlength=3) / count
    assert (shares - 1 / 3).abs().max() < 4 * (2 / 9 / count) ** 0.5
    extreme = torch.tensor([-40.0, 40.0]).view(2, 1, 1, 1)
    ends = {name: value[:2] for name, value in values.items()} | {"choice": extreme}
    assert pipeline._target(ends).flatten().tolist() == [0, 2]


@pytest.mark.parametrize("others", [(), ("noisy",), ("a", "a")])
def test_noise2noise_refuses_targets_that_repeat_or_equal_the_input(others: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="others must name"):
        run({"name": "noise2noise", "others": others})


def test_fixed_weights_come_from_the_configuration_and_not_from_a_checkpoint() -> None:
    """A warm start from a run with different weights must not replace them."""
    light, heavy = (supervised(losses={"l1": weight}) for weight in (0.5, 2.0))
    assert {name.split(".")[0] for name in light.checkpoint_state()} == {"network"}
    older = {**light.checkpoint_state(), "weighting.weights": torch.tensor([0.5])}
    heavy.load_checkpoint_state(heavy.migrate_state(older))
    data = batch("noisy", "clean")
    losses = [method.loss("restorer", data, {}).loss.item() for method in (light, heavy)]
    assert losses[1] == pytest.approx(4 * losses[0])
    learned = supervised(losses={"l1": 1}, weighting="softmax")
    assert "weighting.logits" in learned.migrate_state(learned.checkpoint_state())


@pytest.mark.parametrize("name", ["adversarial", "gradient_penalty"])
def test_losses_that_do_not_compare_two_images_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: does not compare a restored image with a target"):
        run({"name": "supervised", "losses": {name: 1.0}})


def test_spectroformer_sees_a_range_mapped_to_minus_one_to_one() -> None:
    """The network works in [-1, 1]; losses and restored images stay in the units of the batch, whatever its scale."""
    settings = {"name": "spectroformer", "network": SMALL, "losses": {"l1": 1.0}, "weighting": "fixed"}
    plain = SpectroformerTraining(SpectroformerTraining.Config(**settings), fields())
    ranged = SpectroformerTraining(SpectroformerTraining.Config(**settings, range=(2.0, 6.0)), fields())
    ranged.load_state_dict(plain.state_dict())
    stored = {**batch("noisy", "clean"), "noisy_scale": torch.full((2, 1, 1, 1), 4.0)}
    plain.eval(), ranged.eval()
    in_units = stored["noisy"] * 4
    expected = (plain.network((in_units - 2) / 4 * 2 - 1) + 1) / 2 * 4 + 2
    torch.testing.assert_close(ranged.restore(stored)["restored"] * 4, expected)
    with pytest.raises(ConfigError, match=r"range: .*low < high"):
        run({**settings, "range": [1.0, 0.0]})
