"""Pictures get smaller and stay the same picture."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import pytest
import vl_convert

from opslib.run.pictures import PALETTE, RGBA, SIGNATURE, _read_chunks, _write_chunk, shrink_picture


def read_pixels(packed: str) -> np.ndarray:
    """Decode a PNG (palette, or RGBA with the filters None and Sub) in the plainest way."""
    chunks: dict[bytes, bytes] = {}
    for kind, data in _read_chunks(base64.b64decode(packed)):
        chunks[kind] = chunks.get(kind, b"") + data
    width, height, _, color, _, _, _ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    lines = zlib.decompress(chunks[b"IDAT"])
    size = 4 if color == RGBA else 1
    rows = []
    for y in range(height):
        line = bytearray(lines[y * (1 + size * width) :][: 1 + size * width])
        if line[0] == 1:
            for x in range(size + 1, len(line)):
                line[x] = (line[x] + line[x - size]) % 256
        rows.append(line[1:])
    pixels = np.frombuffer(b"".join(rows), np.uint8).reshape(height, width, size)
    if color != PALETTE:
        return pixels
    table = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)
    opacity = np.frombuffer(chunks.get(b"tRNS", b"\xff" * len(table)), np.uint8)
    return np.concatenate([table, opacity[:, None]], axis=1)[pixels[:, :, 0]]


def draw(body: str, background: str = "") -> str:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60">{background}{body}</svg>'
    return base64.b64encode(vl_convert.svg_to_png(svg, scale=1.0)).decode()


@pytest.mark.parametrize("background", ["", '<rect width="90" height="60" fill="white"/>'])
def test_same_pixels_in_fewer_bytes(background: str) -> None:
    before = draw('<circle cx="40" cy="30" r="20" fill="#0b5cad"/><path d="M0 0L90 60" stroke="red"/>', background)
    after = shrink_picture(before)
    assert len(after) < len(before)
    assert (read_pixels(after) == read_pixels(before)).all()
    assert shrink_picture(after) == after


def test_many_colors_stay() -> None:
    generator = np.random.default_rng(1)
    pixels = generator.integers(0, 256, (40, 40, 4), dtype=np.uint8)
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", 40, 40, 8, RGBA, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(lines, 0)), (b"IEND", b"")]
    png = base64.b64encode(SIGNATURE + b"".join(_write_chunk(k, d) for k, d in parts)).decode()
    assert (read_pixels(shrink_picture(png)) == pixels).all()


@pytest.mark.parametrize("text", ["", "QUJD", "not base64!", base64.b64encode(SIGNATURE + b"cut").decode()])
def test_what_is_no_picture_comes_back(text: str) -> None:
    assert shrink_picture(text) == text
