"""Values of buffers on the host: read again when the buffer changes, and when it is another one."""

import copy

import torch
from torch import nn

from quell.configs.fields import FieldSpec
from quell.pipelines.common.noise_calibration import GRID, MAPS, SPECTRA
from quell.pipelines.r2r import R2R
from quell.pipelines.state.host_copy import HostCopy


class Counter(nn.Module):
    """A module with a buffer, which counts how often its copy on the host is read from it."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.register_buffer("values", torch.tensor([value]))
        self.reads = 0
        self.copy = HostCopy(self, "values", read=self.read, absent=[0.0])

    def read(self, values: torch.Tensor) -> list[float]:
        """The values as they are."""
        self.reads += 1
        return [float(value) for value in values]

    @property
    def value(self) -> list[float]:
        """What the copy says."""
        return self.copy.value


def test_an_unchanged_buffer_is_read_once() -> None:
    module = Counter(1.0)
    assert [module.value for _ in range(3)] == [[1.0]] * 3 and module.reads == 1
    module.get_buffer("values").add_(1)
    assert [module.value for _ in range(3)] == [[2.0]] * 3 and module.reads == 2


def test_another_buffer_with_the_same_number_of_changes_is_read() -> None:
    module = Counter(1.0)
    assert module.value == [1.0]
    module.register_buffer("values", torch.tensor([5.0]))  # as a pipeline does that migrates an older checkpoint
    assert module.value == [5.0]
    module.to(torch.float64)  # replaces buffers, as moving to another device does
    module.get_buffer("values")[0] = 7.0
    assert module.value == [7.0]
    other = copy.deepcopy(module)
    other.get_buffer("values")[0] = 9.0
    assert (module.value, other.value) == ([7.0], [9.0])
    del module.values
    assert module.value == [0.0]


def test_shapes_of_noise_are_read_from_the_buffers_that_a_checkpoint_brings() -> None:
    config = R2R.Config.model_validate({"name": "r2r", "sigma": 0.1, "noise": "auto"})
    method = R2R(config, {"noisy": FieldSpec(1)})
    white, coloured = torch.zeros(1, GRID, GRID), torch.rand(1, GRID, GRID)
    for spectra, is_white in ((white, True), (coloured, False)):
        method.register_buffer(SPECTRA, spectra)
        method.register_buffer(MAPS, torch.zeros(1, GRID, GRID))
        assert method.noise_level.shapes["noisy"].is_white == is_white
