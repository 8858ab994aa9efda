"""Methods that combine two fields refuse data whose fields differ in channels or type, before building a network."""

from typing import Any

import pytest

from quell.configs import registry
from quell.configs.errors import ConfigError
from quell.configs.fields import FieldSpec

REAL = FieldSpec(1)
COMPARED = {"cncl": ("noisy", "clean"), "drgan": ("noisy", "unpaired_clean"), "tcfl": ("noisy", "unpaired_clean")}


@pytest.mark.parametrize("method", sorted(COMPARED))
@pytest.mark.parametrize("clean_spec", [FieldSpec(3), FieldSpec(1, "complex"), None], ids=["colour", "complex", "both"])
def test_fields_that_differ_are_refused(method: str, clean_spec: FieldSpec | None) -> None:
    cls: Any = registry.find("pipelines", method)
    noisy, clean = COMPARED[method]
    fields = {noisy: REAL, clean: clean_spec} if clean_spec else dict.fromkeys((noisy, clean), FieldSpec(1, "complex"))
    with pytest.raises(ConfigError, match=f"{method} .*real.* equal channels"):
        cls(cls.Config(name=method), fields)
