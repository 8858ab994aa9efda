"""Options of sbatch in `extra`, dependencies on other jobs, and requests that contradict each other."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from quell.configs.errors import ConfigError
from quell.slurm.report import render
from quell.slurm.stages import plan, read
from quell.slurm.stages.schema import Resources

COMMAND = {"command": ["-c", "pass"]}


def dry_run(folder: Path, stages: dict[str, Any], **others: Any) -> str:
    """What --dry-run shows of a stage file."""
    file = folder / "stages.yaml"
    file.write_text(yaml.safe_dump({"stages": stages, **others}, sort_keys=False))
    return render.dry_run(plan.make(read.read(file), folder / "runs"), list(stages))


def flags(text: str) -> list[str]:
    """The options of sbatch in a dry run."""
    return [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]


def test_options_that_are_false_are_left_out_and_requeue_can_be_turned_off(tmp_path: Path) -> None:
    extra = {"exclusive": True, "overcommit": False, "requeue": False, "mail_type": "FAIL"}
    found = flags(dry_run(tmp_path, {"a": {**COMMAND, "resources": {"extra": extra}}}))
    assert {"exclusive", "no-requeue", "mail-type=FAIL"} <= set(found)
    assert not [flag for flag in found if flag.startswith(("requeue", "overcommit"))]
    no_requeue = {"no-requeue": True}
    assert "requeue" not in flags(dry_run(tmp_path, {"a": {**COMMAND, "resources": {"extra": no_requeue}}}))


def test_a_workload_key_is_only_there_if_it_is_given(tmp_path: Path) -> None:
    assert "wckey" not in dry_run(tmp_path, {"a": COMMAND})
    assert "wckey=mine" in flags(dry_run(tmp_path, {"a": COMMAND}, site={"extra": {"wckey": "mine"}}))


def test_srun_is_told_how_many_cores_a_task_has(tmp_path: Path) -> None:
    assert 'export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"' in dry_run(tmp_path, {"a": COMMAND})


def test_jobs_of_others_add_to_the_dependencies_between_stages(tmp_path: Path) -> None:
    after = {"a": "afterok", "jobs": {"12345": "afterany", "77_3": "afterok"}}
    stages = {"a": COMMAND, "b": {**COMMAND, "after": after}, "c": {**COMMAND, "after": {"jobs": [8]}}}
    text = dry_run(tmp_path, stages)
    assert "afterok:<a>,afterany:12345,afterok:77_3" in text and "dependency=afterok:8\n" in text
    assert "waits for a (afterok), job 12345 (afterany), job 77_3 (afterok)" in text


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"resources": {"extra": {"dependency": "afterok:1"}}}, "write after: {jobs: [ID]}, which adds to"),
        ({"resources": {"extra": {"ntasks_per_node": 2}}}, "write resources.tasks_per_node"),
        ({"resources": {"extra": {"time": 5}}}, "'time' is set by the launcher: write resources.time_min"),
        ({"resources": {"time_min": 1, "grace_s": 120}}, "grace_s (120 s) leaves nothing of time_min (1 min), for"),
        ({"after": {"jobs": {"x": "afterok"}}}, "'x' is no id of a SLURM job, such as 12345 or 12345_7"),
        ({"after": {"jobs": {"12": "later"}}}, "'12': Input should be 'afterok', 'afterany' or 'afternotok'"),
        ({"after": {"jobs": 12}}, "'jobs' names no stage but jobs in the queue"),
        ({"continue": {"starts": 3}}, "continue: only for stages that train"),
    ],
)
def test_what_cannot_work_is_refused(stage: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        dry_run(tmp_path, {"a": {**COMMAND, **stage}})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("resources", "wants"),
    [
        ({}, False),
        ({"gpus_per_node": 2}, True),
        ({"extra": {"gres": "gpu:a100:4"}}, True),
        ({"extra": {"gres": "nvme:1,gpu:2"}}, True),
        ({"extra": {"gres": "gpu:0"}}, False),
        ({"extra": {"gres": "gpumem:4"}}, False),
        ({"extra": {"gpus-per-task": "v100:1"}}, True),
        ({"extra": {"gpus": 0}}, False),
    ],
)
def test_a_request_for_gpus_is_recognised_however_it_is_spelt(resources: dict[str, Any], wants: bool) -> None:
    assert Resources.model_validate(resources).wants_gpus is wants
