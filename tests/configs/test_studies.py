"""Every shipped study consists of configurations that load, and errors in a study are reported."""

from pathlib import Path

import pytest

from quell.configs import loader, studies
from quell.configs.errors import ConfigError

SHIPPED = sorted(file.stem for file in studies.FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_row_of_a_shipped_study_loads(name: str) -> None:
    study = studies.load(name)
    for row, run in study.runs.items():
        config = loader.load(studies.ROOT / "configs" / f"{run.config}.yaml", [*study.set, *run.set, f"name={row}"])
        assert config.name == row and config.loop.precision == "no"


def test_rows_are_selected_by_name() -> None:
    study = studies.load("guided")
    assert list(studies.select(study, ["own", "alone"])) == ["alone", "own"]
    assert studies.select(study, []) == study.runs
    with pytest.raises(ConfigError, match="did you mean 'recommended'"):
        studies.select(study, ["recomended"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("set: [a=1]", "runs: Field required"),
        ("runs: {}", "at least 1"),
        ("runs: {a: {config: r2r, sets: []}}", "runs.a.sets"),
        ("runs: {a: {config: r2r, seeds: []}}", "runs.a.seeds"),
    ],
)
def test_errors_in_a_study_are_reported(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        studies.load(str(file))
    assert message in str(raised.value)


def test_an_unknown_study_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean 'guided'"):
        studies.load("guidet")
