"""Words that options may be, for code that must know them without importing torch or numpy."""

from typing import Literal, get_args

Format = Literal["same", "npy", "png", "tif"]
"""What files are written as: the format of the noisy file, or one that `launch/inference/file_formats.py` writes."""

FORMATS: tuple[Format, ...] = get_args(Format)

Which = Literal["best", "last", "average"]
"""Which checkpoint of a run: the best by the validation metric, the last, or the average of the best."""

WHICH: tuple[Which, ...] = get_args(Which)
