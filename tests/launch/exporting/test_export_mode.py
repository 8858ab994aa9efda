"""What runs otherwise while an export is traced gives the same numbers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from quell.configs.export_mode.flag import exporting, is_exporting
from quell.losses.common.order_statistics import lower_medians
from quell.losses.noise.model import FieldNoise
from quell.models.blocks.norms import group_norm, instance_norm
from quell.models.blocks.padding import crop_to, pad_to_multiple
from quell.pipelines.common.noise_sampling import NoiseShape, Size
from quell.pipelines.common.random_numbers.image_draws import ImageDraws


def shaped_noise() -> NoiseShape:
    """Noise that is correlated along rows."""
    lag = np.minimum(np.arange(64), 64 - np.arange(64))
    correlation = np.exp(-(lag[:, None] ** 2) / 2 - lag[None] ** 2 / 8)
    spectrum = np.fft.fft2(correlation).real.clip(0) + 0.01
    return NoiseShape(FieldNoise(1.0, spectrum / spectrum.mean()))


def images(height: int, width: int) -> torch.Tensor:
    """Two images of two channels."""
    return torch.rand(2, 2, height, width, generator=torch.Generator().manual_seed(0))


CASES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "padding": lambda x: pad_to_multiple(x, 16),
    "cropping": lambda x: crop_to(x, (x.shape[-2] - 1, 5)),
    "medians": lambda x: lower_medians(x.flatten(1)),
    "group norm": lambda x: group_norm(x.contiguous(memory_format=torch.channels_last), 2, None, None, 1e-5),
    "instance norm": lambda x: instance_norm(x),
    "random numbers": lambda x: ImageDraws(torch.tensor([3, 70000])).normals(x, 1, 8),
    "shaped noise": lambda x: shaped_noise().coloured(x, Size(*x.shape[-2:])),
}
TOLERANCE = {"shaped noise": 2e-5, "group norm": 1e-4}
"""Where sums of many numbers are added up in another order."""


@pytest.mark.parametrize("size", [(8, 9), (64, 65), (130, 97)])
@pytest.mark.parametrize("case", CASES)
def test_the_same_numbers(case: str, size: tuple[int, int]) -> None:
    expected = CASES[case](images(*size))
    with exporting():
        assert is_exporting()
        found = CASES[case](images(*size))
    assert not is_exporting()
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE.get(case, 1e-6))
