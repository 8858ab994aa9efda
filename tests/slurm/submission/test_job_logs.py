"""The line that says why a job died, from logs as SLURM, shells and container runtimes write them."""

from pathlib import Path

import pytest

from quell.slurm.submission import job_logs

EXITED = "srun: error: n1: task 0: Exited with exit code 1"
OOM = "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0"
PYXIS = """\
pyxis: importing docker image: nowhere
slurmstepd: error: pyxis: container start failed with error code: 1
slurmstepd: error: pyxis: printing enroot log file:
slurmstepd: error: pyxis:     [ERROR] No such file or directory: /x/quell.sqsh
slurmstepd: error: pyxis: couldn't start container
slurmstepd: error: spank: required plugin spank_pyxis.so: task_init() failed with rc=-1
slurmstepd: error: Failed to invoke spank plugin stack
"""


def log(root: Path, text: str, rank: int = 0) -> None:
    folder = root / "logs" / "a" / "7"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"7_{rank}_log.out").write_text(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Lmod has detected an error: unknown module cuda/99\n"
            "quell: the site's setup failed with exit code 1: module load cuda/99\n",
            "the site's setup failed with exit code 1: module load cuda/99 (Lmod has detected an error: unknown module "
            "cuda/99)",
        ),
        (f"sh: 1: exec: /no/python: not found\n{EXITED}\n", "sh: 1: exec: /no/python: not found"),
        (
            f"FATAL:   could not open image /x/q.sif: failed to retrieve path\n{EXITED}\n",
            "FATAL: could not open image /x/q.sif: failed to retrieve path",
        ),
        (PYXIS + EXITED, "slurmstepd: error: pyxis: [ERROR] No such file or directory: /x/quell.sqsh"),
        (f"/usr/bin/python3: No module named submitit\n{EXITED}\n", "/usr/bin/python3: No module named submitit"),
        (f"{OOM}\n{EXITED}\n", OOM),
        ("loading\nall is well\n", "all is well"),
        ("", ""),
        ("an error of the first start\nquell: saved at step 3: requeueing job 7\nnode is gone\n", "node is gone"),
    ],
)
def test_the_cause_is_found_among_its_consequences(text: str, expected: str, tmp_path: Path) -> None:
    log(tmp_path, text)
    assert job_logs.cause(tmp_path, "a", "7") == expected


def test_what_a_run_printed_is_no_cause_of_its_death(tmp_path: Path) -> None:
    text = "validation error 0.3\nslurmstepd: error: *** JOB 7 CANCELLED DUE TO TIME LIMIT ***\n"
    log(tmp_path, text)
    assert job_logs.cause(tmp_path, "a", "7", was_running=True) == ""
    log(tmp_path, text + "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0\n")
    assert "oom_kill" in job_logs.cause(tmp_path, "a", "7", was_running=True)


def test_logs_are_found_by_rank_and_a_missing_one_has_no_cause(tmp_path: Path) -> None:
    for rank in (0, 2, 10):
        log(tmp_path, f"rank {rank}\n", rank)
    assert list(job_logs.files(tmp_path, "a", "7")) == [0, 2, 10]
    assert job_logs.cause(tmp_path, "a", "7", rank=10) == "rank 10"
    assert job_logs.cause(tmp_path, "a", "7", rank=3) == "" and job_logs.files(tmp_path, "a", "8") == {}
