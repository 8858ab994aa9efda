"""Cross-guided restoration: unbiased training without leakage of noise, deterministic results, and noise reduction."""

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from quell.configs.errors import ConfigError, DataError
from quell.configs.fields import FieldSpec
from quell.configs.loader import structure
from quell.pipelines.base import Batch
from quell.pipelines.common import rician
from quell.pipelines.common.teacher import Teacher
from quell.pipelines.cross_guided import CrossGuided

SIGMA = 0.1


def make(channels: int = 1, **settings: Any) -> CrossGuided:
    settings = {"sigma": SIGMA, "network": {"name": "residual_unet", "widths": [6, 8], "blocks": [1, 1]}} | settings
    config = CrossGuided.Config(name="cross_guided", **settings)
    return CrossGuided(
        config, {name: FieldSpec(channels, "ri" if channels == 2 else "real") for name in config.contrasts}
    )


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(count: int, side: int, seed: int) -> tuple[Tensor, Tensor]:
    """Discs whose intensities differ between the two contrasts."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    pd, pdfs = torch.zeros(count, 1, side, side), torch.zeros(count, 1, side, side)
    for i in range(count):
        for _ in range(5):
            a, b, radius, in_pd, in_pdfs = torch.rand(5, generator=generator).tolist()
            inside = (x - a * side) ** 2 + (y - b * side) ** 2 < (side * (0.1 + 0.25 * radius)) ** 2
            pd[i, 0][inside], pdfs[i, 0][inside] = in_pd, 1 - in_pdfs
    return pd, pdfs


def batch(pd: Tensor, pdfs: Tensor, seed: int = 0, sigma: float = SIGMA) -> Batch:
    ones = torch.ones(len(pd), 1, 1, 1)
    fields: Batch = {"pd_clean": pd, "pdfs_clean": pdfs, "index": torch.arange(len(pd))}
    for number, (name, clean) in enumerate((("pd", pd), ("pdfs", pdfs))):
        fields[name] = clean + sigma * normals(*clean.shape, seed=10 * seed + number)
        fields[f"{name}_normal"] = normals(*clean.shape, seed=10 * seed + 5 + number)
        fields[f"{name}_scale"] = ones
    return fields


class Recorder(nn.Module):
    """Returns its input, and records it."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.inputs.append(x)
        return x


@pytest.mark.parametrize("antithetic", [False, True])
def test_target_noise_is_independent_of_every_input_channel_and_targets_are_unbiased(
    antithetic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, targets = make(antithetic=antithetic), Recorder()
    pipeline.network = recorder = Recorder()
    monkeypatch.setattr(pipeline.distance, "forward", lambda _, target: targets(target).mean())
    clean = torch.full((2, 1, 500, 500), 0.5)
    pipeline.loss("restorer", batch(clean, clean), {})
    inputs, target = (x.transpose(0, 1).flatten(1) - 0.5 for x in (recorder.inputs[0], targets.inputs[0]))
    count = inputs.shape[1]
    variance1, variance2 = (1 + 0.25) * SIGMA**2, (1 + 4) * SIGMA**2
    covariance = inputs @ target.T / count
    assert covariance.abs().max() < 5 * (variance1 * variance2 / count) ** 0.5 * (2**0.5 if antithetic else 1)
    assert target.mean(1).abs().max() < 5 * (variance2 / count) ** 0.5 * (2**0.5 if antithetic else 1)
    assert inputs.var(1).tolist() == pytest.approx([variance1] * 2, rel=0.02)
    assert target.var(1).tolist() == pytest.approx([variance2] * 2, rel=0.02)


def test_the_error_to_clean_images_is_estimated_without_reading_them() -> None:
    pipeline = make(antithetic=False)
    torch.manual_seed(0)
    data = batch(*pictures(4, 256, seed=2))
    without_clean = {key: value for key, value in data.items() if not key.endswith("_clean")}
    scalars = pipeline.loss("restorer", without_clean, {}).scalars
    with torch.no_grad():
        inputs = torch.cat([data[n] + 0.5 * SIGMA * data[f"{n}_normal"] for n in ("pd", "pdfs")], 1)
        error = pipeline.network(inputs) - torch.cat([data["pd_clean"], data["pdfs_clean"]], 1)
    assert float(scalars["mse_to_clean"]) == pytest.approx(float(error.square().mean()), rel=0.1)
    assert float(scalars["sigma_pd"]) == pytest.approx(SIGMA)


def test_training_reads_no_clean_image_and_trains_the_whole_network() -> None:
    pipeline = make()
    needs = CrossGuided.needs(pipeline.config)
    assert all(source.evaluation and source.optional for name, source in needs.fields.items() if "_" in name)
    data = batch(*pictures(2, 16, seed=1))
    data.pop("pd_clean"), data.pop("pdfs_clean")
    step, again = (pipeline.loss("restorer", data, {}) for _ in range(2))
    assert torch.equal(step.loss, again.loss)
    step.loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pipeline.trained_parameters("restorer"))
    assert len(pipeline.trained_parameters("restorer")) == len(list(pipeline.parameters()))


