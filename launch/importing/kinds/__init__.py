"""One module per program whose weights can be imported: how its tensors are named here, and their YAML."""

import json
from collections.abc import Mapping, Sequence

KINDS = ("c2c", "cncl", "drgan", "r2r", "spectroformer", "tcfl")
"""Names of the kinds, and of their modules here."""


def inline(settings: Mapping[str, object] | Sequence[object]) -> str:
    """Settings as the value of an override, `a.b={...}`; JSON is YAML too."""
    return json.dumps(settings)
