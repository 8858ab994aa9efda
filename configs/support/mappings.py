"""Nested mappings."""

from collections.abc import Mapping
from typing import Any

Settings = dict[str, Any]
"""Nested settings as a YAML file holds them, before they are validated."""


def flatten(data: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested mappings as one mapping from dotted keys; lists and empty mappings are values."""
    flat: dict[str, object] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
