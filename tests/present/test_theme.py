"""Colours: all in one place, strong enough on paper and screen, and apart for everybody's eyes."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from opslib.present import theme

PRESENT = Path(theme.__file__).parent
WHITE = "#ffffff"
# Far above the 2.3 that is just noticed (Mahy, Van Eycken and Oosterlinck 1994), for small marks apart from each other.
LEAST_DISTANCE = 15
# Machado, Oliveira and Fernandes (2009), "A physiologically-based model for simulation of color vision deficiency",
# severity 1.0: on linear RGB.
EYES = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# sRGB to XYZ under D65 (IEC 61966-2-1).
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
TOGETHER = {
    "groups": [*theme.GROUP_COLORS, theme.GREY],
    "states": [*theme.STATE_COLORS.values(), theme.INK],
    "tiers": list(theme.TIER_COLORS.values()),
    "alive": list(theme.ALIVE_COLORS.values()),
    "windows": list(theme.WINDOW_COLORS.values()),
    "horizons": list(theme.HORIZON_COLORS),
    "periods": [theme.NOW_COLOR, theme.BEFORE_COLOR, theme.TARGET_COLOR],
    "marked": [theme.MARKED_COLOR, theme.REST_COLOR],
    "observed": [theme.OBSERVED_COLOR, theme.EXPECTED_COLOR],
    "readings": [theme.GOOD_COLOR, theme.WARNING_COLOR, theme.BAD_COLOR, theme.UNCLEAR_COLOR],
}


def to_linear(color: str) -> np.ndarray:
    levels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def measure_contrast(one: str, other: str) -> float:
    low, high = sorted(float(TO_XYZ[1] @ to_linear(c)) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def to_lab(linear: np.ndarray) -> np.ndarray:
    ratio = TO_XYZ @ linear / np.array([0.95047, 1.0, 1.08883])
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def measure_distance(one: str, other: str, eyes: np.ndarray) -> float:
    first, second = (to_lab(np.clip(eyes @ to_linear(c), 0, 1)) for c in (one, other))
    return float(np.linalg.norm(first - second))


def test_contrast_and_distance_are_the_published_ones() -> None:
    assert measure_contrast("#000000", WHITE) == pytest.approx(21)
    assert measure_contrast("#777777", WHITE) == pytest.approx(4.48, abs=0.01)
    assert to_lab(to_linear("#ff0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    # Red and green of the same lightness: what protanopes and deuteranopes confuse.
    assert measure_distance("#c04000", "#707000", EYES["deuteranopia"]) < 25
    assert measure_distance("#c04000", "#707000", EYES["all cones"]) > 45


@pytest.mark.parametrize("text", [theme.INK, theme.MUTED])
def test_text_reads_on_white(text: str) -> None:
    assert measure_contrast(text, WHITE) >= 4.5


@pytest.mark.parametrize("shade", theme.SHADES)
def test_numbers_read_on_every_shade(shade: str) -> None:
    assert measure_contrast(theme.INK, shade) >= 4.5


@pytest.mark.parametrize("name", TOGETHER)
def test_marks_stand_out_from_the_page(name: str) -> None:
    assert all(measure_contrast(color, WHITE) >= 3 for color in TOGETHER[name])


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("name", TOGETHER)
def test_colours_used_together_are_apart(name: str, eyes: str) -> None:
    near = {
        (a, b): distance
        for a, b in itertools.combinations(TOGETHER[name], 2)
        if (distance := measure_distance(a, b, EYES[eyes])) < LEAST_DISTANCE
    }
    assert not near


def test_groups_keep_their_colour_whatever_is_shown() -> None:
    order = [f"channel {i}" for i in range(9)]
    colors = theme.color_groups(order)
    assert list(colors.values())[:7] == list(theme.GROUP_COLORS)
    assert {colors["channel 7"], colors["channel 8"]} == {theme.GREY}
    assert theme.color_groups([*order, order[3]]) == colors


def test_colours_are_named_in_the_theme_only() -> None:
    found = [
        f"{file.relative_to(PRESENT)}: {line.strip()}"
        for file in sorted(PRESENT.rglob("*.py"))
        if file.name != "theme.py"
        for line in file.read_text("utf-8").splitlines()
        if re.search(r"#[0-9a-fA-F]{6}\b|#[0-9a-fA-F]{3}\b|scheme=", line)
    ]
    # The cohort triangle still names a scheme of Vega's.
    assert [line for line in found if "retention_rate" not in line] == []
