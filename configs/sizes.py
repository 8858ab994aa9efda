"""Types of the numbers that networks and losses are built with: bounded, so that a slip of the pen is no network."""

from typing import Annotated

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
Real = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]
"""Any finite number of a sensible size."""
Above = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
"""A finite number above zero."""
