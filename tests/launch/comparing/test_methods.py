"""Which runs are one method, and what the methods are called."""

import json
from pathlib import Path

import pytest

from quell.configs.errors import ConfigError
from quell.configs.support.atomic_files import write_atomically
from quell.launch.comparing.compare_runs import read_reports
from quell.launch.comparing.methods import Method, doubts, methods_of
from tests.launch.comparing.fake_reports import scores, write_report


def methods(*runs: Path) -> list[Method]:
    return methods_of(read_reports([str(run) for run in runs], evaluate=False))


def named(*runs: Path) -> list[tuple[str, int]]:
    """Name and number of runs of each method."""
    return [(method.name, len(method.reports)) for method in methods(*runs)]


def test_other_code_makes_another_method_with_the_same_settings(tmp_path: Path) -> None:
    runs = [
        write_report(tmp_path / f"{code}-{seed}", scores(6, 30), overrides=[f"seed={seed}"], code=code)
        for code in ("before", "after")
        for seed in (1, 2)
    ]
    assert named(*runs) == [("before", 2), ("after", 2)]
    (sentence,) = doubts(methods(*runs))
    assert "before and after have the same settings but were trained with other code" in sentence


def test_runs_that_do_not_record_their_code_are_one_method_with_a_word(tmp_path: Path) -> None:
    runs = [write_report(tmp_path / f"a-{seed}", scores(6, 30), overrides=[f"seed={seed}"]) for seed in (1, 2)]
    assert named(*runs) == [("a", 2)]
    assert "Not every run of a records the code" in doubts(methods(*runs))[0]
    again = write_report(tmp_path / "b", scores(6, 30), overrides=["seed=1"])
    assert named(*runs, again) == [("a-1", 1), ("a-2", 1), ("b", 1)]
    assert "a-1 and a-2 and b have the same settings but repeat a seed" in doubts(methods(*runs, again))[0]


def test_copies_of_the_data_are_the_same_data_and_other_data_are_not(tmp_path: Path) -> None:
    runs = [
        write_report(
            tmp_path / f"r{seed}",
            scores(6, 30),
            overrides=[f"seed={seed}", f"data.root=runs/data/copy{seed}"],
            code="c",
            data="bb" if seed == 3 else "aa",
        )
        for seed in (1, 2, 3)
    ]
    assert [count for _, count in named(*runs)] == [2, 1]


def test_a_second_stage_may_begin_from_the_same_seed_of_the_first(tmp_path: Path) -> None:
    first = [write_report(tmp_path / f"first{seed}", [30.0] * 6, overrides=[f"seed={seed}"]) for seed in (1, 2)]
    other = write_report(tmp_path / "other", [30.0] * 6, overrides=["seed=3", "optimizer.lr=0.1"])
    second = [
        write_report(tmp_path / f"second{seed}", [30.0] * 6, overrides=[f"seed={seed}", f"init_from.run={run}"])
        for seed, run in ((1, first[0]), (2, first[1]), (3, other), (4, tmp_path / "gone"))
    ]
    assert named(*second) == [("second", 2), ("second3", 1), ("second4", 1)]


def test_the_user_says_which_runs_are_one_method(tmp_path: Path) -> None:
    runs = [
        str(write_report(tmp_path / f"r{seed}", [30.0] * 6, overrides=[f"seed={seed}"], code=f"c{seed}"))
        for seed in (1, 2, 3)
    ]
    reports = read_reports(runs, evaluate=False)
    found = methods_of(reports[:1], {"new": reports[1:]})
    assert [(method.name, method.seeds) for method in found] == [("r1", (1,)), ("new", (2, 3))] and not doubts(found)
    with pytest.raises(ConfigError, match="--method new: two of its runs have seed 1"):
        methods_of([], {"new": [reports[0], reports[0]]})


def test_reports_of_one_run_are_told_apart(tmp_path: Path) -> None:
    run = write_report(tmp_path / "a", [30.0] * 6, which="best")
    content = json.loads((run / "report.json").read_text())
    for name, change in (("average", {"checkpoint": "average"}), ("again", {})):
        write_atomically(run / f"{name}.json", json.dumps(content | change))
    assert named(run, run / "average.json") == [("a (best)", 1), ("a (average)", 1)]
    assert named(run, run / "again.json") == [("a (report.json)", 1), ("a (again.json)", 1)]
    same_name = write_report(tmp_path / "deeper" / "a", [30.0] * 6, overrides=["seed=9", "optimizer.lr=0.1"])
    names = [name for name, _ in named(run, same_name)]
    assert names == [f"a ({tmp_path.name}/a)", "a (deeper/a)"]


def test_a_run_may_have_the_name_of_a_baseline(tmp_path: Path) -> None:
    run = write_report(tmp_path / "NLM", [30.0] * 6, nlm=[29.0] * 6)
    assert [name for name, _ in named(run)] == [f"NLM ({tmp_path.name}/NLM)", "NLM (of NLM)"]


@pytest.mark.parametrize("change", ["values", "parameters", "nothing"])
def test_a_baseline_that_was_measured_otherwise_is_another(change: str, tmp_path: Path) -> None:
    nlm = {"a": scores(6, 29), "b": scores(6, 33 if change == "values" else 29)}
    runs = [
        write_report(
            tmp_path / name,
            scores(6, 30),
            nlm=nlm[name],
            overrides=[f"optimizer.lr={lr}"],
            baselines={"nlm": {"h": 2 if change == "parameters" and name == "b" else 1}},
        )
        for name, lr in (("a", 0.1), ("b", 0.2))
    ]
    baselines = [method.name for method in methods(*runs) if method.baseline]
    assert baselines == (["NLM"] if change == "nothing" else ["NLM (of a)", "NLM (of b)"])
