"""Methods that add or compare two fields refuse data in which these are not alike, before a network is built."""

from typing import Any

import pytest

from configs import registry
from configs.errors import ConfigError
from configs.fields import FieldSpec

REAL = FieldSpec(1)
COMPARED = {"cncl": ("noisy", "clean"), "drgan": ("noisy", "unpaired_clean"), "tcfl": ("noisy", "unpaired_clean")}


@pytest.mark.parametrize("method", sorted(COMPARED))
@pytest.mark.parametrize("other", [FieldSpec(3), FieldSpec(1, "complex"), None], ids=["colour", "complex", "both"])
def test_fields_that_are_not_alike_are_refused(method: str, other: FieldSpec | None) -> None:
    cls: Any = registry.find("pipelines", method)
    noisy, clean = COMPARED[method]
    fields = {noisy: REAL, clean: other} if other else dict.fromkeys((noisy, clean), FieldSpec(1, "complex"))
    with pytest.raises(ConfigError, match=f"{method} .*real.* equal channels"):
        cls(cls.Config(name=method), fields)
