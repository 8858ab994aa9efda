"""The setting `noise`: what an audit of the training images finds is used, saved, warned about or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quell.configs.errors import ConfigError, DataError
from quell.configs.fields import FieldSpec
from quell.configs.loader import structure
from quell.losses.noise.model import FieldNoise, NoiseModel, spectrum_of_kernel
from quell.pipelines.base import Batch
from quell.pipelines.cross_guided import CrossGuided
from quell.pipelines.r2r import R2R

BLUR = np.outer([1.0, 4.0, 6.0, 4.0, 1.0], [1.0, 4.0, 6.0, 4.0, 1.0])
SLOPE = np.linspace(0.5, 1.5, 9)[None].repeat(9, 0)
SIDE = 96
NETWORK = {"name": "residual_unet", "widths": [6, 8], "blocks": [1, 1]}


def noise(sigma: float = 0.1, *, blurred: bool = True, sloping: bool = False) -> FieldNoise:
    return FieldNoise(sigma, spectrum_of_kernel(BLUR, 32) if blurred else None, SLOPE if sloping else None)


def images(noise: FieldNoise, count: int = 4, seed: int = 0, side: int = SIDE) -> Batch:
    """Noisy whole images of a flat disc, as evaluation reads them."""
    y, x = np.mgrid[:side, :side] / side
    clean = 0.3 + 0.5 * (np.hypot(y - 0.5, x - 0.4) < 0.25)
    random = np.random.default_rng(seed)
    batch: Batch = {"index": torch.arange(count), "key": [str(i) for i in range(count)]}
    for name in ("pd", "pdfs"):
        noisy = [clean + noise.sample(random, (2 * side, 2 * side))[:side, :side] for _ in range(count)]
        if noise.level_map is not None:
            noisy = [clean + noise.sample(random, (side, side)) for _ in range(count)]
        batch[name] = torch.from_numpy(np.stack(noisy))[:, None].float()
        batch[f"{name}_clean"] = torch.from_numpy(clean).float().expand(count, 1, -1, -1)
        batch[f"{name}_scale"] = torch.ones(count, 1, 1, 1)
    return batch


def guided(**settings: Any) -> CrossGuided:
    config = CrossGuided.Config(name="cross_guided", network=NETWORK, **settings)
    return CrossGuided(config, {name: FieldSpec(1) for name in ("pd", "pdfs")})


def given(folder: Path, noise: FieldNoise) -> dict[str, str]:
    file = folder / "noise.npz"
    NoiseModel(dict.fromkeys(("pd", "pdfs", "noisy"), noise)).save(file)
    return {"given": str(file)}


def drawn(pipeline: CrossGuided | R2R, batch: Batch, seed: int = 0) -> Batch:
    """The batch with the random numbers that training asks for."""
    needs, generator = pipeline.training_needs(), torch.Generator().manual_seed(seed)
    batch = dict(batch)
    for name, like in needs.normals.items():
        shape = [*batch[like].shape[:2], *(size + needs.margins.get(name, 0) for size in batch[like].shape[2:])]
        batch[name] = torch.randn(shape, generator=generator)
    return batch


def test_correlated_noise_is_found_used_and_saved_with_the_weights() -> None:
    pipeline, data = guided(), images(noise())
    pipeline.calibrate([data])
    assert pipeline.warnings() == []
    needs = pipeline.training_needs()
    assert needs.windows and 0 < needs.margins["pd_normal"] <= 32
    assert pipeline.noise_level.shapes["pd"].noise.correlation(0, 1) == pytest.approx(
        noise().correlation(0, 1), abs=0.1
    )
    assert float(pipeline.get_buffer("levels")[0]) == pytest.approx(0.1, rel=0.1)
    restored = guided()
    restored.load_checkpoint_state(restored.migrate_state(pipeline.checkpoint_state()))
    assert restored.training_needs() == needs
    assert torch.equal(restored.noise_level.of_batch(data)["pd"], pipeline.noise_level.of_batch(data)["pd"])


def test_white_noise_is_treated_exactly_as_before() -> None:
    data = images(noise(blurred=False))
    auto, white = guided(), guided(noise="white")
    auto.network = white.network
    for pipeline in (auto, white):
        pipeline.calibrate([data])
        assert pipeline.warnings() == [] and pipeline.training_needs() == CrossGuided.needs(pipeline.config)
    assert auto.checkpoint_state().keys() == white.checkpoint_state().keys()
    assert torch.equal(auto.get_buffer("levels"), white.get_buffer("levels"))
    step = drawn(auto, data)
    assert torch.equal(auto.loss("restorer", step, {}).loss, white.loss("restorer", step, {}).loss)
    with torch.no_grad():
        assert torch.equal(auto.restore(data)["pd"], white.restore(data)["pd"])


def test_a_checkpoint_older_than_the_setting_takes_noise_for_white() -> None:
    pipeline = guided()
    pipeline.calibrate([images(noise())])
    older = {n: v for n, v in pipeline.checkpoint_state().items() if not n.startswith("noise_")}
    pipeline.load_checkpoint_state(pipeline.migrate_state(older))
    assert pipeline.training_needs() == CrossGuided.needs(pipeline.config)


def test_white_noise_that_is_correlated_is_refused_or_warned_about() -> None:
    with pytest.raises(
        DataError, match=r"noise is white, but the noise of 'pd' has a correlation of 0\..*noise to auto"
    ):
        guided(noise="white").calibrate([images(noise())])
    pipeline = guided(noise="map", sigma=0.1)
    pipeline.calibrate([images(noise())])
    assert any("of 'pd' have noise with a correlation of 0." in s and "noise=auto" in s for s in pipeline.warnings())
    with pytest.raises(DataError, match="scheme masked hides single pixels"):
        guided(scheme="masked").calibrate([images(noise())])


def test_a_level_that_the_images_contradict_is_warned_about() -> None:
    pipeline = guided(sigma=0.05)
    pipeline.calibrate([images(noise(blurred=False))])
    assert [s for s in pipeline.warnings() if "'pd' is 0.05" in s and "deviation of 0." in s]


def test_counts_whose_noise_is_correlated_are_warned_about() -> None:
    config = R2R.Config(name="r2r", noise="poisson", gain=0.01, network={"name": "dncnn", "depth": 3, "width": 8})
    pipeline, data = R2R(config, {"noisy": FieldSpec(1)}), images(noise())
    pipeline.calibrate([{"noisy": data["pd"], "noisy_scale": data["pd_scale"]}])
    assert "split pixel by pixel" in pipeline.warnings()[0]


@pytest.mark.parametrize("sloping", [False, True])
@pytest.mark.parametrize("blurred", [False, True])
def test_the_error_to_clean_images_is_estimated_without_them_whatever_the_noise(
    sloping: bool, blurred: bool, tmp_path: Path
) -> None:
    truth = noise(blurred=blurred, sloping=sloping)
    pipeline = guided(noise=given(tmp_path, truth), antithetic=False)
    data = images(truth, count=6, seed=3)
    pipeline.calibrate([data])
    with torch.no_grad():
        scalars = pipeline.loss("restorer", drawn(pipeline, data), {}).scalars
        stack = pipeline.network(_recorrupted(pipeline, drawn(pipeline, data)))
    error = stack - torch.cat([data["pd_clean"], data["pdfs_clean"]], 1)
    assert float(scalars["mse_to_clean"]) == pytest.approx(float(error.square().mean()), rel=0.1)
    config = R2R.Config(name="r2r", noise=given(tmp_path, truth), sigma="estimate", network=NETWORK)
    single = R2R(config, {"noisy": FieldSpec(1)})
    single.calibrate([{"noisy": data["pd"], "noisy_scale": data["pd_scale"]}])
    single.network = torch.nn.Identity()
    plain = drawn(single, {"noisy": data["pd"], "noisy_scale": data["pd_scale"]})
    # the identity leaves the noise of the first image, (1 + alpha^2) sigma^2
    assert float(single.loss("restorer", plain, {}).scalars["mse_to_clean"]) == pytest.approx(0.0125, rel=0.15)


def _recorrupted(pipeline: CrossGuided, batch: Batch) -> torch.Tensor:
    normal = pipeline._coloured(pipeline._stack(batch, "_normal"), batch)
    return pipeline._stack(batch) + 0.5 * pipeline._sigma(batch) * normal


def test_tiles_take_their_part_of_the_map(tmp_path: Path) -> None:
    pipeline, data = guided(noise=given(tmp_path, noise(sloping=True))), images(noise(sloping=True), count=1)
    pipeline.calibrate([data])
    whole = pipeline.noise_level.of_batch(data)["pd"]
    statistics = pipeline.image_statistics(data)
    assert torch.equal(statistics["pd_sigma"], whole)
    tile = {n: v[..., 64:, 64:] if v.shape[-2:] != (1, 1) else v for n, v in (data | statistics).items() if "pd" in n}
    assert torch.equal(pipeline.noise_level.of_batch(tile)["pd"], whole[..., 64:, 64:])
    window = {**data, "pd": data["pd"][..., 64:, :64], "pdfs": data["pdfs"][..., 64:, :64]}
    window["window"] = torch.tensor([[64, 0, SIDE, SIDE, 0, 0, 0]])
    torch.testing.assert_close(pipeline.noise_level.of_batch(window)["pd"], whole[..., 64:, :64])


def test_levels_estimated_per_image_know_the_spectrum(tmp_path: Path) -> None:
    pipeline, data = guided(noise=given(tmp_path, noise()), sigma="estimate_each"), images(noise(0.2))
    pipeline.calibrate([data])
    assert pipeline.noise_level.of_batch(data)["pd"].flatten().tolist() == pytest.approx([0.2] * 4, rel=0.1)


def test_repeats_are_used_or_asked_for() -> None:
    data = images(noise())
    with pytest.raises(DataError, match="from_repeats, but the shards hold no 'pd_second'"):
        guided(noise="from_repeats").calibrate([data])
    second = {f"{n}_second": images(noise(), seed=9)[n] for n in ("pd", "pdfs")}
    second |= {f"{n}_second_scale": data[f"{n}_scale"] for n in ("pd", "pdfs")}
    pipeline = guided(noise="from_repeats")
    pipeline.calibrate([data | second])
    found = pipeline.noise_model()
    assert found is not None and found.source == "repeats"
    assert found.fields["pd"].sigma == pytest.approx(0.1, rel=0.05)


def test_a_file_that_lacks_a_field_is_named(tmp_path: Path) -> None:
    NoiseModel({"other": noise()}).save(tmp_path / "n.npz")
    with pytest.raises(ConfigError, match=r"n\.npz describes the noise of other, but not of pd, pdfs"):
        guided(noise={"given": str(tmp_path / "n.npz")}).calibrate([images(noise())])


@pytest.mark.parametrize("method", ["r2r", "cross_guided"])
@pytest.mark.parametrize("value", ["spektrum", {"file": "x"}, 3, None])
def test_another_setting_is_refused_in_one_sentence(method: str, value: object) -> None:
    with pytest.raises(ConfigError, match=r"pipeline\.noise: expected auto, white.*given: FILE") as error:
        structure({"pipeline": {"name": method, "noise": value, "sigma": 0.1}})
    assert str(error.value).count("pipeline.noise") == 1
