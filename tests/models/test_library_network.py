"""Networks of other libraries: arguments checked by signature, channels filled in, any image size, named refusals."""

from pathlib import Path
from typing import Any

import pytest
import torch

from quell.configs import registry
from quell.configs.errors import ConfigError
from quell.models.library_network import LibraryNetwork

MODULE = """
import torch
from torch import nn

class Halving(nn.Module):
    def __init__(self, in_chans: int, out_chans: int, width: int = 4):
        super().__init__()
        self.first = nn.Conv2d(in_chans, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, out_chans, 3, padding=1)
    def forward(self, x):
        if x.shape[-1] % 4 or x.shape[-2] % 4:
            raise RuntimeError('sides must be divisible by 4')
        h = nn.functional.avg_pool2d(self.norm(self.first(x)), 4)
        return self.last(nn.functional.interpolate(h, scale_factor=4))

class PadsInEvaluation(Halving):
    def forward(self, x):
        if self.training:
            return super().forward(x)
        H, W = x.shape[-2:]
        return super().forward(nn.functional.pad(x, (0, -W % 4, 0, -H % 4)))[..., :H, :W]

class TakesLevel(nn.Module):
    def __init__(self, in_channels=1):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
    def forward(self, x, sigma):
        return x * self.scale * sigma

class ReturnsList(TakesLevel):
    def forward(self, x):
        return [x]

class FixedChannels(nn.Module):
    def __init__(self, colours: int = 3):
        super().__init__()
        self.layer = nn.Conv2d(colours, colours, 1)
    def forward(self, x):
        return self.layer(x)

class TakesAnything(FixedChannels):
    def __init__(self, **options):
        super().__init__(options["colours"])

class Draws(nn.Module):
    def __init__(self):
        super().__init__()
    def forward(self, x):
        return x + torch.randn_like(x)

class NeedsDepth(Halving):
    def __init__(self, depth, in_chans=1):
        super().__init__(in_chans, in_chans)

NOT_A_NETWORK = 1
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of an importable module with networks, one per test because Python caches imports."""
    name = f"library_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def build(spec: dict[str, Any], channels: int = 1) -> LibraryNetwork:
    complete = registry.complete("models", spec, given=("in_channels", "out_channels"))
    network = registry.build("models", complete, in_channels=channels, out_channels=channels)
    assert isinstance(network, LibraryNetwork)
    return network


def problems(spec: dict[str, Any]) -> str:
    with pytest.raises(registry.SettingsError) as caught:
        registry.complete("models", spec, given=("in_channels", "out_channels"))
    return str(caught.value)


@pytest.mark.parametrize("name", ["Halving", "PadsInEvaluation"])
def test_channels_are_filled_in_and_any_size_is_restored(library: str, name: str) -> None:
    network = build({"target": f"{library}.{name}", "width": 6}, channels=2)
    assert network.multiple == 4
    for is_training in (True, False):
        assert network.train(is_training)(torch.ones(2, 2, 13, 30)).shape == (2, 2, 13, 30)


def test_trying_the_network_changes_neither_its_buffers_nor_the_random_numbers(library: str) -> None:
    torch.manual_seed(0)
    network = build({"target": f"{library}.Halving"})
    assert int(network.network.get_buffer("norm.num_batches_tracked")) == 0 and network.training
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    build({"target": f"{library}.Draws"})
    assert torch.equal(torch.rand(1), expected)


def test_the_completed_mapping_is_complete(library: str) -> None:
    spec = {"target": f"{library}.Halving", "width": 6}
    complete = registry.complete("models", spec, given=("in_channels", "out_channels"))
    assert complete["arguments"] == {"width": 6}
    assert registry.complete("models", complete, given=("in_channels", "out_channels")) == complete


def test_further_arguments_reach_every_call(library: str) -> None:
    network = build({"target": f"{library}.TakesLevel", "forward_arguments": {"sigma": 0.5}})
    assert torch.equal(network(torch.ones(1, 1, 4, 4)), torch.full((1, 1, 4, 4), 0.5))


def test_a_constructor_that_takes_anything_is_not_second_guessed(library: str) -> None:
    assert build({"target": f"{library}.TakesAnything", "colours": 1}).multiple == 1


def test_wrong_and_missing_arguments_are_named(library: str) -> None:
    text = problems({"target": f"{library}.NeedsDepth", "dept": 3})
    assert f"unknown argument 'dept' of {library}.NeedsDepth; did you mean 'depth'?" in text
    assert "needs the argument 'depth'" in text


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("Halving", "expected a dotted path"),
        ("no_such_library.Network", "needs 'no_such_library', which cannot be imported: pip install it first"),
        ("{library}.Halvin", "did you mean 'Halving'?"),
        ("{library}.NOT_A_NETWORK", "no torch.nn.Module of that name"),
        ("torch.Tensor", "no torch.nn.Module of that name"),
    ],
)
def test_a_target_that_is_no_network_is_refused(library: str, target: str, message: str) -> None:
    assert message in problems({"target": target.format(library=library)})


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("FixedChannels", {}, r"FixedChannels cannot restore an image of shape \(2, 1, .*RuntimeError"),
        ("ReturnsList", {}, "returns list: a network must return one image"),
        ("TakesLevel", {}, "TypeError.*sigma"),
        ("Halving", {"width": "wide"}, "Halving could not be built: TypeError"),
        ("Halving", {"pad_to_multiple": 3}, "divisible by 4"),
        ("Halving", {"out_chans": 5}, r"returned the shape \(2, 5, .*set its channels"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_with_the_reason(
    library: str, name: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build({"target": f"{library}.{name}", **arguments})


def test_weights_of_a_library_network_are_loaded_by_name(library: str) -> None:
    first, second = (build({"target": f"{library}.Halving"}) for _ in range(2))
    second.load_state_dict(first.state_dict())
    image = torch.ones(1, 1, 8, 8)
    assert torch.equal(first.eval()(image), second.eval()(image))
