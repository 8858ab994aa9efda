"""What SLURM refuses is reported in one sentence, and all stages are submitted or none."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.slurm.launcher import TIMEOUT_S, Launcher, wait_until

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(TIMEOUT_S)]

PRINT = {"command": ["-c", "print('output')"]}


def queue(jobs: Launcher, file: Path) -> list[str]:
    """State and reason of the jobs of a stage file that are in the queue."""
    assert jobs.cluster
    lines = jobs.cluster.run("squeue", "-h", "-o", "%j|%T|%r").splitlines()
    return sorted(line.removeprefix(f"{file.stem}.") for line in lines if line.startswith(f"{file.stem}."))


def single_error(stderr: str) -> str:
    """The only line of stderr, which is an error message."""
    lines = stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), stderr
    return lines[0]


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"partition": "nowhere"}, "SLURM refused stage 'third': Invalid partition name specified"),
        ({"gpus_per_node": 64}, "SLURM will not start stage 'third' (scontrol: "),
        ({"extra": {"no-such-option": 1}}, "SLURM refused stage 'third': unrecognized option '--no-such-option=1'"),
    ],
)
def test_a_refused_stage_cancels_those_before_it(on_slurm: Launcher, resources: dict[str, Any], message: str) -> None:
    stages = {"first": PRINT, "second": {**PRINT, "after": ["first"]}, "third": {**PRINT, "resources": resources}}
    file = on_slurm.stage_file(f"refused-{next(iter(resources))}", stages)
    result = on_slurm.submit(file, code=6)
    error = single_error(result.err)
    assert message in error and re.search(r"; the jobs submitted so far \([23]\) were cancelled$", error)
    wait_until(lambda: not queue(on_slurm, file), lambda: str(queue(on_slurm, file)))
    assert not on_slurm.log(file.stem, "first"), "nothing had started: jobs are held until the last one is accepted"
    assert on_slurm.state(file.stem, "first") == "cancelled"


def test_a_refused_chain_is_submitted_again_once_it_is_corrected(on_slurm: Launcher) -> None:
    stages = {"first": PRINT, "second": {**PRINT, "after": ["first"]}}
    file = on_slurm.stage_file("corrected", {**stages, "third": {**PRINT, "resources": {"partition": "nowhere"}}})
    on_slurm.submit(file, code=6)
    on_slurm.submit(on_slurm.stage_file("corrected", {**stages, "third": PRINT}))
    for name in ("first", "second", "third"):
        on_slurm.wait_for("corrected", name, "finished")


def test_the_jobs_of_a_killed_submission_are_taken_over_by_the_next(on_slurm: Launcher) -> None:
    file = on_slurm.stage_file("killed", {"first": PRINT, "second": {**PRINT, "after": ["first"]}})
    on_slurm.submit(file)
    on_slurm.run("cancel", on_slurm.runs("killed"))
    # a launcher killed after its first job leaves this: one held job, recorded in the manifest
    assert on_slurm.cluster
    shutil.rmtree(on_slurm.runs("killed") / "jobs" / "second")
    stages = on_slurm.manifest("killed")
    wrap = ["--hold", "--job-name=killed.first", "--output=/dev/null", "--wrap", "true"]
    job = on_slurm.cluster.run("sbatch", *wrap).split()[-1]
    task = {**stages["stages"]["first"]["tasks"][0], "job": job}
    stages["stages"] = {"first": {**stages["stages"]["first"], "job": job, "tasks": [task], "withdrawn": False}}
    (on_slurm.runs("killed") / "stages.json").write_text(json.dumps(stages))
    assert "held: its submission was interrupted" in on_slurm.status("killed")["first"]
    result = on_slurm.submit(file)
    assert f"first: in the queue as job {job}, kept" in result.out and "second: job" in result.out
    wait_until(lambda: "first|PENDING|JobHeldUser" not in queue(on_slurm, file), lambda: str(queue(on_slurm, file)))
    on_slurm.run("cancel", on_slurm.runs("killed"))


def test_the_limits_of_the_site_and_of_the_queue_are_respected(on_slurm: Launcher) -> None:
    stages = {"sweep": {"config": "configs/cross_no_skip.yaml", "grid": {"seed": list(range(60))}}}
    stages |= {name: {**PRINT, "each": "sweep"} for name in ("one", "two")}
    file = on_slurm.stage_file("many", stages)
    error = single_error(on_slurm.submit(file, code=6).err)
    assert "submitting 180 jobs would exceed site.max_jobs (100): you have " in error
    error = single_error(on_slurm.submit(file, "--set", "site.max_jobs=1000", code=6).err)
    assert "the queue is full" in error and "MaxJobCount=180" in error
    assert queue(on_slurm, file) == []


def test_a_removed_run_folder_is_reported_and_the_stage_runs_again(on_slurm: Launcher) -> None:
    on_slurm.submit(on_slurm.stage_file("vanished", {"first": PRINT, "second": {**PRINT, "after": ["first"]}}))
    on_slurm.wait_for("vanished", "second", "finished")
    shutil.rmtree(on_slurm.runs("vanished") / "jobs" / "second")
    assert "was removed" in on_slurm.wait_for("vanished", "second", "gone")
    result = on_slurm.submit(on_slurm.folder / "vanished.yaml")
    assert "first: finished, kept" in result.out and "second: job" in result.out
    on_slurm.wait_for("vanished", "second", "finished")
    shutil.rmtree(on_slurm.runs("vanished"))
    error = single_error(on_slurm.run("status", on_slurm.runs("vanished"), code=2).err)
    assert "nothing was submitted there, or the folder was removed" in error


def test_a_finished_stage_is_not_mistaken_for_one_with_other_settings(on_slurm: Launcher) -> None:
    on_slurm.submit(on_slurm.stage_file("changed", {"first": PRINT}))
    on_slurm.wait_for("changed", "first", "finished")
    changed = on_slurm.stage_file("changed", {"first": {"command": ["-c", "print('other')"]}})
    error = single_error(on_slurm.submit(changed, code=2).err)
    assert "holds a finished run with other settings: choose another name" in error


def test_a_stage_that_waits_for_a_failure_is_not_needed_after_success(on_slurm: Launcher) -> None:
    file = on_slurm.stage_file("unneeded", {"first": PRINT, "cleanup": {**PRINT, "after": {"first": "afternotok"}}})
    on_slurm.submit(file)
    assert "not needed: first finished" in on_slurm.wait_for("unneeded", "cleanup", "skipped")
    assert "cleanup: not needed: first finished" in on_slurm.submit(file).out


def test_a_stage_is_not_submitted_without_the_stages_it_waits_for(on_slurm: Launcher) -> None:
    file = on_slurm.stage_file("alone", {"first": PRINT, "second": {**PRINT, "after": ["first"]}})
    error = single_error(on_slurm.submit(file, "--only", "second", code=2).err)
    assert "starts after first, which has not finished here: submit it too" in error
    assert "no stage 'secnd'; did you mean 'second'?" in on_slurm.submit(file, "--only", "secnd", code=2).err


def test_without_slurm_the_error_names_the_alternatives(launcher: Launcher, tmp_path: Path) -> None:
    file = launcher.stage_file("nowhere", {"first": PRINT})
    environment = {**launcher.environment(), "PATH": str(tmp_path)}
    launcher.environment = lambda: environment  # type: ignore[method-assign]
    error = single_error(launcher.submit(file, code=6).err)
    assert "is not installed here" in error and "--local" in error


def test_two_submissions_into_one_folder_at_the_same_time_are_refused(launcher: Launcher) -> None:
    sleep = "import pathlib, sys, time; pathlib.Path(sys.argv[1], 'on').touch(); time.sleep(600)"
    file = launcher.stage_file("twice", {"first": {"command": ["-c", sleep, "{here}"]}})
    first = launcher.start("--stages", file, "--run-dir", launcher.runs("twice"), "--local")
    try:
        wait_until((launcher.runs("twice") / "first" / "on").exists, lambda: "the local run")
        assert "another process is submitting or running" in launcher.submit(file, "--local", code=6).err
        assert launcher.state("twice", "first") == "running"
    finally:
        first.terminate()
        launcher.finish(first, code=75)
    assert launcher.state("twice", "first") == "stopped"


def test_logs_follow_a_job_to_its_end(on_slurm: Launcher) -> None:
    slow = {"command": ["-c", "import time; print('one', flush=True); time.sleep(3); print('two')"]}
    on_slurm.submit(on_slurm.stage_file("prints", {"first": slow}))
    out = on_slurm.run("logs", on_slurm.runs("prints"), "first").out
    assert out.index("one") < out.index("two")
    assert out.count("one\n") == 1
    error = on_slurm.run("logs", on_slurm.runs("prints"), "frst", code=2).err
    assert "no stage 'frst' was submitted; did you mean 'first'?" in error


def test_stages_that_are_run_locally_one_by_one_know_of_each_other(launcher: Launcher) -> None:
    stages = {"first": PRINT, "second": {**PRINT, "after": ["first"]}}
    file = launcher.stage_file("steps", stages)
    error = single_error(launcher.submit(file, "--local", "--only", "second", code=2).err)
    assert "starts after first, which has not finished here" in error
    launcher.submit(file, "--local", "--only", "first")
    assert "== second: exit code 0" in launcher.submit(file, "--local", "--only", "second").out
    other = launcher.stage_file("steps", {**stages, "first": {"command": ["-c", "print('other')"]}})
    assert "other settings" in single_error(launcher.submit(other, "--local", code=2).err)


def test_stages_are_not_run_locally_while_their_jobs_are_in_the_queue(on_slurm: Launcher) -> None:
    file = on_slurm.stage_file("beside", {"first": {"command": ["-c", "import time; time.sleep(300)"]}})
    on_slurm.submit(file)
    error = single_error(on_slurm.submit(file, "--local", code=6).err)
    assert f"stage 'first' is in SLURM's queue as job {on_slurm.job('beside', 'first')}: cancel it" in error
    on_slurm.run("cancel", on_slurm.runs("beside"))


def test_a_local_chain_continues_after_a_failure_as_its_conditions_allow(launcher: Launcher) -> None:
    stages = {
        "bad": {"command": ["-c", "import sys; print('error: broken', file=sys.stderr); sys.exit(4)"]},
        "never": {**PRINT, "after": ["bad"]},
        "cleanup": {**PRINT, "after": {"bad": "afternotok"}},
        "always": {**PRINT, "after": {"never": "afterany"}},
    }
    result = launcher.submit(launcher.stage_file("local", stages), "--local", code=4)
    assert "never: skipped, because bad did not finish" in result.out
    lines = launcher.status("local")
    assert [lines[name].split()[2] for name in stages] == ["failed", "skipped", "finished", "finished"]
    assert "exit code 4: error: broken" in lines["bad"]
