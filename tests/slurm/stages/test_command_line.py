"""The command line wins over whatever a stage file says, and says what it cannot change."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from quell.configs.errors import ConfigError
from quell.slurm import submit
from quell.slurm.node import pick
from quell.slurm.stages import plan, read
from quell.slurm.stages.plan import Plan
from tests.support.slurm.launcher import TINY

TRAIN = {"config": "configs/cross_no_skip.yaml"}


@pytest.fixture
def write(tmp_path: Path, tiny_data: Path) -> Any:
    """A function that writes a stage file for tiny data and returns its path."""

    def write(stages: dict[str, Any], **others: Any) -> Path:
        file = tmp_path / "some.yaml"
        overrides = {**TINY, "data.root": str(tiny_data)}
        file.write_text(yaml.safe_dump({"overrides": overrides, "stages": stages, **others}, sort_keys=False))
        return file

    return write


def make(file: Path, *settings: str) -> Plan:
    return plan.make(read.read(file, settings=list(settings)), file.parent / "runs")


def config(planned: Plan, task: str) -> dict[str, Any]:
    """The resolved configuration of a task."""
    stage = planned.stages[task.split(".")[0]]
    return yaml.safe_load(stage.configs[task])


def test_settings_win_over_stages_and_over_the_members_of_a_list(write: Any) -> None:
    members = {"a": {"overrides": {"loop.max_steps": 7}}, "b": {}}
    stages = {"one": {**TRAIN, "overrides": {"loop.max_steps": 8}}, "many": {**TRAIN, "list": members}}
    planned = make(write(stages), "loop.max_steps=2")
    assert {config(planned, task)["loop"]["max_steps"] for task in ("one", "many.a", "many.b")} == {2}


def test_settings_win_over_the_winner_of_a_sweep(write: Any, tmp_path: Path) -> None:
    members = {"a": {"overrides": {"loop.max_steps": 7}}, "b": {}}
    stages = {"many": {**TRAIN, "list": members}, "best": {"pick": {"stage": "many"}}}
    stages["last"] = {**TRAIN, "use": "best"}
    (task,) = make(write(stages), "loop.max_steps=2").stages["last"].tasks
    Path(task.choices["best"]).parent.mkdir(parents=True)
    Path(task.choices["best"]).write_text('{"run": "x", "changes": ["loop.max_steps=7"]}', encoding="utf-8")
    assert pick.late_overrides(task) == ["loop.max_steps=7", "loop.max_steps=2"], "the later one counts"


def test_a_setting_below_a_stage_changes_a_dotted_key(write: Any) -> None:
    stages = {"one": {**TRAIN, "overrides": {"loop.max_steps": 8, "loop.clip_norm": 3.0}}, "two": TRAIN}
    planned = make(write(stages), "stages.one.overrides.loop.max_steps=2", "stages.two.overrides.seed=9")
    assert config(planned, "one")["loop"] | {"max_steps": 2, "clip_norm": 3.0} == config(planned, "one")["loop"]
    assert config(planned, "two")["seed"] == 9 and config(planned, "one")["seed"] != 9


def test_resources_of_the_command_line_win_and_those_of_one_stage_win_over_them(write: Any) -> None:
    stages = {name: {**TRAIN, "resources": {"time_min": 9, "extra": {"nice": 1}}} for name in "ab"}
    planned = make(
        write(stages, site={"extra": {"comment": "x"}}),
        "resources.time_min=7", "stages.b.resources.time_min=8", "resources.extra.nice=2",
    )  # fmt: skip
    found = {name: stage.settings.resources for name, stage in planned.stages.items()}
    assert [found[name].time_min for name in "ab"] == [7, 8]
    assert found["a"].extra == {"comment": "x", "nice": 2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["optimizer.lr=1e-3"], "--set optimizer.lr: stage 'sweep' is a sweep over it, and its members would be the"),
        (["optimizer={name: adam}"], "--set optimizer: stage 'sweep' is a sweep over it"),
        (["init_from.which=best"], "--set init_from.which: stage 'next' starts from the weights of 'first'; change"),
        (["stages.first.overrides.seed=["], "command line: 'stages.first.overrides.seed=[': "),
    ],
)
def test_settings_that_would_undo_a_stage_are_refused(settings: list[str], message: str, write: Any) -> None:
    stages = {
        "sweep": {**TRAIN, "grid": {"optimizer.lr": [1e-3, 1e-4]}}, "first": TRAIN,
        "next": {**TRAIN, "init_from": {"stage": "first"}},
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        make(write(stages), *settings)
    assert message in str(caught.value)


def test_settings_without_effect_are_named(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = write({"a": {"command": ["-c", "pass"], "resources": {"partition": "slow"}}, "b": {"command": ["-c", "1"]}})
    settings = ["--set", "loop.epochs=2", "--set", "site.partition=fast"]
    assert submit.main(["--stages", str(file), "--dry-run", *settings]) == 0
    warnings = capsys.readouterr().err
    assert "--set loop.epochs: no effect, because no stage trains a configuration" in warnings
    assert "--set site.partition: no effect on a, whose resources name another; use --set resources.part" in warnings


def test_a_command_that_would_write_in_the_copy_of_the_code_is_warned_of(
    write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    build = ["-m", "shards.build", "phantom", "--output", "not_there_yet/set"]
    assert submit.main(["--stages", str(write({"a": {"command": build}})), "--dry-run"]) == 0
    assert "stages.a.command: 'not_there_yet/set' begins with a folder that" in capsys.readouterr().err
