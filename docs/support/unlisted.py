"""Put the guides that `nav` in mkdocs.yml does not name at the end of How-to, so that no page is left out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig

ROOM = "How-to"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Extend the navigation."""
    nav: list[Any] = config.nav or []
    named = set(pages(nav))
    unlisted = [path.name for path in sorted(Path(config.docs_dir).glob("*.md")) if path.name not in named]
    next(entry[ROOM] for entry in nav if ROOM in entry).extend(unlisted)
    return config


def pages(entries: Any) -> Iterator[str]:
    """The pages that a part of the navigation names."""
    if isinstance(entries, str):
        yield entries
    else:
        for entry in entries.values() if isinstance(entries, dict) else entries:
            yield from pages(entry)
