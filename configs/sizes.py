"""Types of the numbers that networks and losses are built with: bounded, so that a slip of the pen is no network."""

from typing import Annotated, Any, get_args

from pydantic import Field

Width = Annotated[int, Field(ge=1, le=4096)]
"""Channels of a layer, or other sizes that a layer's memory grows with."""
Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=32)]
"""Channels of successive layers or levels."""
Depth = Annotated[int, Field(ge=1, le=1000)]
"""Layers or blocks, one after the other."""
Depths = Annotated[tuple[Depth, ...], Field(min_length=1, max_length=32)]
"""Blocks of successive levels."""
Side = Annotated[int, Field(ge=1, le=65_536)]
"""Side of an image or a window in pixels."""
Deviation = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
"""A standard deviation."""
Slope = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""Slope of an activation below zero."""
Real = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]
"""Any finite number of a sensible size."""
Above = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
"""A finite number above zero."""


def refuse_switch(value: Any, annotation: Any) -> Any:
    """The value of a field; ValueError where it is true or false in place of a number.

    Pydantic and Python count true, as which YAML reads yes and on too, as the number 1.

    Args:
        value: As given by the user.
        annotation: The field's type.
    """
    takes_number = _holds(annotation, (int, float)) and not _holds(annotation, (bool, Any, object))
    elements = value if isinstance(value, list | tuple) else [value]
    if takes_number and any(isinstance(element, bool) for element in elements):
        raise ValueError("expected a number; YAML reads yes, no, on and off as true or false")
    return value


def _holds(annotation: Any, kinds: tuple[Any, ...]) -> bool:
    """Whether a type hint is, or contains, one of some types."""
    return any(annotation is kind for kind in kinds) or any(_holds(inner, kinds) for inner in get_args(annotation))
