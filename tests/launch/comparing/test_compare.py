"""`quell compare`: rankings, groups, seeds, refusals and files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quell.configs.support.json_files import Record
from quell.launch.comparing import command
from quell.launch.differences.units import units_of
from tests.launch.comparing.fake_reports import scores, write_report
from tests.support.small_runs import single_error

Output = pytest.CaptureFixture[str]


def compare(output: Path, *words: object) -> int:
    """Run the command; its exit code."""
    return command.main([*map(str, words), "--output", str(output)])


def compared(output: Path, metric: str = "psnr") -> Record:
    """What comparison.json says of a metric."""
    content: Record = json.loads((output / "comparison.json").read_text())["metrics"][metric]
    return content


def test_a_better_run_is_ranked_first_and_equal_ones_are_ties(tmp_path: Path, capsys: Output) -> None:
    for name, mean, seed in (("good", 31.0, 1), ("equal", 31.0, 2), ("bad", 28.0, 3)):
        write_report(tmp_path / name, scores(12, mean, seed=seed), overrides=[f"optimizer.lr={mean + seed}e-5"])
    out = tmp_path / "out"
    assert compare(out, *(tmp_path / name for name in ("bad", "good", "equal"))) == 0
    found = compared(out)
    ranks = {row["method"]: row for row in found["ranking"]}
    assert ranks["bad"]["rank"] == 3 and ranks["bad"]["not_distinguishable_from_rank"] == []
    assert {ranks["good"]["rank"], ranks["equal"]["rank"]} == {1, 2}
    assert ranks["good"]["not_distinguishable_from_rank"] == [ranks["equal"]["rank"]]
    worst = next(pair for pair in found["pairs"] if "bad" in (pair["first"], pair["second"]))
    assert worst["second"] == "bad" and worst["first_is"] == "better" and worst["first_better"] == 12
    assert worst["low"] < 3 < worst["high"] and worst["p_holm"] >= worst["p"]
    printed = capsys.readouterr().out
    assert "| 3 | bad | 28" in printed and "corrected for 3 tests (Holm)" in printed and "one seed only" in printed
    names = sorted(file.name for file in out.iterdir())
    assert names == [
        "agreement_psnr.png",
        "comparison.json",
        "comparison.md",
        "differences_psnr.png",
        "forest_psnr.png",
    ]
    assert "![forest_psnr](forest_psnr.png)" in (out / "comparison.md").read_text()


def test_smaller_is_better_for_an_error_and_nearer_to_one_for_edges(tmp_path: Path) -> None:
    for name, error, edges in (("a", 0.02, 0.9), ("b", 0.03, 1.3)):
        metrics = {"rmse": scores(8, error, spread=1e-4), "epi": [edges] * 8, "enl": [5.0] * 8}
        metrics["rmse"] = [error + 1e-4 * i for i in range(8)]
        write_report(tmp_path / name, scores(8, 30), metrics=metrics, overrides=[f"optimizer.lr={error}"])
    assert compare(tmp_path / "out", tmp_path / "b", tmp_path / "a", "--plots", 0) == 0
    for metric in ("rmse", "epi"):
        ranking = compared(tmp_path / "out", metric)["ranking"]
        assert [row["method"] for row in ranking] == ["a", "b"]
    assert "enl" not in json.loads((tmp_path / "out" / "comparison.json").read_text())["metrics"]


def test_images_of_one_patient_count_once(tmp_path: Path, capsys: Output) -> None:
    groups = [f"p{i // 4}" for i in range(16)]
    for name, mean in (("a", 30.5), ("b", 30.0)):
        write_report(
            tmp_path / name, scores(16, mean, seed=len(name)), groups=groups, overrides=[f"optimizer.lr={mean}"]
        )
    assert compare(tmp_path / "out", tmp_path / "a", tmp_path / "b", "--plots", 0) == 0
    printed = capsys.readouterr().out
    assert "16 images of 4 groups" in printed and "0 of 4" in printed
    assert "With 4 groups no signed-rank test can reach 5 %: the smallest p is 0.12" in printed
    (pair,) = compared(tmp_path / "out")["pairs"]
    assert list(pair["differences"]) == ["p0", "p1", "p2", "p3"] and pair["p_wilcoxon"] == 0.125
    assert pair["first_is"] == "not distinguishable"


def test_groups_count_the_same_however_many_images_they_have() -> None:
    units = units_of(["a", "b", "c"], {"a": "p", "b": "p", "c": "q"})
    assert units.means(np.array([[1.0, 3.0, 10.0]])).tolist() == [[2.0, 10.0]]
    assert units.subset(np.array([False, True, False])).names == ("p",)
    assert "no groups" in units_of(["a", "b"], {}).note and "only" in units_of(["a", "b"], {"a": "p"}).note
    assert "one group (p)" in units_of(["a", "b"], {"a": "p", "b": "p"}).note


def test_runs_that_differ_in_their_seed_are_one_method(tmp_path: Path, capsys: Output) -> None:
    for seed in (1, 2, 3):
        for name, lr, mean in (("new", 1e-3, 31), ("old", 2e-3, 30)):
            settings = [f"seed={seed}", f"optimizer.lr={lr}", "tracking.log_every=7", f"data.threads={seed}"]
            write_report(tmp_path / f"{name}-{seed}", scores(10, mean, seed=seed), overrides=settings)
    runs = sorted(tmp_path.glob("*-*"))
    assert compare(tmp_path / "out", *runs, "--plots", 0) == 0
    assert "| 1 | new | 3 | 3" in capsys.readouterr().out
    (pair,) = compared(tmp_path / "out")["pairs"]
    assert (pair["first"], pair["test"], pair["first_is"]) == ("new", "t, seeds and images", "better")


def test_a_run_is_compared_with_its_baselines_and_everything_with_one_of_them(tmp_path: Path, capsys: Output) -> None:
    write_report(tmp_path / "a", scores(8, 31), nlm=scores(8, 29, seed=4))
    assert compare(tmp_path / "out", tmp_path / "a", "--plots", 0) == 0
    assert "| 2 | NLM |" in capsys.readouterr().out
    write_report(tmp_path / "b", scores(8, 30, seed=5), overrides=["optimizer.lr=0.1"])
    assert compare(tmp_path / "out", tmp_path / "a", tmp_path / "b", "--against", "nlm", "--format", "svg") == 0
    assert len(compared(tmp_path / "out")["pairs"]) == 2
    assert "corrected for 2 tests" in capsys.readouterr().out
    assert (tmp_path / "out" / "forest_psnr.svg").read_text().startswith("<?xml")
    assert compare(tmp_path / "out", tmp_path / "a", "--no-baselines") == 2
    assert "nothing to compare a with" in single_error(capsys.readouterr().err)
    assert compare(tmp_path / "out", tmp_path / "a", "--against", "c") == 2
    assert "--against: no 'c'" in single_error(capsys.readouterr().err)


def test_the_exit_code_says_whether_the_first_run_is_better(tmp_path: Path) -> None:
    for name, mean in (("a", 31.0), ("b", 30.0)):
        write_report(tmp_path / name, scores(10, mean, seed=len(name)), overrides=[f"optimizer.lr={mean}"])
    runs = tmp_path / "a", tmp_path / "b"
    assert compare(tmp_path / "out", *runs, "--require-better", "--plots", 0) == 0
    assert compare(tmp_path / "out", *reversed(runs), "--require-better", "--plots", 0) == 3


def test_ranks_that_contradict_the_mean_are_no_verdict(tmp_path: Path, capsys: Output) -> None:
    base = np.array(scores(40, 30))
    outliers = [*np.linspace(0.08, 0.12, 36), *np.linspace(-1.9, -2.1, 4)]  # W+ favours "new", the mean "old"
    for name, lr, values in (("new", 1e-3, base + outliers), ("old", 2e-3, base)):
        write_report(tmp_path / name, list(values), overrides=[f"optimizer.lr={lr}"])
    for runs in ((tmp_path / "new", tmp_path / "old"), (tmp_path / "old", tmp_path / "new")):
        assert compare(tmp_path / "out", *runs, "--require-better", "--plots", 0) == 3
    found = compared(tmp_path / "out")
    (pair,) = found["pairs"]
    assert pair["p_holm"] < 0.001 and pair["difference"] > 0 > pair["low"]
    assert pair["first"] == "old" and pair["first_is"] == "not distinguishable"
    assert found["ranking"][0]["not_distinguishable_from_rank"] == [2]
    assert "(4 to 36 images better)" in capsys.readouterr().out


@pytest.mark.parametrize("metric", ["psnr", "ssim"])
def test_a_method_that_fails_on_images_is_last_and_not_better(metric: str, tmp_path: Path, capsys: Output) -> None:
    for name, lr, mean in (("fails", 1e-3, 32), ("sound", 2e-3, 30)):
        values: list[Any] = list(scores(12, mean, seed=int(mean)))
        values[:3] = ["-inf"] * 3 if name == "fails" else values[:3]
        ssim = [-1.0 if value == "-inf" else value / 40 for value in values]
        write_report(tmp_path / name, values, overrides=[f"optimizer.lr={lr}"], metrics={"ssim": ssim})
    words = [tmp_path / "fails", tmp_path / "sound", "--metrics", metric, "--plots", 0]
    assert compare(tmp_path / "out", *words, "--require-better") == 3
    printed = capsys.readouterr().out
    assert "fails failed on 3 images (s00, s01, s02)" in printed and "| 2 | fails | " in printed
    found = compared(tmp_path / "out", metric)
    assert found["failed"] == {"fails": ["s00", "s01", "s02"]} and found["left_out"] == []
    (pair,) = found["pairs"]
    assert pair["first"] == "sound" and pair["first_is"] == "not distinguishable" and pair["p_holm"] < 0.01


def test_a_method_that_fails_on_all_images_is_named(tmp_path: Path, capsys: Output) -> None:
    write_report(tmp_path / "a", scores(6, 30))
    write_report(tmp_path / "b", ["-inf"] * 6, overrides=["optimizer.lr=0.1"])  # type: ignore[list-item]
    assert compare(tmp_path / "out", tmp_path / "a", tmp_path / "b") == 4
    assert "b failed on all images" in single_error(capsys.readouterr().err)


def test_the_order_is_that_of_groups_as_the_tests_are(tmp_path: Path, capsys: Output) -> None:
    groups = ["big"] * 20 + [f"g{i}" for i in range(7)]
    base = np.full(27, 30.0) + np.arange(27) * 0.01
    gain = np.where(np.arange(27) < 20, -1.0, 0.45 + 0.01 * np.arange(27))  # one patient with many slices loses
    for name, lr, values in (("a", 1e-3, base + gain), ("b", 2e-3, base)):
        write_report(tmp_path / name, list(values), groups=groups, overrides=[f"optimizer.lr={lr}"])
    assert compare(tmp_path / "out", tmp_path / "b", tmp_path / "a") == 0
    first, second = compared(tmp_path / "out")["ranking"]
    (pair,) = compared(tmp_path / "out")["pairs"]
    assert (first["method"], pair["first"]) == ("a", "a") and pair["difference"] > 0
    assert first["mean"] - second["mean"] == pytest.approx(pair["difference"])
    assert "difference are over 8 groups" in capsys.readouterr().out


def test_rounding_is_no_difference(tmp_path: Path, capsys: Output) -> None:
    values = np.array(scores(12, 30))
    for name, lr, added in (("a", 1e-3, 0.0), ("b", 2e-3, 1e-7)):
        write_report(tmp_path / name, list(values + added * np.linspace(1, 2, 12)), overrides=[f"optimizer.lr={lr}"])
    assert compare(tmp_path / "out", tmp_path / "a", tmp_path / "b", "--plots", 0) == 0
    (pair,) = compared(tmp_path / "out")["pairs"]
    assert pair["p_holm"] == 1 and pair["first_is"] == "not distinguishable" and pair["difference"] == 0
    assert "equal up to rounding in 12 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "1:bb:1"}, "are of different images"),
        ({"data_range": 2.0}, "data ranges 1 and 2"),
        ({"overrides": ["data.resize=32"]}, "data.resize is None and 32"),
        ({"psnr": [30.0] * 4}, "are of 6 and 4 samples, of which 4 are the same"),
        ({"noisy": 21.0}, "measure psnr of the noisy 'pd' of s00 as 20 and 21"),
        ({"outputs": {"out": {"noisy": "oct", "clean": "c", "primary": True}}}, "no noisy image in common"),
        ({"outputs": {"out": {"noisy": "pd", "clean": "c", "primary": True}}}, "compare 'pd' with pd_clean and c"),
        ({"fingerprint": ""}, "does not say which data it measured"),
        ({"rows": []}, "it has no rows"),
    ],
)
def test_what_was_not_measured_alike_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path, capsys: Output
) -> None:
    write_report(tmp_path / "a", [30.0] * 6)
    write_report(tmp_path / "b", **{"psnr": [31.0] * 6, **change})
    assert compare(tmp_path / "out", tmp_path / "a", tmp_path / "b") == 4
    assert message in single_error(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_missing_reports_metrics_and_repeated_runs_are_named(tmp_path: Path, capsys: Output) -> None:
    run = write_report(tmp_path / "a", [30.0] * 6, nlm=[29.0] * 6)
    for words, code, message in (
        ([tmp_path / "b"], 4, "has not been evaluated"),
        ([run, run / "report.json"], 2, "is named twice"),
        ([run, "--metrics", "ssim"], 2, "was not measured with 'ssim'"),
        ([run, "--metrics", "enl"], 2, "enl grows with blur"),
        ([run, "--fields", "p"], 2, "no 'p' in these reports; did you mean"),
    ):
        assert compare(tmp_path / "out", *words) == code
        assert message in single_error(capsys.readouterr().err)


def test_images_without_a_finite_value_are_left_out_and_named(tmp_path: Path, capsys: Output) -> None:
    write_report(tmp_path / "a", scores(8, 31), nlm=[float("nan"), *scores(7, 29)])
    assert compare(tmp_path / "out", tmp_path / "a", "--plots", 0) == 0
    assert "Left out: 1 images without a finite value of every method (s00)" in capsys.readouterr().out


def test_the_best_checkpoint_is_compared_with_the_average(tmp_path: Path, capsys: Output) -> None:
    run = write_report(tmp_path / "a", scores(8, 31), which="best", checkpoint="step-00000100")
    content = json.loads((run / "report.json").read_text())
    for row in content["rows"]:
        row["out/psnr"] += 0.3 + 0.01 * row["index"]
    (run / "average.json").write_text(json.dumps(content | {"checkpoint": "average", "which": "average"}))
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "best.json").write_text('{"step": 200, "metric": "psnr", "value": 31.0}')
    assert compare(tmp_path / "out", run, run / "average.json", "--plots", 0) == 0
    printed = capsys.readouterr().out
    assert "| 1 | a (average) | average | 3" in printed and "| 2 | a (best) | best | 3" in printed
    assert "report.json is of step-00000100, while the best checkpoint of the run is step-00000200 now" in printed
    assert list(compared(tmp_path / "out")["values"]) == ["a (best)", "a (average)"]
    assert compare(tmp_path / "out", run, run / "average.json", "--against", run) == 2
    assert "may be 'a (best)' or 'a (average)'" in single_error(capsys.readouterr().err)
    assert compare(tmp_path / "out", run, run / "average.json", "--against", "a (best)", "--plots", 0) == 0


def test_named_methods_and_what_cannot_be_asked_of_them(tmp_path: Path, capsys: Output) -> None:
    for seed in (1, 2, 3, 4):
        mean, code = (30, "before") if seed < 3 else (31, "after")
        write_report(tmp_path / f"r{seed}", scores(10, mean, seed=seed), overrides=[f"seed={seed}"], code=code)
    runs = [str(tmp_path / f"r{seed}") for seed in (1, 2, 3, 4)]
    words: list[object] = ["--method", f"new={runs[2]},{runs[3]}", "--method", f"old={runs[0]},{runs[1]}", "--plots", 0]
    assert compare(tmp_path / "out", *words, "--require-better") == 0
    assert "| 1 | new | 2 |" in capsys.readouterr().out
    for wrong, message in (
        (["--method", "new"], "--method must be NAME=RUN,RUN"),
        ([], "there is nothing to compare: name the evaluated runs"),
        ([runs[0], "--method", f"new={runs[0]}"], "is named twice"),
        (runs[:2], "there is nothing to compare r with, of which all these runs are seeds: name another run, evaluate"),
    ):
        assert compare(tmp_path / "out", *wrong) == 2
        assert message in single_error(capsys.readouterr().err)


def test_the_first_run_cannot_be_better_than_what_it_is_not_compared_with(tmp_path: Path, capsys: Output) -> None:
    for name, mean in (("a", 31.0), ("b", 30.0)):
        nlm = scores(10, 28, seed=7)
        write_report(tmp_path / name, scores(10, mean, seed=3), nlm=nlm, overrides=[f"optimizer.lr={mean}"])
    runs = tmp_path / "a", tmp_path / "b"
    assert compare(tmp_path / "out", *runs, "--require-better", "--against", "nlm") == 2
    assert "give --against a, or none" in single_error(capsys.readouterr().err)
    assert compare(tmp_path / "out", *runs, "--require-better", "--against", runs[0], "--plots", 0) == 0


def test_one_run_against_several_seeds_says_what_it_assumes(tmp_path: Path, capsys: Output) -> None:
    for name, seed, lr in (("old-1", 1, 0.1), ("old-2", 2, 0.1), ("new", 3, 0.2)):
        settings = [f"seed={seed}", f"optimizer.lr={lr}"]
        write_report(tmp_path / name, scores(10, 30 + 5 * lr, seed=seed), overrides=settings)
    runs = [tmp_path / name for name in ("old-1", "old-2", "new")]
    assert compare(tmp_path / "out", *runs, "--plots", 0) == 0
    assert "new is taken to vary between seeds as much as old, of which there are 2" in capsys.readouterr().out
