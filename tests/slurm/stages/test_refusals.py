"""What SLURM refuses is said in one sentence, and a chain is handed in whole or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.slurm.driver import TIMEOUT_S, Launcher, wait_until

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(TIMEOUT_S)]

SAY = {"command": ["-c", "print('said')"]}


def queue(jobs: Launcher, file: Path) -> list[str]:
    """State and reason of the jobs of a stage file that are in the queue."""
    assert jobs.cluster
    lines = jobs.cluster.run("squeue", "-h", "-o", "%j|%T|%r").splitlines()
    return sorted(line.removeprefix(f"{file.stem}.") for line in lines if line.startswith(f"{file.stem}."))


def one_sentence(said: str) -> str:
    lines = said.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), said
    return lines[0]


@pytest.mark.parametrize(
    ("resources", "says"),
    [
        ({"partition": "nowhere"}, "SLURM refused stage 'third': Invalid partition name specified"),
        ({"gpus_per_node": 64}, "SLURM will not start stage 'third' (scontrol: "),
        ({"extra": {"no-such-option": 1}}, "SLURM refused stage 'third': unrecognized option '--no-such-option=1'"),
    ],
)
def test_a_refused_stage_withdraws_those_before_it(on_slurm: Launcher, resources: dict[str, Any], says: str) -> None:
    stages = {"first": SAY, "second": {**SAY, "after": ["first"]}, "third": {**SAY, "resources": resources}}
    file = on_slurm.stage_file(f"refused-{next(iter(resources))}", stages)
    said = on_slurm.submit(file, code=6)
    assert says in one_sentence(said.err) and said.err.endswith("jobs handed in were withdrawn\n")
    wait_until(lambda: not queue(on_slurm, file), lambda: str(queue(on_slurm, file)))
    assert not on_slurm.log(file.stem, "first"), "nothing had started: jobs are held until the last one is accepted"
    assert on_slurm.word(file.stem, "first") == "cancelled"


def test_a_refused_chain_is_handed_in_again_once_it_is_mended(on_slurm: Launcher) -> None:
    stages = {"first": SAY, "second": {**SAY, "after": ["first"]}}
    file = on_slurm.stage_file("mended", {**stages, "third": {**SAY, "resources": {"partition": "nowhere"}}})
    on_slurm.submit(file, code=6)
    on_slurm.submit(on_slurm.stage_file("mended", {**stages, "third": SAY}))
    for name in ("first", "second", "third"):
        on_slurm.until("mended", name, "finished")


def test_a_submission_that_was_killed_is_taken_over_by_the_next(on_slurm: Launcher) -> None:
    file = on_slurm.stage_file("killed", {"first": SAY, "second": {**SAY, "after": ["first"]}})
    on_slurm.submit(file)
    on_slurm.run("cancel", on_slurm.runs("killed"))
    # a launcher killed after its first job leaves this: one held job, written down
    assert on_slurm.cluster
    shutil.rmtree(on_slurm.runs("killed") / "jobs" / "second")
    stages = on_slurm.manifest("killed")
    wrap = ["--hold", "--job-name=killed.first", "--output=/dev/null", "--wrap", "true"]
    job = on_slurm.cluster.run("sbatch", *wrap).split()[-1]
    task = {**stages["stages"]["first"]["tasks"][0], "job": job}
    stages["stages"] = {"first": {**stages["stages"]["first"], "job": job, "tasks": [task], "withdrawn": False}}
    (on_slurm.runs("killed") / "stages.json").write_text(json.dumps(stages))
    assert "held: its submission was interrupted" in on_slurm.status("killed")["first"]
    again = on_slurm.submit(file)
    assert f"first: in the queue as job {job}, kept" in again.out and "second: job" in again.out
    wait_until(lambda: "first|PENDING|JobHeldUser" not in queue(on_slurm, file), lambda: str(queue(on_slurm, file)))
    on_slurm.run("cancel", on_slurm.runs("killed"))


def test_limits_of_the_site_and_of_the_queue_are_kept(on_slurm: Launcher) -> None:
    stages = {"sweep": {"config": "configs/cross_no_skip.yaml", "grid": {"seed": list(range(60))}}}
    stages |= {name: {**SAY, "each": "sweep"} for name in ("one", "two")}
    file = on_slurm.stage_file("many", stages)
    said = one_sentence(on_slurm.submit(file, code=6).err)
    assert "180 jobs more would make" in said and "site.max_jobs is 100" in said
    said = one_sentence(on_slurm.submit(file, "--set", "site.max_jobs=1000", code=6).err)
    assert "the queue is full" in said and "MaxJobCount=180" in said
    assert queue(on_slurm, file) == []


def test_a_removed_run_folder_is_said_and_the_stage_runs_again(on_slurm: Launcher) -> None:
    on_slurm.submit(on_slurm.stage_file("vanished", {"first": SAY, "second": {**SAY, "after": ["first"]}}))
    on_slurm.until("vanished", "second", "finished")
    shutil.rmtree(on_slurm.runs("vanished") / "jobs" / "second")
    assert "was removed" in on_slurm.until("vanished", "second", "gone")
    again = on_slurm.submit(on_slurm.folder / "vanished.yaml")
    assert "first: finished, kept" in again.out and "second: job" in again.out
    on_slurm.until("vanished", "second", "finished")
    shutil.rmtree(on_slurm.runs("vanished"))
    said = one_sentence(on_slurm.run("status", on_slurm.runs("vanished"), code=2).err)
    assert "nothing was submitted there, or the folder was removed" in said


def test_a_finished_stage_is_not_taken_for_one_with_other_settings(on_slurm: Launcher) -> None:
    on_slurm.submit(on_slurm.stage_file("changed", {"first": SAY}))
    on_slurm.until("changed", "first", "finished")
    said = on_slurm.submit(on_slurm.stage_file("changed", {"first": {"command": ["-c", "print('other')"]}}), code=2)
    assert "holds a finished run of other settings: choose another name" in one_sentence(said.err)


def test_a_stage_for_a_failure_that_did_not_come_is_not_needed(on_slurm: Launcher) -> None:
    file = on_slurm.stage_file("unneeded", {"first": SAY, "cleanup": {**SAY, "after": {"first": "afternotok"}}})
    on_slurm.submit(file)
    assert "not needed: first finished" in on_slurm.until("unneeded", "cleanup", "skipped")
    assert "cleanup: not needed: first finished" in on_slurm.submit(file).out


def test_a_stage_whose_predecessor_is_missing_is_not_submitted_alone(on_slurm: Launcher) -> None:
    file = on_slurm.stage_file("alone", {"first": SAY, "second": {**SAY, "after": ["first"]}})
    said = on_slurm.submit(file, "--only", "second", code=2)
    assert "starts after first, which has not finished here: submit it too" in one_sentence(said.err)
    assert "no stage 'secnd'; did you mean 'second'?" in on_slurm.submit(file, "--only", "secnd", code=2).err


def test_without_slurm_the_sentence_names_the_way_out(launcher: Launcher, tmp_path: Path) -> None:
    file = launcher.stage_file("nowhere", {"first": SAY})
    environment = {**launcher.environment(), "PATH": str(tmp_path)}
    launcher.environment = lambda: environment  # type: ignore[method-assign]
    said = one_sentence(launcher.submit(file, code=6).err)
    assert "is not installed here" in said and "--local" in said


def test_two_submissions_into_one_folder_at_once_are_refused(launcher: Launcher) -> None:
    sleep = "import pathlib, sys, time; pathlib.Path(sys.argv[1], 'on').touch(); time.sleep(600)"
    file = launcher.stage_file("twice", {"first": {"command": ["-c", sleep, "{here}"]}})
    first = launcher.start("--stages", file, "--run-dir", launcher.runs("twice"), "--local")
    try:
        wait_until((launcher.runs("twice") / "first" / "on").exists, lambda: "the local run")
        assert "another process is submitting or running" in launcher.submit(file, "--local", code=6).err
        assert launcher.word("twice", "first") == "running"
    finally:
        first.terminate()
        launcher.ended(first, code=75)
    assert launcher.word("twice", "first") == "stopped"


def test_logs_follow_a_job_to_its_end(on_slurm: Launcher) -> None:
    slow = {"command": ["-c", "import time; print('one', flush=True); time.sleep(3); print('two')"]}
    on_slurm.submit(on_slurm.stage_file("talks", {"first": slow}))
    said = on_slurm.run("logs", on_slurm.runs("talks"), "first")
    assert said.out.index("one") < said.out.index("two")
    assert said.out.count("one\n") == 1
    assert (
        "no stage 'frst' was submitted; did you mean 'first'?"
        in on_slurm.run("logs", on_slurm.runs("talks"), "frst", code=2).err
    )


def test_stages_run_one_at_a_time_here_know_of_one_another(launcher: Launcher) -> None:
    stages = {"first": SAY, "second": {**SAY, "after": ["first"]}}
    file = launcher.stage_file("steps", stages)
    said = launcher.submit(file, "--local", "--only", "second", code=2)
    assert "starts after first, which has not finished here" in one_sentence(said.err)
    launcher.submit(file, "--local", "--only", "first")
    assert "== second: exit code 0" in launcher.submit(file, "--local", "--only", "second").out
    other = launcher.stage_file("steps", {**stages, "first": {"command": ["-c", "print('other')"]}})
    assert "other settings" in one_sentence(launcher.submit(other, "--local", code=2).err)


def test_nothing_runs_here_beside_its_own_jobs(on_slurm: Launcher) -> None:
    file = on_slurm.stage_file("beside", {"first": {"command": ["-c", "import time; time.sleep(300)"]}})
    on_slurm.submit(file)
    said = one_sentence(on_slurm.submit(file, "--local", code=6).err)
    assert f"stage 'first' is in SLURM's queue as job {on_slurm.job('beside', 'first')}: cancel it" in said
    on_slurm.run("cancel", on_slurm.runs("beside"))


def test_a_local_chain_goes_on_after_a_failure_only_where_it_may(launcher: Launcher) -> None:
    stages = {
        "bad": {"command": ["-c", "import sys; print('error: broken', file=sys.stderr); sys.exit(4)"]},
        "never": {**SAY, "after": ["bad"]},
        "cleanup": {**SAY, "after": {"bad": "afternotok"}},
        "always": {**SAY, "after": {"never": "afterany"}},
    }
    said = launcher.submit(launcher.stage_file("local", stages), "--local", code=4)
    assert "never: skipped because bad did not finish" in said.out
    lines = launcher.status("local")
    assert [lines[name].split()[2] for name in stages] == ["failed", "skipped", "finished", "finished"]
    assert "exit code 4: error: broken" in lines["bad"]
