"""HTML elements. Text is masked and escaped unless it is `Html`.

A page is made to be passed on, so credentials are masked; and no name or message of a run can become markup.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from quell.configs.support.secrets import mask

VOID = ("br", "img", "line", "meta", "polyline", "circle")
"""Elements without content."""


class Html(str):
    """Markup, which is inserted as it is."""

    __slots__ = ()


Content = str | Iterable["Content"] | None
"""Text, markup, several of them, or nothing."""


def element(name: str, *content: Content, **attributes: object) -> Html:
    """An element.

    Args:
        name: Of the tag.
        content: What is inside.
        attributes: `class_` is class, and other underscores are hyphens; None and False leave an attribute out.
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None and value is not False:
            spelled = key.rstrip("_").replace("_", "-") if key != "viewBox" else key
            words.append(spelled if value is True else f'{spelled}="{escape(str(value))}"')
    if name in VOID:  # closed with a slash, as SVG needs it and HTML allows it
        return Html(f"<{' '.join(words)} />")
    return Html(f"<{' '.join(words)}>{join(*content)}</{name}>")


def join(*content: Content) -> Html:
    """The content one after another, text masked and escaped."""
    parts = []
    for part in content:
        if isinstance(part, str):
            parts.append(part if isinstance(part, Html) else escape(mask(part)))
        elif part is not None:
            parts.append(join(*part))
    return Html("".join(parts))


def table(rows: Sequence[Mapping[str, Content]], *, caption: str, class_: str = "") -> Html:
    """A table with a column per key and a caption for screen readers; it scrolls by itself where it is too wide."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = element("tr", [element("th", name, scope="col") for name in columns])
    body = [element("tr", [element("td", row.get(name, "")) for name in columns]) for row in rows]
    inside = element(
        "table",
        element("caption", caption),
        element("thead", head),
        element("tbody", body),
        class_=class_ or None,
    )
    return element("div", inside, class_="scroll", tabindex="0", role="region", aria_label=caption)


def facts(pairs: Mapping[str, Content]) -> Html:
    """A list of names and values; those without a value are left out."""
    shown = [(name, value) for name, value in pairs.items() if value not in (None, "")]
    return element("dl", [element("div", element("dt", name), element("dd", value)) for name, value in shown])


def section(identifier: str, title: str, *content: Content) -> Html:
    """A section that the page's navigation links to."""
    return element("section", element("h2", title, id=f"{identifier}-title"), *content, id=identifier)


def details(summary: str, *content: Content, open_: bool = False) -> Html:
    """Content that is folded away, but printed."""
    return element("details", element("summary", summary), *content, open=open_)