def test_contrasts_influence_each_other_only_if_restored_together() -> None:
    data = batch(*pictures(2, 24, seed=3))
    changed = data | {"pdfs": data["pdfs"] + 1}
    for together in (True, False):
        torch.manual_seed(0)
        pipeline = make(together=together, passes=2).eval()
        with torch.no_grad():
            before, after = pipeline.restore(data)["pd"], pipeline.restore(changed)["pd"]
        assert torch.equal(before, after) is not together


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("channels", [1, 2])
def test_images_of_any_size_are_restored_and_depend_only_on_their_sample(together: bool, channels: int) -> None:
    pipeline = make(channels, together=together, passes=3).eval()
    pd, pdfs = (x.repeat(1, channels, 1, 1)[..., :21, :18] for x in pictures(3, 24, seed=4))
    data = batch(pd, pdfs)
    with torch.no_grad():
        restored = pipeline.restore(data)
        sample = {key: value[1:2] for key, value in data.items()}
        torch.manual_seed(9)
        alone = pipeline.restore(sample)
        other_index = pipeline.restore(sample | {"index": torch.tensor([7])})
    assert list(restored) == ["pd", "pdfs"] and restored["pdfs"].shape == (3, channels, 21, 18)
    for name in restored:
        assert torch.allclose(restored[name][1:2], alone[name], atol=1e-5)
        assert not torch.allclose(other_index[name], alone[name], atol=1e-4)


def test_without_passes_the_noisy_image_itself_is_the_input() -> None:
    pipeline, data = make(passes=0).eval(), batch(*pictures(1, 16, seed=5))
    with torch.no_grad():
        expected = pipeline.network(torch.cat([data["pd"], data["pdfs"]], 1))
        assert torch.equal(torch.cat(list(pipeline.restore(data).values()), 1), expected)


def test_noise_levels_are_given_and_estimated_in_stored_units() -> None:
    clean = torch.full((2, 1, 128, 128), 0.5)
    data = batch(clean, clean)
    data["pdfs"] = clean + 0.3 * normals(2, 1, 128, 128, seed=77)
    scale = torch.tensor([2.0, 5.0]).view(2, 1, 1, 1)
    scaled = data | {k: data[k] / scale for k in ("pd", "pdfs")} | {"pd_scale": scale, "pdfs_scale": scale}
    for sigma, tolerance in (("estimate", 0.05), ({"pd": 0.1, "pdfs": 0.3}, 1e-5)):
        scalars = make(sigma=sigma).loss("restorer", scaled, {}).scalars
        assert float(scalars["sigma_pd"]) == pytest.approx(0.1, rel=tolerance)
        assert float(scalars["sigma_pdfs"]) == pytest.approx(0.3, rel=tolerance)


def test_an_estimated_noise_level_of_zero_is_refused_by_schemes_that_need_it() -> None:
    masked = batch(*pictures(2, 64, seed=3))
    for name in ("pd", "pdfs"):
        masked[name][..., :44] = 0
    make(scheme="masked", sigma="estimate").calibrate([masked])
    for scheme in ("stack", "own"):
        with pytest.raises(DataError, match="noise level of .pd. was estimated as 0"):
            make(scheme=scheme, sigma="estimate").calibrate([masked])


def test_masked_trains_and_restores_where_noise_is_correlated_but_does_not_filter_the_masks() -> None:
    pipeline = make(scheme="masked", sigma="estimate", passes=2)
    data = batch(*pictures(2, 96, seed=3))
    kernel = torch.tensor([1.0, 4.0, 1.0])[:, None] * torch.tensor([1.0, 4.0, 1.0]) / 18
    for seed, name in enumerate(("pd", "pdfs")):
        noise = torch.nn.functional.conv2d(normals(2, 1, 98, 98, seed=seed), kernel[None, None])
        data[name] = data[f"{name}_clean"] + SIGMA * noise
    pipeline.calibrate([data])
    assert not pipeline.noise_level.is_white and pipeline.training_needs().margins == {}
    assert torch.isfinite(pipeline.loss("restorer", data, {}).loss)
    assert pipeline.restore(data)["pd"].shape == data["pd"].shape
    found = pipeline.noise_level.found
    assert found is not None
    told = pipeline.assumed_noise("pd", found.fields["pd"])
    assert told is not None and told.kind in ("white", "map") and told.cure


