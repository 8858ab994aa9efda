"""Which shard members a method reads when the data use other names."""

from pathlib import Path

import pytest

from configs import registry
from configs.errors import DataError
from configs.fields import Needs
from configs.schema import DataConfig
from launch.data import fields
from shards.reading.shard_set import ShardSet

NETWORK = {"name": "dncnn", "depth": 3, "width": 4}


def needs(method: str, **settings: object) -> Needs:
    cls = registry.find("pipelines", method)
    return cls.needs(cls.Config(name=method, **settings))


def members(asked: Needs, mini: Path, **renamed: str) -> dict[str, str]:
    found = fields.available_fields(asked, DataConfig(fields=renamed), ShardSet.open(mini / "train"))
    return {name: source.member for name, source in found.items()}


@pytest.mark.parametrize(
    "method,unpaired",
    [
        ("tcfl", {"noisy_other": "pd", "unpaired_clean": "pd_clean"}),
        ("drgan", {"unpaired_clean": "pd_clean"}),
    ],
)
def test_unrelated_samples_of_a_field_follow_its_renaming(mini: Path, method: str, unpaired: dict[str, str]) -> None:
    found = members(needs(method), mini, noisy="pd", clean="pd_clean")
    assert found == {"noisy": "pd", "clean": "pd_clean", **unpaired}


def test_a_renaming_of_its_own_wins(mini: Path) -> None:
    found = members(needs("tcfl"), mini, noisy="pd", clean="pd_clean", unpaired_clean="pdfs_clean")
    assert found["unpaired_clean"] == "pdfs_clean" and found["noisy_other"] == "pd"


def test_another_noisy_image_of_the_same_content_has_to_be_named(mini: Path) -> None:
    """It is an image of its own, which no other name can stand for: the message says which key to give."""
    asked = needs("noise2noise", network=NETWORK)
    with pytest.raises(DataError) as refused:
        members(asked, mini, noisy="pd")
    assert "does not hold noisy_other (member 'noisy_other')" in str(refused.value)
    assert "it holds pd, pd_clean, pdfs, pdfs_clean: choose among them with data.fields.noisy_other=NAME" in str(
        refused.value
    )
    assert members(asked, mini, noisy="pd", noisy_other="pdfs") == {"noisy": "pd", "noisy_other": "pdfs"}
