"""What files are written as, for code that must know it without importing numpy."""

from typing import Literal, get_args

Format = Literal["same", "npy", "png", "tif"]
"""The format of the noisy file, or one that `launch/inference/file_formats.py` writes."""

FORMATS: tuple[Format, ...] = get_args(Format)
