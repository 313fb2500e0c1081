"""Pictures get smaller and look the same."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import vl_convert
from PIL import Image

from opslib.run.pictures import shrink_picture

CHART = (
    '<rect width="300" height="200" fill="white"/><circle cx="140" cy="90" r="60" fill="#0b5cad" opacity="0.6"/>'
    '<path d="M0 0L300 200" stroke="#d55e00"/><text x="20" y="180">留存率 Retention 12.3%</text>'
)


def draw(body: str) -> str:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="300" height="200">{body}</svg>'
    return base64.b64encode(vl_convert.svg_to_png(svg, scale=1.0)).decode()


def read_pixels(packed: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(packed))).convert("RGBA")).astype(int)


def test_fewer_bytes_and_nearly_the_same_pixels() -> None:
    before = draw(CHART)
    after = shrink_picture(before)
    assert len(after) < 0.7 * len(before)
    assert np.abs(read_pixels(after) - read_pixels(before)).max() <= 24
    assert np.abs(read_pixels(after) - read_pixels(before)).mean() < 1


def test_shrinking_again_changes_nothing() -> None:
    once = shrink_picture(draw(CHART))
    assert shrink_picture(once) == once


def test_the_same_picture_gives_the_same_bytes() -> None:
    assert shrink_picture(draw(CHART)) == shrink_picture(draw(CHART))


@pytest.mark.parametrize("packed", ["", "not base64 !", base64.b64encode(b"\x89PNG\r\n\x1a\ncut off").decode()])
def test_what_is_no_picture_comes_back(packed: str) -> None:
    assert shrink_picture(packed) == packed
