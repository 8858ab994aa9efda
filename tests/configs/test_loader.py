"""Configurations are strict: all errors are reported together, and a dump loads back equal."""

import re
from pathlib import Path

import pytest

from quell.configs import loader
from quell.configs.errors import ConfigError
from quell.configs.schema import LoopConfig

DUAL = {"pipeline": {"name": "dual_domain"}}


def problems(data: dict, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loader.structure(loader.apply(data, list(overrides)))
    return caught.value.problems


def test_all_errors_are_reported_together_with_their_paths() -> None:
    reported = problems(
        {
            "pipeline": {"name": "dual_domain", "weights": {"contnt": 1, "cross": "much"}},
            "data": {"batch_size": 0, "lr": 1, "batch-size": 4},
            "loop": {"max_epochs": 3},
            "lr": 1,
            "seed": 2**64,
        }
    )
    text = "\n".join(reported)
    assert len(reported) == 8
    assert "data.batch-size: unknown key; did you mean 'batch_size'?" in text
    assert "seed: Input should be less than 9223372036854775808" in text
    assert "pipeline.weights.contnt: unknown key; did you mean 'content'?" in text
    assert "pipeline.weights.cross: " in text and "'much'" in text
    assert "data.batch_size: " in text
    assert "data.lr: unknown key; did you mean 'optimizer.lr'?" in text
    assert "loop.max_epochs: unknown key; did you mean 'epochs'?" in text
    assert "lr: unknown key; did you mean 'optimizer.lr'?" in text


def test_an_unknown_method_gets_a_suggestion() -> None:
    assert problems({"pipeline": {"name": "dual_doman"}}) == [
        "pipeline: name: no pipelines/dual_doman.py; did you mean 'dual_domain'?"
    ]


def test_a_method_can_be_given_by_its_name_alone() -> None:
    assert loader.structure({"pipeline": "dual_domain"}) == loader.structure(dict(DUAL))
    (problem,) = problems({"pipeline": 3})
    assert problem == "pipeline: expected a mapping with the method's `name` and its settings; got 3"


def test_a_folder_is_not_accepted_as_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"cannot read the configuration {tmp_path}: is a directory"):
        loader.load(tmp_path)


def test_incompatible_settings_are_refused() -> None:
    assert "data.batch_size must be a multiple of 2" in problems(DUAL, "data.batch_size=3", "loop.accumulate=2")[0]
    assert "give the run a length" in problems(DUAL, "loop.epochs=null")[0]


def test_overrides_reach_any_depth_and_are_read_as_yaml() -> None:
    run = loader.structure(
        loader.apply(
            dict(DUAL),
            [
                "pipeline.weights.content=1e-2",
                "optimizer.phases.denoiser.lr=2e-5",
                "data.crop=null",
                "loop.max_steps=7",
            ],
        )
    )
    assert run.pipeline.model_dump()["weights"]["content"] == 0.01
    assert run.optimizer.phases["denoiser"].lr == 2e-5
    assert run.data.crop is None
    assert run.loop.max_steps == 7


def test_an_override_without_equals_is_refused() -> None:
    assert problems(DUAL, "data.crop") == ["'data.crop': an override looks like section.key=value"]


def test_numbers_in_scientific_notation_are_numbers() -> None:
    assert loader.parse("[1e-4, 1E5, -2.5e-3, 3e+2]") == [1e-4, 1e5, -2.5e-3, 300.0]


def test_a_repeated_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "twice.yaml"
    file.write_text("pipeline: {name: dual_domain}\nseed: 1\nseed: 2\n")
    with pytest.raises(ConfigError, match="'seed' is given twice"):
        loader.load(file)


@pytest.mark.parametrize("text", ["pipeline: [", "- a\n- b\n", "\x00"])
def test_unreadable_files_are_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="bad.yaml"):
        loader.load(file)


def test_a_missing_file_gets_a_suggestion(root: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; did you mean 'quickstart'"):
        loader.load(root / "configs" / "quickstrt.yaml")


def test_a_binary_file_is_not_reported_as_a_wrong_name(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read the configuration .*run.yaml: 'utf-8'") as caught:
        loader.load(tmp_path / "run.yaml")
    assert "did you mean" not in str(caught.value)


def test_the_complete_configuration_loads_back_equal(tmp_path: Path) -> None:
    run = loader.structure(loader.apply(dict(DUAL), ["name=x", "optimizer.lr=3.3e-5", "data.fields.pd=first"]))
    file = tmp_path / "config.yaml"
    file.write_text(loader.dump(run))
    assert loader.load(file) == run


def test_the_run_is_named_after_its_file(root: Path) -> None:
    assert loader.load(root / "configs" / "quickstart.yaml").name == "quickstart"


@pytest.mark.parametrize(
    "override", ["data.batch_size=yes", "loop.epochs=on", "pipeline.encoder_features=[yes, 8]", "optimizer.lr=true"]
)
def test_true_is_not_the_number_one(root: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=f"{override.split('=')[0]}.*expected a number"):
        loader.load(root / "tests/launch/small.yaml", [override])


def test_true_is_not_the_width_of_a_network(root: Path) -> None:
    with pytest.raises(ConfigError, match="width: expected a number"):
        loader.load(root / "configs/supervised.yaml", ["pipeline.network={name: unet, width: yes}"])


def test_an_empty_name_is_the_name_of_the_file(tmp_path: Path, root: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text((root / "tests/launch/small.yaml").read_text() + 'name: ""\n')
    assert loader.load(file).name == "mine"


def test_a_warm_start_from_a_path_with_a_line_break_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="init_from.run: .*line break"):
        loader.load(root / "tests/launch/small.yaml", ['init_from.run="a\\nb"'])


def test_every_shipped_configuration_leaves_the_precision_to_the_device_or_says_why_not(root: Path) -> None:
    assert LoopConfig().precision == "auto"
    files = [*(root / "configs").glob("*.yaml"), *(root / "configs" / "studies").glob("*.yaml")]
    assert len(files) > 30
    for file in files:
        lines = [line for line in file.read_text("utf-8").splitlines() if re.search(r"\bprecision\b *[:=]", line)]
        assert all(re.search(r"[:=] *(no|auto)\b.*# .*float32", line) for line in lines), file
