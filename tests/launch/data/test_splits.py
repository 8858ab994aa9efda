"""Which shard members a method reads when `data.fields` renames them."""

from pathlib import Path
from typing import Any, cast

import pytest

from quell.configs import registry
from quell.configs.errors import DataError
from quell.configs.fields import Needs
from quell.configs.schema import DataConfig
from quell.launch.data import fields
from quell.shards.reading.shard_set import ShardSet

NETWORK = {"name": "dncnn", "depth": 3, "width": 4}


def needs(method: str, **settings: object) -> Needs:
    cls: Any = registry.find("pipelines", method)
    return cast("Needs", cls.needs(cls.Config(name=method, **settings)))


def members(wanted: Needs, mini: Path, **renamed: str) -> dict[str, str]:
    sources = fields.available_fields(wanted, DataConfig(fields=renamed), ShardSet.open(mini / "train"))
    return {name: source.member for name, source in sources.items()}


@pytest.mark.parametrize(
    "method,unpaired",
    [
        ("tcfl", {"noisy_other": "pd", "unpaired_clean": "pd_clean"}),
        ("drgan", {"unpaired_clean": "pd_clean"}),
    ],
)
def test_unpaired_fields_follow_the_renaming_of_their_field(mini: Path, method: str, unpaired: dict[str, str]) -> None:
    names = members(needs(method), mini, noisy="pd", clean="pd_clean")
    assert names == {"noisy": "pd", "clean": "pd_clean", **unpaired}


def test_a_renaming_of_the_unpaired_field_itself_takes_precedence(mini: Path) -> None:
    names = members(needs("tcfl"), mini, noisy="pd", clean="pd_clean", unpaired_clean="pdfs_clean")
    assert names["unpaired_clean"] == "pdfs_clean" and names["noisy_other"] == "pd"


def test_a_second_noisy_image_of_the_same_scene_has_to_be_named(mini: Path) -> None:
    """No other member can replace it, so the message says which key to set."""
    wanted = needs("noise2noise", network=NETWORK)
    with pytest.raises(DataError) as raised:
        members(wanted, mini, noisy="pd")
    assert "does not hold noisy_other (member 'noisy_other')" in str(raised.value)
    assert "it holds pd, pd_clean, pdfs, pdfs_clean: choose among them with data.fields.noisy_other=NAME" in str(
        raised.value
    )
    assert members(wanted, mini, noisy="pd", noisy_other="pdfs") == {"noisy": "pd", "noisy_other": "pdfs"}
