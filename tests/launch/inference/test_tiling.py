"""Tiling: a local network gives the same image for every tile size, and other networks leave no seams."""

import pytest
import torch
from torch import nn

from quell.configs.errors import ConfigError
from quell.launch.inference.tiling import blend_weights, tile_starts, tiled, tiled_bands

RADIUS_PX = 3


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A network with a receptive field of 7 px and zero padding."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 1, 3, padding=1),
    ).requires_grad_(False)


@pytest.fixture(scope="module", name="images_NCHW")
def random_images() -> torch.Tensor:
    return torch.randn(2, 1, 61, 47, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("tile", "overlap", "batch"), [(32, 12, 1), (24, 12, 3), (40, 16, 5), (50, 12, 2), (0, 0, 4), (128, 64, 2)]
)
def test_a_local_network_gives_the_same_image_for_every_tiling(
    network: nn.Module, images_NCHW: torch.Tensor, tile: int, overlap: int, batch: int
) -> None:
    shapes = []

    def restore(images: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        shapes.append(images["noisy"].shape)
        return {"restored": network(images["noisy"])}

    out = tiled(restore, {"noisy": images_NCHW}, tile=tile, overlap=overlap, batch=batch)["restored"]
    torch.testing.assert_close(out, network(images_NCHW), atol=1e-6, rtol=0)
    assert all(shape[0] <= batch for shape in shapes)
    assert {shape[2:] for shape in shapes} == {(min(tile or 61, 61), min(tile or 47, 47))}


def test_without_an_overlap_the_seams_differ(network: nn.Module, images_NCHW: torch.Tensor) -> None:
    """Without an overlap, the zero padding of every tile changes the pixels at its borders."""
    out = tiled(lambda images: {"restored": network(images["noisy"])}, {"noisy": images_NCHW}, tile=24, overlap=0)
    wrong = (out["restored"] - network(images_NCHW)).abs().amax((0, 1)) > 1e-5
    assert wrong.any()
    assert not wrong[: 24 - RADIUS_PX, : 23 - RADIUS_PX].any()


def test_tiles_that_differ_are_blended_smoothly() -> None:
    """Each tile returns its own mean: neighbours differ, yet the result changes little from pixel to pixel."""
    ramp = torch.linspace(0, 1, 96).expand(1, 1, 96, 96).contiguous()
    out = tiled(
        lambda images: {"mean": images["x"].mean((1, 2, 3), keepdim=True).expand_as(images["x"])},
        {"x": ramp},
        tile=48,
        overlap=24,
    )["mean"]
    jump = out.diff(dim=-1).abs().max()
    assert float(out.max() - out.min()) > 0.2
    assert float(jump) < 0.04
    assert float(out.diff(dim=-2).abs().max()) < 1e-6


def test_tiles_use_the_parameters_of_their_image_and_complex_images_stay_complex() -> None:
    images = torch.ones(3, 2, 20, 30, dtype=torch.complex64)
    factors = torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1)
    out = tiled(
        lambda batch: {"y": batch["x"] * batch["factor"] * 1j},
        {"x": images, "factor": factors},
        tile=16,
        overlap=4,
        batch=3,
    )["y"]
    assert out.dtype == torch.complex64
    torch.testing.assert_close(out, images * factors * 1j)


def test_tiles_cover_every_pixel() -> None:
    for length in range(20, 70):
        covered = torch.zeros(length)
        for start in tile_starts(length, 20, 7):
            assert 0 <= start <= length - 20
            covered[start : start + 20] += blend_weights(start, 20, length, 7)
        assert float(covered.min()) > 0
    assert tile_starts(15, 20, 7) == [0]


@pytest.mark.parametrize(("tile", "overlap"), [(32, 17), (-1, 0), (32, -2)])
def test_invalid_tile_sizes_are_refused(tile: int, overlap: int) -> None:
    with pytest.raises(ConfigError, match="cannot overlap"):
        tiled(lambda images: images, {"x": torch.zeros(1, 1, 64, 64)}, tile=tile, overlap=overlap)


@pytest.mark.parametrize(
    ("height", "width", "tile", "overlap"),
    [(70, 41, 32, 16), (100, 100, 32, 8), (20, 90, 32, 16), (33, 33, 32, 0), (64, 64, 32, 0), (32, 32, 32, 16)],
)
def test_bands_of_rows_give_exactly_the_pixels_of_the_whole_image(
    height: int, width: int, tile: int, overlap: int
) -> None:
    image, scale = torch.rand(1, 2, height, width), torch.rand(1, 1, 1, 1)
    network = torch.nn.Conv2d(2, 3, 5, padding=2).requires_grad_(False)

    def restore(tiles: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"restored": network(tiles["image"]) * tiles["scale"]}

    def read(top: int, bottom: int) -> dict[str, torch.Tensor]:
        return {"image": image[:, :, top:bottom], "scale": scale}

    whole = tiled(restore, {"image": image, "scale": scale}, tile=tile, overlap=overlap, batch=3)["restored"][0]
    bands = tiled_bands(restore, read, height, width, tile=tile, overlap=overlap, batch=3, device=torch.device("cpu"))
    rows = 0
    for top, band in bands:
        assert top == rows
        rows += band["restored"].shape[1]
        torch.testing.assert_close(band["restored"], whole[:, top:rows], rtol=0, atol=0)
    assert rows == height