def test_tiles_use_the_noise_level_of_their_full_image() -> None:
    pipeline, data = make(sigma="estimate_each"), batch(*pictures(2, 64, seed=3))
    tile = {name: value[..., :24, :24] if value.shape[-1] == 64 else value for name, value in data.items()}
    full_image = pipeline._sigma(data)
    assert not torch.allclose(pipeline._sigma(tile), full_image)
    assert torch.equal(pipeline._sigma({**tile, **pipeline.image_statistics(data)}), full_image)
    assert make(sigma=0.1).image_statistics(data) == {}
    assert list(pipeline.image_statistics({"pd": data["pd"]})) == ["pd_sigma"], (
        "a missing field is reported by the restorer"
    )


def test_a_checkpoint_without_calibrated_levels_still_estimates_per_image() -> None:
    torch.manual_seed(0)
    new, each = make(sigma="estimate"), make(sigma="estimate_each")
    each.load_checkpoint_state({name: value for name, value in new.checkpoint_state().items() if name != "levels"})
    assert each.migrate_state(each.checkpoint_state()).keys() == each.checkpoint_state().keys()
    new.get_buffer("levels").fill_(0.7)
    new.load_checkpoint_state(new.migrate_state(each.checkpoint_state()))
    data = batch(torch.full((2, 1, 32, 32), 0.5), torch.full((2, 1, 32, 32), 0.5))
    for name in ("pd", "pdfs"):
        assert torch.equal(new.restore(data)[name], each.restore(data)[name])


class Painter(nn.Module):
    """Shows the same clean images, whatever it is asked to restore."""

    def __init__(self, clean: Tensor) -> None:
        super().__init__()
        self.clean = clean

    def forward(self, x: Tensor) -> Tensor:
        return self.clean


@pytest.mark.parametrize("magnitude", ["as_is", "koay"])
def test_a_taught_network_learns_clean_images_from_the_noise_that_images_have(
    magnitude: Literal["as_is", "koay"],
) -> None:
    """Of magnitudes: E[m^2] = x^2 + 2 sigma^2 at every signal, and of those of pure noise a mean of 1.253 sigma."""
    made = make(magnitude=magnitude, relearn_from=3)
    levels = torch.tensor([0.0, 0.05, 0.1, 0.5]).repeat_interleave(32).view(1, 1, -1, 1).expand(4, 1, -1, 128)
    data = batch(levels, levels)
    for number, suffix in enumerate(("_new", "_imaginary")):
        for other, name in enumerate(("pd", "pdfs")):
            data[f"{name}{suffix}"] = normals(*levels.shape, seed=50 + 2 * number + other)
    assert made.teacher is not None
    shown = levels if magnitude == "as_is" else SIGMA * rician.mean(levels / SIGMA)
    made.teacher.network = Painter(torch.cat([shown, shown], dim=1))
    recorder = Recorder()
    made.network = recorder
    made.on_step_start(3, 0.0)
    loss = float(made.loss("restorer", data, {}).loss)
    seen, clean = recorder.inputs[0], torch.cat([levels, levels], dim=1).repeat(2, 1, 1, 1)
    assert loss == pytest.approx(float((seen - clean).square().mean()), rel=1e-3)
    parts = 1 if magnitude == "as_is" else 2
    for x in (0.0, 0.1, 0.5):
        assert float(seen[clean == x].square().mean()) == pytest.approx(x**2 + parts * SIGMA**2, rel=0.03)
    expected = 0.0 if magnitude == "as_is" else SIGMA * (torch.pi / 2) ** 0.5
    assert float(seen[clean == 0].mean()) == pytest.approx(expected, abs=2e-3)


def test_a_teacher_follows_the_network_until_it_teaches_and_is_saved_with_it() -> None:
    made = make(relearn_from=2)
    assert made.teacher is not None
    data = batch(*pictures(2, 16, seed=0))
    data |= {f"{name}_new": normals(2, 1, 16, 16, seed=9) for name in ("pd", "pdfs")}
    own, taught = made.network.tail.bias, made.teacher.network.tail.bias  # type: ignore[union-attr]
    followed = []
    for step in range(4):
        made.on_step_start(step, 0.0)
        assert made.teacher.teaches == (step >= 2)
        made.loss("restorer", data, {}).loss.backward()
        assert taught.grad is None
        with torch.no_grad():
            own.add_(1.0)
        before = made.restore(data)["pd"]
        made.after_step("restorer")
        followed.append(float(taught[0]))
        loaded = make(relearn_from=2)
        loaded.load_checkpoint_state(made.checkpoint_state())
        loaded.on_step_start(step + 1, 0.0)
        assert torch.equal(loaded.restore(data)["pd"], made.restore(data)["pd"])
        assert torch.equal(before, made.restore(data)["pd"]) == (step != 2), "the first step that is taught"
    assert followed[0] < followed[1] == followed[2] == followed[3]
    assert {name.split(".")[0] for name in made.phases["restorer"]} == {"network"}


