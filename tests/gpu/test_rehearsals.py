"""Every shipped configuration and every variant trains on a GPU without mixed devices, waits or forbidden operators.

On a device without data (fake_cuda.py), in a process of its own: nothing here computes, and nothing needs a GPU.
"""

import json
import sys
from typing import Any

import pytest

from quell.configs import registry
from quell.launch.proof.small_configs import CONFIGS
from tests.gpu.__main__ import LAUNCHES
from tests.gpu.apple import lacks_kernel
from tests.gpu.fake_cuda import has_compiler
from tests.gpu.faults import FAULTS
from tests.support.commands import Command

pytestmark = [
    pytest.mark.skipif(not has_compiler(), reason="g++ is not installed, with which the fake device is compiled"),
    pytest.mark.xdist_group("gpu"),
]

GROWTH = 1.1
"""A step may launch this much more than what was recorded, before it has to be recorded again."""

TIMEOUT_S = 1800
EVERYTHING = [pytest.param((precision, True), id=precision) for precision in ("no", "bf16", "fp16")]
"""All precisions, with the variants: for the slow lane, as some launch 12,000 operators a step."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("bf16", False), id="shipped-bf16"),
        *[pytest.param(each.values[0], id=each.id, marks=pytest.mark.slow) for each in EVERYTHING],
    ],
)
def seen(
    request: pytest.FixtureRequest, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Any]]:
    """A precision, and what was seen in it: of the shipped files, and of the variants where they are wanted."""
    precision, with_variants = request.param
    file = tmp_path_factory.mktemp("gpu") / "seen.json"
    only = [] if with_variants else [f"--only={name}" for name in CONFIGS]
    arguments = [sys.executable, "-m", "tests.gpu", "--precision", precision, "--results", file, *only]
    command(arguments, timeout_s=TIMEOUT_S, env={"ACCELERATE_USE_CPU": "false"})
    return precision, json.loads(file.read_text())


def variants_of(seen: dict[str, Any]) -> dict[str, Any]:
    """What was seen of everything but the shipped files."""
    return {name: result for name, result in seen["rehearsals"].items() if name not in CONFIGS}


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_shipped_file_trains_as_a_gpu_needs_it(name: str, seen: tuple[str, dict[str, Any]]) -> None:
    _, content = seen
    assert not content["rehearsals"][name]["problems"]
    assert content["rehearsals"][name]["launches"] > 100


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("seen", EVERYTHING, indirect=True)
def test_every_variant_trains_as_a_gpu_needs_it(seen: tuple[str, dict[str, Any]]) -> None:
    _, content = seen
    variants = variants_of(content)
    assert len(variants) > 50
    assert not {name: result["problems"] for name, result in variants.items() if result["problems"]}


@pytest.mark.timeout(TIMEOUT_S)
def test_a_step_launches_no_more_than_was_recorded(seen: tuple[str, dict[str, Any]]) -> None:
    """Renew the record with `python -m tests.gpu --record` where more is right."""
    precision, content = seen
    recorded = json.loads(LAUNCHES.read_text()).get(precision, {})
    more = {
        name: (result["launches"], recorded[name])
        for name, result in content["rehearsals"].items()
        if name in recorded and result["launches"] > GROWTH * recorded[name]
    }
    assert not more


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(fault: str, seen: tuple[str, dict[str, Any]]) -> None:
    expected, _ = FAULTS[fault]
    _, content = seen
    assert any(expected in problem for problem in content["faults"][fault]), content["faults"][fault]


@pytest.mark.timeout(TIMEOUT_S)
def test_every_operator_of_the_shipped_files_has_a_kernel_for_apple_gpus(seen: tuple[str, dict[str, Any]]) -> None:
    """By PyTorch's own list; whether the kernel is right, and takes these types, shows on such a GPU only."""
    rehearsals = seen[1]["rehearsals"]
    assert len({kernel for name in CONFIGS for kernel in rehearsals[name]["kernels"]}) > 80
    lacking = {name: list(filter(lacks_kernel, rehearsals[name]["kernels"])) for name in CONFIGS}
    assert not {name: operators for name, operators in lacking.items() if operators}


def test_operators_without_a_kernel_for_apple_gpus_are_noticed() -> None:
    operators = {"linalg_eig", "_fft_c2c", "add.Tensor", "convolution", "_conv_depthwise2d", "x.y"}
    assert set(filter(lacks_kernel, operators)) == {"linalg_eig", "_conv_depthwise2d", "x.y"}


def test_the_record_names_only_what_exists() -> None:
    recorded = json.loads(LAUNCHES.read_text())
    names = {name.partition(" ")[0] for names in recorded.values() for name in names}
    assert names <= {*CONFIGS, *registry.names("models"), *registry.names("pipelines")}
