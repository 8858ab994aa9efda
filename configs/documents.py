"""YAML and JSON text -> plain values, within bounds: whatever a file holds, reading it ends soon and with a sentence.

A document is measured before anything is built from it: its size, its depth, and what its aliases expand to. YAML is
read with plain types only (text, numbers, booleans, null, lists, mappings with text as keys); `1e-4` is a number, dates
are text, and a key that is given twice is an error.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, cast

import yaml

from quell.configs.errors import ConfigError

try:
    from yaml import CSafeLoader as SafeLoader  # ten times faster, where PyYAML was built with libyaml
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

MAX_CHARACTERS = 1_000_000
"""Longest document."""
MAX_DEPTH = 40
"""Deepest nesting of lists and mappings. Deeper ones end in stack overflows, some of which kill the process."""
MAX_VALUES = 100_000
"""Most values of a document, with its aliases expanded: nested aliases grow exponentially."""
MAX_DIGITS = 100
"""Longest number."""

_NUMBER = re.compile(r"[-+]?[\d._:]*(e[-+]?\d+)?|[-+]?0[xob][\da-f_]+", re.IGNORECASE)
_SURPRISING = re.compile(r"[-+]?0[0-7_]+|[^:]*:.*")
"""Numbers that YAML 1.1 reads differently from what they look like: 010 is 8, and 1:30 is 90."""
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}")
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[][{}]', re.DOTALL)
"""A string, closed or not, or a bracket."""
_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_ALLOWED_TAGS = tuple(_TAG + name for name in ("str", "int", "float", "bool", "null", "seq", "map", "merge"))


def parse_yaml(text: str) -> Any:
    """Parse a YAML document.

    Raises:
        ConfigError: It cannot be read, or exceeds a bound; the message names the line.
    """
    _refuse_long(text)
    _refuse_templates(text)
    try:
        _measure(text)
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"not readable as YAML: {_one_line(error)}") from error
    except UnicodeError as error:
        raise ConfigError(f"not readable as YAML: it holds characters that are no text ({_one_line(error)})") from error
    except (ValueError, ArithmeticError, AttributeError, LookupError, TypeError) as error:
        # PyYAML's constructors raise many types for values that do not fit their explicit tag (`!!int abc`)
        raise ConfigError(f"not readable as YAML: a value does not fit its tag ({_one_line(error)})") from error


def parse_json(text: str) -> Any:
    """Parse a JSON document. Raises ConfigError where it cannot be read, exceeds a bound, or repeats a key."""
    _refuse_long(text)
    depth = 0
    for token in _JSON_TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            raise ConfigError(f"nested more than {MAX_DEPTH} levels deep")
    try:
        return json.loads(text, object_pairs_hook=_unique_keys, parse_int=_whole_number)
    except ValueError as error:
        raise ConfigError(f"not readable as JSON: {_one_line(error)}") from error


class _StrictLoader(SafeLoader):
    """A SafeLoader that refuses repeated keys and keys that are not text."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Check a mapping's keys before its merge keys (`<<`) are replaced by what they refer to."""
        checked: set[int] = self.__dict__.setdefault("_checked", set())
        if id(node) not in checked:  # an anchored mapping is flattened again wherever it is merged
            checked.add(id(node))
            self._check_keys(node)
        super().flatten_mapping(node)

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _problem("a key must be text, not a list or a mapping", key_node)
            if key_node.tag not in (_TAG + "str", _MERGE):
                raise _problem(f"a key must be text: write '{key_node.value}' in quotes", key_node)
            if key_node.value in seen:
                raise _problem(f"the key '{key_node.value}' is given twice", key_node)
            seen.add(key_node.value)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Refuse tags for other than plain types."""
        if node.tag not in _ALLOWED_TAGS:
            raise _problem(f"the tag {node.tag.replace(_TAG, '!!')} is not supported; leave it out", node)
        if node.tag in (_TAG + "int", _TAG + "float") and _SURPRISING.fullmatch(str(node.value)):
            raise _problem(f"{node.value} is octal or sexagesimal in YAML: write the decimal number", node)
        return super().construct_object(node, deep=deep)


# YAML 1.1 takes 1e-4 for text because it has no dot, 2026-01-31 for a date, and = for a "default value"
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _ALLOWED_TAGS]
    for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _measure(text: str) -> None:
    """Refuse a document that is too deep or too large, from its events: nothing is built, and nothing recurses."""
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and the values counted before it
    sizes: dict[str, int] = {}
    count = 0
    for event in yaml.parse(text, Loader=SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in [anchor for anchor, _ in open_nodes]:
                raise _event_problem(f"*{event.anchor} refers to a value that contains it", event)
            count += sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
            if event.implicit[0] and len(event.value) > MAX_DIGITS and _NUMBER.fullmatch(event.value):
                raise _event_problem(f"a number of {len(event.value)} digits; at most {MAX_DIGITS} are read", event)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
            count += 1
            if len(open_nodes) > MAX_DEPTH:
                raise _event_problem(f"nested more than {MAX_DEPTH} levels deep", event)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        if count > MAX_VALUES:
            raise _event_problem(f"more than {MAX_VALUES} values, with aliases expanded", event)


def _refuse_long(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{len(text)} characters are more than a configuration may have ({MAX_CHARACTERS})")


def _refuse_templates(text: str) -> None:
    """Name what a template engine should have filled in; comments may hold anything."""
    for number, line in enumerate(text.splitlines(), 1):
        match = _TEMPLATE.search(line)
        if match is not None and not re.search(r"(^|\s)#", line[: match.start()]):
            raise ConfigError(f"line {number}: the template {match[0]} has not been filled in; put a value there")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise ValueError(f"the key '{key}' is given twice")
        mapping[key] = value
    return mapping


def _whole_number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits; at most {MAX_DIGITS} are read")
    return int(digits)


def _problem(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _event_problem(problem: str, event: yaml.Event) -> ConfigError:
    mark = cast(Any, event.start_mark)
    return ConfigError(f"line {mark.line + 1}: {problem}")


def _one_line(error: Exception) -> str:
    return " ".join(_parts(error))


def _parts(error: Exception) -> Iterator[str]:
    """The words of an error, without the quoted source that PyYAML shows with a caret below it."""
    if isinstance(error, yaml.MarkedYAMLError):
        for text in (error.context, error.problem):
            yield from (text or "").split()
        mark = cast(Any, error.problem_mark or error.context_mark)
        if mark is not None:
            yield f"(line {mark.line + 1}, column {mark.column + 1})"
    else:
        yield from str(error).split()