def test_a_teacher_refuses_weights_of_which_a_process_holds_a_part() -> None:
    teacher = Teacher(nn.Linear(2, 2), from_step=5)
    teacher.on_step_start(0)
    with pytest.raises(ConfigError, match="ZeRO stage 2 or lower"):
        teacher.after_step(nn.Linear(2, 1))


@pytest.mark.parametrize(("kept", "ok"), [(1.0, False), (0.05, True), (-0.5, False)])
def test_remaining_noise_and_removed_structure_are_reported(kept: float, ok: bool) -> None:
    pipeline, clean = make(), torch.full((2, 1, 64, 64), 0.5)
    data = batch(clean, clean)
    restored = {name: clean + kept * (data[name] - clean) for name in ("pd", "pdfs")}
    measured = {key: float(value.mean()) for key, value in pipeline.diagnostics(data, restored).items()}
    assert measured["removed_over_sigma"] == pytest.approx(1 - kept, rel=0.03)
    assert measured["leak_own"] == pytest.approx(1 if kept > 0 else -1, abs=0.01)
    assert abs(measured["leak_other"]) < 0.05
    (finding,) = pipeline.findings(measured)
    assert finding.ok is ok
    assert pipeline.findings({}) == []


def test_training_on_noisy_images_alone_restores_unseen_images() -> None:
    """200 steps on 24 small images, each with one noisy copy, gain at least 8 dB on unseen images."""
    steps, batch_size, side, lr = 200, 4, 64, 8e-3
    train, unseen = batch(*pictures(24, side, seed=6), seed=1), batch(*pictures(8, side, seed=8), seed=2)
    torch.manual_seed(0)
    pipeline = make(network={"name": "residual_unet", "widths": [8, 16, 32], "blocks": [1, 1, 1]})
    optimizer = torch.optim.Adam(pipeline.parameters(), lr=lr, betas=(0.9, 0.99))
    for step in range(steps):
        samples = torch.arange(batch_size * step, batch_size * (step + 1)) % 24
        data = {key: value[samples] for key, value in train.items() if not key.endswith("_clean")}
        for number, name in enumerate(("pd", "pdfs")):
            data[f"{name}_normal"] = normals(batch_size, 1, side, side, seed=1000 + 2 * step + number)
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 10) * (1 - step / steps)
        optimizer.zero_grad()
        pipeline.loss("restorer", data, {}).loss.backward()
        nn.utils.clip_grad_norm_(pipeline.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        restored = pipeline.eval().restore(unseen)
        measured = pipeline.diagnostics(unseen, restored)
    error = torch.stack([(restored[n] - unseen[f"{n}_clean"]).square().mean() for n in ("pd", "pdfs")]).mean()
    assert float(10 * torch.log10(SIGMA**2 / error)) > 8
    (finding,) = pipeline.findings({key: float(value.mean()) for key, value in measured.items()})
    assert finding.ok, finding.message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contrasts": []}, "contrasts must name one or more fields"),
        ({"contrasts": ["pd", "pd"]}, "each once"),
        ({"sigma": {"pd": 0.1}}, "one value for each of pd, pdfs"),
        ({"sigma": 0}, "pipeline.sigma"),
        ({"alpha": 0}, "pipeline.alpha"),
    ],
)
def test_invalid_settings_are_refused_with_a_reason(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        structure({"pipeline": {"name": "cross_guided", **settings}})
    assert message in str(caught.value)


def test_unsuitable_images_are_refused() -> None:
    config = CrossGuided.Config(name="cross_guided", together=False)
    with pytest.raises(ConfigError, match="representation to ri"):
        CrossGuided(config, {"pd": FieldSpec(1, "complex"), "pdfs": FieldSpec(1, "complex")})
    with pytest.raises(ConfigError, match="same channels"):
        CrossGuided(config, {"pd": FieldSpec(1), "pdfs": FieldSpec(3)})
    for magnitude in ("koay", "square"):
        with pytest.raises(ConfigError, match="representation to magnitude"):
            make(2, magnitude=magnitude)
