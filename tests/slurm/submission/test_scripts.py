"""Nothing that a user writes breaks out of its place in an sbatch script, nor reaches a shell unquoted."""

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from quell.configs.errors import ConfigError
from quell.slurm import submit
from quell.slurm.stages import plan, read
from quell.slurm.submission import executor
from quell.slurm.submission.executor import JobRequest, shell_word

EVIL = "x\ntouch {mark}\n#"


def stage_file(tmp_path: Path, **keys: Any) -> Path:
    file = tmp_path / "stages.yaml"
    stage = {"command": ["-c", "pass"], **keys.pop("stage", {})}
    file.write_text(yaml.safe_dump({"stages": {"a": stage}, **keys}))
    return file


def script(tmp_path: Path, root: Path, **keys: Any) -> str:
    planned = plan.make(read.read(stage_file(tmp_path, **keys)), root)
    stage = planned.stages["a"]
    return executor.script(JobRequest(stage, stage.tasks, planned.site, planned.root))


@pytest.mark.parametrize(
    "keys",
    [
        {"site": {"partition": EVIL}},
        {"site": {"container": EVIL}},
        {"site": {"python": EVIL}},
        {"site": {"extra": {"comment": EVIL}}},
        {"site": {"extra": {EVIL: "x"}}},
        {"site": {"environment": {EVIL: "x"}}},
        {"resources": {"account": EVIL}},
        {"stage": {"resources": {"qos": EVIL}}},
        {"stage": {"resources": {"constraint": "a\rb"}}},
        {"stage": {"resources": {"extra": {"mail-type": "a\x0bb"}}}},
        {"site": {"container": "apptainer 'exec"}},
        {"name": ".."},
        {"name": "/tmp/x"},
        {"name": "a\nb"},
    ],
    ids=str,
)
def test_line_breaks_and_names_that_lead_elsewhere_are_refused(keys: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        script(tmp_path, tmp_path / "runs", **keys)
    assert all("\n" not in problem for problem in caught.value.problems)


@pytest.mark.parametrize("text", ["runs/a\nb", "../runs", "/tmp/100%j", "/tmp/a\rb"])
def test_a_run_folder_that_would_change_the_script_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit.main(["--stages", str(stage_file(tmp_path)), "--run-dir", text, "--dry-run"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_what_is_quoted_is_not_executed(tmp_path: Path) -> None:
    """The script runs in a shell in which sbatch's tools are missing; nothing in the user's text may run."""
    mark = tmp_path / "mark"
    evil = f"$(touch {mark})`touch {mark}`\";touch {mark};'"
    root = tmp_path / "ru ns;touch mark;$(touch mark)"
    text = script(
        tmp_path,
        root,
        site={
            "container": f"true $HOME/x.sif {shlex.quote(evil)}",
            "python": f"/bin/{evil}",
            "extra": {"comment": evil},
        },
    )
    subprocess.run(["bash", "-c", text], cwd=tmp_path, capture_output=True, timeout=60)
    assert not mark.exists() and not (tmp_path / "mark").exists()
    assert all(line.startswith("#SBATCH --") for line in text.splitlines() if "SBATCH" in line)
    assert '"$HOME/x.sif"' in text


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a b", "a b"),
        ("$NAME", "value"),
        ("${NAME}/x", "value/x"),
        ("$(id)", "$(id)"),
        ("a$", "a$"),
        ("`id`$NAME", "`id`value"),
    ],
)
def test_variables_alone_are_replaced(word: str, expected: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"printf %s {shell_word(word)}"], env={"NAME": "value"}, capture_output=True, text=True
    )
    assert done.stdout == expected


def test_points_of_a_grid_have_folders_of_their_own(tmp_path: Path) -> None:
    def sweep(**grid: Any) -> dict[str, Any]:
        return {"stages": {"a": {"config": "configs/quickstart.yaml", "grid": grid}}}

    for grid, says in (
        ({"seed": ["1 2", "1/2"]}, "2 points have only 1 different folder names"),
        ({"seed": list(range(100)), "loop.epochs": list(range(1, 100))}, "members at most"),
    ):
        file = tmp_path / "stages.yaml"
        file.write_text(yaml.safe_dump(sweep(**grid)))
        with pytest.raises(ConfigError, match=says):
            plan.make(read.read(file), tmp_path / "runs")
