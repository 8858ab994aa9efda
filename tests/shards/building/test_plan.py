"""The plan of a build, by which a finished data set is recognised: new arguments must not change it."""

import pytest

from quell.shards import build
from quell.shards.building.split_build import hashed_settings

COMMON = "limit seed shard_mb"
EARLIER = {
    "arrays": "data_range field group_size licence split split_file",
    "awgn": "colour licence second sigma split split_file test train",
    "dicom": "field least_content licence split split_file tolerance_mm",
    "nifti": "allow_missing axis field least_content licence match split split_file",
    "folder": "allow_missing data_range encoded field grey group licence match split split_file",
    "fastmri": "by_folder complex doubtful input layout least_score pair_by pairs review split split_file",
    "knee_mese": "input noise second shift sigma",
    "ldct": "full input licence low patient split split_file window",
    "oct": "frames input licence lists register split split_file",
    "oct_synthetic": "frames size test train val",
    "phantom": "magnitude second sigma size test train val",
    "underwater": "alike allow_missing encoded fit input licence split split_file",
    "underwater_synthetic": "input licence scenes sigma size split split_file",
}
"""Source -> the arguments in the plans of version 0.2.0, beside COMMON: the same command finds its shards again."""
FIELD, INPUT = ("--field", "a=b"), ("--input", "x")
WORDS = {
    "arrays": (*FIELD, "--group-size", "1", "--data-range", "1"),
    "awgn": ("--train", "x"),
    "dicom": FIELD,
    "fastmri": INPUT,
    "folder": FIELD,
    "knee_mese": INPUT,
    "ldct": INPUT,
    "nifti": FIELD,
    "oct": INPUT,
    "underwater": INPUT,
}


@pytest.mark.parametrize("source", EARLIER)
def test_plans_of_earlier_versions_are_still_recognised(source: str) -> None:
    """An argument that is added later needs a line in IN_PLAN_IF_CHANGED or NOT_IN_PLAN."""
    args = build.parse([source, *WORDS.get(source, ()), "--output", "o"])[1]
    assert sorted(hashed_settings(args)) == sorted(f"{COMMON} {EARLIER[source]}".split())


def test_what_changes_the_images_changes_the_plan() -> None:
    plain = hashed_settings(build.parse(["folder", "--field=a=b", "--output", "o"])[1])
    for word in ("--resize=64", "--skip-damaged", "--resize-mode=crop", "--seed=3"):
        assert hashed_settings(build.parse(["folder", "--field=a=b", "--output", "o", word])[1]) != plain
    for word in ("--strict", "--trust-data-range", "--workers=1", "--quiet"):
        assert hashed_settings(build.parse(["folder", "--field=a=b", "--output", "o", word])[1]) == plain
