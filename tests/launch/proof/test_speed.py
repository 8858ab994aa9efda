"""What the proof measures of speed: the numbers of a training, shipped settings, and the profiler's events."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from quell.configs import loader
from quell.launch.proof import speed
from quell.launch.proof.outcomes import SkippedError
from quell.launch.proof.small_configs import CONFIGS, write_roots

CPU, CUDA = torch.autograd.DeviceType.CPU, torch.autograd.DeviceType.CUDA


def test_a_small_training_is_measured_on_the_cpu(tmp_path: Path) -> None:
    roots = write_roots(tmp_path / "shards")
    holds, found = speed.speed("quickstart", roots, tmp_path, {"deterministic": False})
    assert holds and "images/s at batch 2 of complex64" in found and found.endswith("made small")
    assert "waiting for data" in found and "peak" in found
    with pytest.raises(SkippedError):
        speed.speed("quickstart", roots, tmp_path, {"compile": True})


def test_shipped_settings_are_measured_but_for_the_data(tmp_path: Path) -> None:
    config, shipped = speed.shipped("r2r", tmp_path, deterministic=False), loader.load(CONFIGS["r2r"])
    assert config.pipeline == shipped.pipeline and config.optimizer == shipped.optimizer
    assert (config.data.batch_size, config.data.crop) == (shipped.data.batch_size, shipped.data.crop)
    assert config.loop.precision == shipped.loop.precision and not config.loop.deterministic
    assert speed.shipped("r2r", tmp_path).data.root == config.data.root  # written once


def event(name: str, device: torch.autograd.DeviceType, start: float, end: float) -> SimpleNamespace:
    """One of the profiler's events."""
    return SimpleNamespace(name=name, device_type=device, time_range=SimpleNamespace(start=start, end=end))


def test_launches_and_kernels_are_counted_from_the_profilers_events() -> None:
    launches = [event("cudaLaunchKernel", CPU, i, i + 1) for i in range(3 * speed.PROFILED)]
    other = [event("cudaMemcpyAsync", CPU, 0, 1), event("aten::add", CPU, 0, 1)]
    kernels = [event("gemm", CUDA, 0, 20), event("copy", CUDA, 10, 30), event("add", CUDA, 60, 80)]
    assert speed.of_device([*launches, *other, *kernels]) == "3 launches a step, busy 62 %"
    assert speed.of_device(other) == "the profiler saw no kernels"


def test_every_switch_is_measured_both_ways_with_the_first_configuration(tmp_path: Path) -> None:
    names = [name for name, _ in speed.checks(["r2r", "cncl"], {}, tmp_path)]
    assert names[:2] == ["r2r: speed", "cncl: speed"]
    for words in (
        "deterministic true",
        "deterministic false",
        "channels_last true",
        "channels_last false",
        "compile true",
    ):
        assert f"r2r: speed, {words}" in names
