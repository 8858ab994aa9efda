"""A decoder plugin for pydicom: lossless JPEG and JPEG with 12 bits, by imagecodecs.

Most compressed CT and MR images are lossless JPEG. Of the decoders that pydicom knows for it, GDCM crashes the whole
process on damaged files, and pylibjpeg-libjpeg is under the GPL. Pillow decodes JPEG with 8 bits only.
"""

from importlib import import_module
from importlib.util import find_spec

import numpy as np
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

LABEL = "imagecodecs"
FUNCTIONS = {JPEGLossless: "ljpeg_decode", JPEGLosslessSV1: "ljpeg_decode", JPEGExtended12Bit: "jpeg8_decode"}
"""Transfer syntax -> the function of imagecodecs."""
END = b"\xff\xd9"
DECODER_DEPENDENCIES = dict.fromkeys(FUNCTIONS, ("numpy", "imagecodecs"))
"""What pydicom names where the plugin is not available."""


def is_available(uid: str) -> bool:
    """Whether the plugin can decode a transfer syntax on this machine; called by pydicom."""
    return uid in DECODER_DEPENDENCIES and find_spec("imagecodecs") is not None


def decode_frame(source: bytes, runner: DecodeRunner) -> bytearray:
    """Decode one frame; called by pydicom."""
    decode = getattr(import_module("imagecodecs"), FUNCTIONS[runner.transfer_syntax])
    if END not in bytes(source[-4:]):  # the decoder would fill the missing part with grey
        raise ValueError("the JPEG image is truncated")
    pixels = np.asarray(decode(bytes(source)))
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    return bytearray(np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).tobytes())


def register() -> None:
    """Make pydicom use the plugin; does nothing the second time."""
    for syntax in FUNCTIONS:
        decoder = get_decoder(syntax)
        if LABEL not in (*decoder.available_plugins, *decoder.missing_dependencies):
            try:
                decoder.add_plugin(LABEL, (__name__, "decode_frame"))
            except ValueError:  # registered already, without imagecodecs
                continue
