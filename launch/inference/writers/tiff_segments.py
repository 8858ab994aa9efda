"""Strips and tiles of a TIFF page as bytes: encoded as the page says, or losslessly where that cannot be done."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from quell.configs.errors import DataError

DEFLATE = 8
"""The compression of pages whose own cannot be written without loss."""

_WITHOUT_LOSS = (1, 5, DEFLATE, 32946, 32773, 34712, 34925, 50000, 50013)
"""Compressions that are kept: none, LZW, deflate (two numbers), PackBits, JPEG 2000, LZMA, Zstandard, Pixar deflate.
Others are lossy, or exist for bilevel images only; some encoders crash on pixels they do not expect."""

_RGB, _YCBCR = 2, 6
_COMPRESSION, _PHOTOMETRIC, _PREDICTOR, _SUBSAMPLING = 259, 262, 317, 530
"""Numbers of tags."""


class Segment(NamedTuple):
    """One strip or tile of a page."""

    number: int
    """Place among the segments of its page."""
    top: int
    left: int
    sample: int
    """Number of the sample of a page whose samples are stored apart; otherwise 0."""
    shape: tuple[int, int]
    """Rows and columns that are stored: tiles at the border are padded, the last strip is not."""


def segment_rows(page: Any) -> Iterator[list[Segment]]:
    """The segments of a page from top to bottom: a list for each row of tiles, or for each strip."""
    apart = page.planarconfig == 2 and page.samplesperpixel > 1
    samples = page.samplesperpixel if apart else 1
    height, width = page.imagelength, page.imagewidth
    rows = page.tilelength if page.is_tiled else min(page.rowsperstrip, height)
    columns = page.tilewidth if page.is_tiled else width
    down, across = -(-height // rows), -(-width // columns)
    for y in range(down):
        stored_rows = rows if page.is_tiled else min(rows, height - y * rows)
        yield [
            Segment((s * down + y) * across + x, y * rows, x * columns, s, (stored_rows, columns))
            for s in range(samples)
            for x in range(across)
        ]


class Encoder:
    """Turns pixels into the bytes of a segment of one page.

    Attributes:
        note: What the copy does not keep, or "".
        changed_tags: Tag number -> new value, where the page's own compression cannot be written without loss.
    """

    def __init__(self, page: Any, byte_order: str, sample: np.ndarray) -> None:
        """Choose how to encode, by trying on one segment.

        Args:
            page: The tifffile.TiffPage.
            byte_order: "<" or ">".
            sample: The pixels of the first segment, (rows, columns, samples).

        Raises:
            DataError: Its values have a depth that cannot be written.
        """
        self._page, self._dtype = page, np.dtype(page.dtype).newbyteorder(byte_order)
        self.note = ""
        self.changed_tags: dict[int, int | tuple[int, int]] = {}
        keeps = page.compression in _WITHOUT_LOSS
        self._encode = self._own_encoding() if keeps else self._lossless_encoding()
        if not keeps or not self._returns(sample):
            self._encode = self._lossless_encoding()
            self.changed_tags = {_COMPRESSION: DEFLATE, _PREDICTOR: 1}
            if page.photometric == _YCBCR:
                self.changed_tags |= {_PHOTOMETRIC: _RGB, _SUBSAMPLING: (1, 1)}
            self.note = f"its {page.compression.name} compression became lossless deflate"

    def __call__(self, block: np.ndarray) -> bytes:
        """The bytes of a segment, (rows, columns, samples)."""
        return self._encode(block)

    def _own_encoding(self) -> Callable[[np.ndarray], bytes]:
        import tifffile

        page = self._page
        pack = self._packing()

        def encode(block: np.ndarray) -> bytes:
            # looked up here: codecs that are not installed fail when they are tried
            compress = tifffile.TIFF.COMPRESSORS[page.compression] if page.compression > 1 else None
            predict = tifffile.TIFF.PREDICTORS[page.predictor] if page.predictor > 1 else None
            if compress is None:
                data: Any = pack(block)
            elif predict is not None:
                data = compress(predict(np.ascontiguousarray(block, self._dtype), axis=-2))
            elif page.bitspersample in (8, 16, 32, 64):
                data = compress(np.ascontiguousarray(block, self._dtype))
            else:
                data = compress(pack(block))
            data = bytes(data)
            return data.translate(_REVERSED_BITS) if page.fillorder == 2 else data

        return encode

    def _lossless_encoding(self) -> Callable[[np.ndarray], bytes]:
        import zlib

        pack = self._packing()
        if self._page.fillorder == 2:
            return lambda block: zlib.compress(pack(block)).translate(_REVERSED_BITS)
        return lambda block: zlib.compress(pack(block))

    def _packing(self) -> Callable[[np.ndarray], bytes]:
        """Pixels to bytes without compression; depths of less than 8 bits, or of 12, begin a byte with each row."""
        bits = self._page.bitspersample
        if bits in (8, 16, 32, 64) or self._dtype.kind == "c":
            return lambda block: np.ascontiguousarray(block, self._dtype).tobytes()
        if bits == 1:
            return lambda block: np.packbits(block.reshape(len(block), -1) != 0, axis=1).tobytes()
        try:
            import imagecodecs
        except ImportError as error:
            raise DataError(f"values of {bits} bits need imagecodecs: pip install imagecodecs") from error

        def pack(block: np.ndarray) -> bytes:
            rows = np.ascontiguousarray(block.reshape(len(block), -1), self._dtype.newbyteorder("="))
            return bytes(imagecodecs.packints_encode(rows, bits, runlen=rows.shape[1]))

        return pack

    def _returns(self, block: np.ndarray) -> bool:
        """Whether decoding gives back what was encoded."""
        try:
            decoded, _, _ = self._page.decode(self._encode(block), 0, jpegtables=None)
        except DataError:
            raise
        except Exception:  # codecs raise many types, those that are not built in among them
            return False
        if decoded is None:
            return False
        expected = block[: decoded.shape[1], : decoded.shape[2]]
        return bool(np.array_equal(decoded.reshape(expected.shape), expected))


_REVERSED_BITS = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
