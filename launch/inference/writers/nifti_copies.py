"""Copies of NIfTI files with other pixels: header and extensions byte for byte."""

import gzip
import shutil
from pathlib import Path
from typing import IO, Any, cast

import numpy as np


def write_nifti(source: Path, target: Path, stored: np.ndarray) -> list[str]:
    """Write a NIfTI file that has the header of another: affine, scaling, intent, extensions, byte order.

    Args:
        source: A .nii or .nii.gz file.
        target: Where to write, with the same suffix.
        stored: The values before the file's own slope and intercept, in the shape of the file and in its dtype.

    Returns:
        What could not be kept, one sentence each: nothing.
    """
    import nibabel

    image = cast(Any, nibabel.load(source))
    start, dtype = int(image.dataobj.offset), image.header.get_data_dtype()
    with _open(source, "rb") as old, _open(target, "wb") as new:
        new.write(old.read(start))
        for plane in _planes(stored):
            new.write(np.asarray(plane, dtype).tobytes(order="F"))
        # what follows the pixels, if anything, is not ours to drop
        old.seek(start + stored.size * dtype.itemsize)
        shutil.copyfileobj(old, new)
    return []


def _planes(stored: np.ndarray) -> list[np.ndarray]:
    """Parts along the last axis, which follow one another in the file."""
    return [stored[..., i] for i in range(stored.shape[-1])] if stored.ndim > 2 else [stored]


def _open(path: Path, mode: str) -> IO[bytes]:
    if path.suffix.lower() == ".gz":
        return cast(IO[bytes], gzip.open(path, mode, compresslevel=6))
    return open(path, mode)
