"""Values of buffers on the host: read again when the buffer changes, and when it is another one."""

import copy

import pytest
import torch
from torch import nn

from configs.fields import FieldSpec
from pipelines.common.host_copy import HostCopy
from pipelines.common.noise_calibration import GRID, MAPS, SPECTRA
from pipelines.r2r import R2R


class Counter(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.register_buffer("values", torch.tensor([value]))
        self.host_copy = HostCopy()

    @property
    def read(self) -> list[float]:
        return self.host_copy.of(self.get_buffer("values"))


def test_an_unchanged_buffer_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module, reads = Counter(1.0), list[torch.Tensor]()
    tolist = torch.Tensor.tolist

    def counted(self: torch.Tensor) -> object:
        reads.append(self)
        return tolist(self)

    monkeypatch.setattr(torch.Tensor, "tolist", counted)
    assert [module.read for _ in range(3)] == [[1.0]] * 3 and len(reads) == 1
    module.get_buffer("values").add_(1)
    assert [module.read for _ in range(3)] == [[2.0]] * 3 and len(reads) == 2


def test_another_buffer_with_the_same_number_of_changes_is_read() -> None:
    module = Counter(1.0)
    assert module.read == [1.0]
    module.register_buffer("values", torch.tensor([5.0]))  # as a pipeline does that migrates an older checkpoint
    assert module.read == [5.0]
    module.to(torch.float64)  # replaces buffers, as moving to another device does
    module.get_buffer("values")[0] = 7.0
    assert module.read == [7.0]
    other = copy.deepcopy(module)
    other.get_buffer("values")[0] = 9.0
    assert (module.read, other.read) == ([7.0], [9.0])


def test_shapes_of_noise_are_read_from_the_buffers_that_a_checkpoint_brings() -> None:
    config = R2R.Config.model_validate({"name": "r2r", "sigma": 0.1, "noise": "auto"})
    method = R2R(config, {"noisy": FieldSpec(1)})
    white, coloured = torch.zeros(1, GRID, GRID), torch.rand(1, GRID, GRID)
    for spectra, is_white in ((white, True), (coloured, False)):
        method.register_buffer(SPECTRA, spectra)
        method.register_buffer(MAPS, torch.zeros(1, GRID, GRID))
        assert method.noise_level.shapes["noisy"].is_white == is_white
