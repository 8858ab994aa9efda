"""Letting bioimageio.spec and pydantic work together."""

import functools
import inspect
import re
import textwrap
from types import FunctionType
from typing import Any

_TWO_ARGUMENTS = re.compile(r"handler\(\s*(\w+),\s*info,[^\n]*\n\s*\)")


@functools.cache
def mend_serializers() -> None:
    """Have bioimageio.spec call pydantic's handlers with the one argument that they take.

    Up to 0.5.12 it passes a second one, which pydantic ignored before 2.14 and refuses since. The functions are already
    part of compiled schemas, so that their code is replaced, not they themselves. Other versions are left as they are.
    """
    from bioimageio.spec._internal import io_packaging, validated_string_with_inner_node
    from bioimageio.spec.model import v0_4

    places: list[tuple[Any, str]] = [
        (io_packaging, "package_file_descr_serializer"),
        (v0_4, "package_weights"),
        (getattr(validated_string_with_inner_node, "ValidatedStringWithInnerNode", None), "_serialize"),
    ]
    for place, name in places:
        serializer = getattr(place, name, None)
        function = getattr(serializer, "wrapped", serializer)
        if isinstance(function, FunctionType):
            _mend(function)


def _mend(function: FunctionType) -> None:
    source = textwrap.dedent(inspect.getsource(function))
    source = source[source.index("def ") :]  # without decorators
    mended, count = _TWO_ARGUMENTS.subn(r"handler(\1)", source)
    if count:
        defined: dict[str, Any] = {}
        exec(compile(mended, inspect.getfile(function), "exec"), dict(function.__globals__), defined)
        function.__code__ = defined[function.__name__].__code__
