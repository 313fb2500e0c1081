"""Make a chart's PNG as small as it can be without changing a pixel.

vl-convert compresses for speed: a line chart takes 60 kB. With a palette and a patient compression it takes
9, which is what lets notebooks be committed with their charts.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_COLORS = 256
EIGHT_BIT, RGBA, PALETTE = 8, 6, 3
NO_FILTER, SUB_FILTER = 0, 1


def shrink_picture(packed: str) -> str:
    """Shrink a PNG in base64, as notebooks store it; what is no PNG, or would not get smaller, comes back as it is.

    The same picture always gives the same bytes, and shrinking again changes nothing.
    """
    try:
        png = base64.b64decode(packed)
        if not png.startswith(SIGNATURE):
            return packed
        smaller = _rewrite(png)
    except (ValueError, struct.error, zlib.error, binascii.Error):
        return packed
    return base64.b64encode(smaller).decode("ascii") if len(smaller) < len(png) else packed


def _rewrite(png: bytes) -> bytes:
    chunks = list(_read_chunks(png))
    header = dict(chunks)[b"IHDR"]
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    pixels = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))
    rest = [(kind, data) for kind, data in chunks if kind == b"pHYs"]
    if (depth, color, interlaced) == (EIGHT_BIT, RGBA, 0) and (found := _find_palette(pixels, width, height)):
        colors, opacities, indexes = found
        header = struct.pack(">IIBBBBB", width, height, EIGHT_BIT, PALETTE, 0, 0, 0)
        rest += [(b"PLTE", colors)] + ([(b"tRNS", opacities)] if set(opacities) != {255} else [])
        pixels = indexes
    elif color == PALETTE:
        return png
    whole = [(b"IHDR", header), *rest, (b"IDAT", zlib.compress(pixels, 9)), (b"IEND", b"")]
    return SIGNATURE + b"".join(_write_chunk(kind, data) for kind, data in whole)


def _find_palette(pixels: bytes, width: int, height: int) -> tuple[bytes, bytes, bytes] | None:
    import numpy as np

    rows = np.frombuffer(pixels, np.uint8).reshape(height, 1 + 4 * width)
    filters, values = rows[:, 0], rows[:, 1:].reshape(height, width, 4)
    if not np.isin(filters, (NO_FILTER, SUB_FILTER)).all():
        return None
    # A row with the Sub filter holds differences to the pixel on the left: sums modulo 256 undo it.
    sums = values.cumsum(axis=1, dtype=np.uint8)
    plain = np.where((filters == SUB_FILTER)[:, None, None], sums, values)
    colors, indexes = np.unique(plain.reshape(-1, 4).view(np.uint32).ravel(), return_inverse=True)
    if len(colors) > MOST_COLORS:
        return None
    table = colors.view(np.uint8).reshape(-1, 4)
    lines = np.zeros((height, 1 + width), np.uint8)
    lines[:, 1:] = indexes.reshape(height, width)
    return table[:, :3].tobytes(), table[:, 3].tobytes(), lines.tobytes()


def _read_chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(SIGNATURE)
    while place < len(png):
        length, kind = struct.unpack(">I4s", png[place : place + 8])
        yield kind, png[place + 8 : place + 8 + length]
        place += 12 + length


def _write_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))
