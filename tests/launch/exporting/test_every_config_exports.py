"""Every shipped configuration is exported, in every format, or refused with a reason; of those that restore alike, one.

`python -m pytest -m slow -s tests/launch/exporting/test_every_config_exports.py` prints what docs/export.md quotes.
"""

import json
from pathlib import Path

import pytest
from torch.export import ExportedProgram

from quell.configs import loader
from quell.configs.errors import ConfigError
from quell.launch.exporting.program import tracing
from quell.launch.exporting.program.restoration import RestorationProgram
from quell.launch.exporting.writing import export, parity, samples
from quell.launch.proof.small_configs import CONFIGS, on_first_kind, small_settings, write_roots
from quell.launch.training import run

pytestmark = [
    pytest.mark.skipif(not tracing.CAN_TRACE, reason="this torch cannot leave sizes open"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.xdist_group("every_export"),
]

REFUSED = {"zs_n2n": "goes on training on every image"}
"""Configuration -> why there is no program of it."""
LARGE = ("spectroformer", "restormer")
"""Networks of thousands of operators, whose conversion beyond torch.export takes too long to be tried here."""
SHAPE = (44, 40)
TOLERANCE = {"tcfl_single_generator": 1e-2}
"""Configuration -> difference that is accepted, where it is more than the default. After two steps its norms, which
take their statistics from the image itself, magnify rounding: 1.4e-3 was measured on the largest image."""

OF_TRAINING = ("losses", "weights")
"""Settings of a method that no restoration depends on."""

_converted: set[tuple[str, str]] = set()
"""Operators that a format has already held: configurations that differ in their losses alone are one program."""


def different() -> list[str]:
    """The configurations, one of each group whose restorations are set alike."""
    first: dict[str, str] = {}
    for name, path in CONFIGS.items():
        settings = small_settings(path, Path())
        method = {key: value for key, value in settings["pipeline"].items() if key not in OF_TRAINING}
        data = {key: settings["data"].get(key) for key in ("fields", "normalise", "representation")}
        first.setdefault(json.dumps([method, data], sort_keys=True, default=str), name)
    return list(first.values())


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Shards of every kind."""
    return write_roots(tmp_path_factory.mktemp("shards"), SHAPE)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", different())
def test_a_configuration_is_exported_or_refused(name: str, roots: dict[str, Path], tmp_path: Path) -> None:
    settings = small_settings(CONFIGS[name], tmp_path)
    settings["init_from"] = None
    folder = tmp_path / "run"
    assert run.train(on_first_kind(settings, roots, name), folder) == 0
    restorer = export.open_run(folder)
    program, chosen = RestorationProgram(restorer), samples.of_split(restorer, count=2)
    if name in REFUSED:
        with pytest.raises(ConfigError, match=REFUSED[name]):
            tracing.traced(program, source=name)
        return
    exported = tracing.traced(program, source=name)
    for format_, suffix in export.SUFFIXES.items():
        is_large = any(network in name for network in LARGE)
        if format_ != "torch.export" and (is_large or not _is_new(exported, format_)):
            continue
        writer = export.WRITERS[format_](exported, program, source=name)
        file = tmp_path / f"file{suffix}"
        written = export.write(writer, file, format_, program, restorer, chosen, TOLERANCE.get(name, parity.TOLERANCE))
        worst = written.parity.worst
        print(f"| {name} | {format_} | {worst.relative_error:.1e} | {_psnr(written.parity)} |")
        assert file.is_file() and len(written.parity.sizes) == 4


def test_every_refusal_is_of_a_shipped_configuration() -> None:
    assert REFUSED.keys() <= CONFIGS.keys() and all(loader.load(CONFIGS[name]) for name in REFUSED)


def _is_new(exported: ExportedProgram, format_: str) -> bool:
    key = (format_, exported.graph_module.code)
    is_new = key not in _converted
    _converted.add(key)
    return is_new


def _psnr(measured: parity.Parity) -> str:
    difference = measured.to_json()["max_psnr_difference_db"]
    return "none" if difference is None else f"{difference:.1e}"
