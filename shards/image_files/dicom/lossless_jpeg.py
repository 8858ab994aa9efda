"""A decoder plugin for pydicom: lossless JPEG, by imagecodecs.

Most compressed CT and MR images are lossless JPEG. Of the decoders that pydicom knows for it, GDCM crashes the whole
process on damaged files, and pylibjpeg-libjpeg is under the GPL.
"""

from importlib import import_module
from importlib.util import find_spec

import numpy as np
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import JPEGLossless, JPEGLosslessSV1

LABEL = "imagecodecs"
SYNTAXES = (JPEGLossless, JPEGLosslessSV1)
DECODER_DEPENDENCIES = dict.fromkeys(SYNTAXES, ("numpy", "imagecodecs"))
"""What pydicom names where the plugin is not available."""


def is_available(uid: str) -> bool:
    """Whether the plugin can decode a transfer syntax on this machine; called by pydicom."""
    return uid in DECODER_DEPENDENCIES and find_spec("imagecodecs") is not None


def decode_frame(source: bytes, runner: DecodeRunner) -> bytearray:
    """Decode one frame; called by pydicom."""
    pixels = np.asarray(import_module("imagecodecs").ljpeg_decode(bytes(source)))
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    return bytearray(np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).tobytes())


def register() -> None:
    """Make pydicom use the plugin; does nothing the second time."""
    for syntax in SYNTAXES:
        decoder = get_decoder(syntax)
        if LABEL not in (*decoder.available_plugins, *decoder.missing_dependencies):
            try:
                decoder.add_plugin(LABEL, (__name__, "decode_frame"))
            except ValueError:  # registered already, without imagecodecs
                continue
