"""Single expressions that every engine must read alike: values, their type, and what is made of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import ibis

TEXTS = [
    "",
    "a",
    "B",
    "b",
    "ä",
    "é",
    "z",
    "Z",
    "中文",
    "10",
    "9",
    "it's",
    'quo"ted',
    "a\\b",
    "%s %(x)s",
    "{}",
    "a b",
    None,
]
NUMBERS = [-7, -1, 0, 1, 6, 2**53 + 1, -(2**53) - 1, 9_000_000_000_000_000_007, None]
FLOATS = [-2.5, -0.5, 0.0, 0.1, 0.5, 1.5, 2.5, 1e18, 1e-300, float("nan"), float("inf"), None]
WORDS = ["1", " 2 ", "-3.5", "1e3", "1e400", "9223372036854775807", "9223372036854775808", "nan", "inf", "x", "", None]
DATES = [
    "x", "", "2026-01-31", "2026-02-30", "2026-01-01 10:00", "2026-01-01T10:00:00.25", "2026-13-01", "31.12.2026", None,
]  # fmt: skip
MOMENTS = [
    dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
    dt.datetime(2026, 3, 1),
    dt.datetime(2024, 2, 29, 12, 30, 15, 5),
]

EXPRESSIONS: dict[str, tuple[list[Any], str, Callable[[Any], Any]]] = {
    "texts_in_order": (TEXTS, "string", lambda c: c.fill_null("") < "a"),
    "texts_between": (TEXTS, "string", lambda c: c.between("B", "b")),
    "greatest_text": (TEXTS, "string", lambda c: ibis.greatest(c.fill_null(""), "a") == "a"),
    "text_in_list": (TEXTS, "string", lambda c: c.isin(["it's", "a\\b", "%s %(x)s", "中文"])),
    "text_joined": (TEXTS, "string", lambda c: c.fill_null("-") + ibis.literal("\\'%")),
    "text_found": (TEXTS, "string", lambda c: c.re_search("^[a-z]$")),
    "whole_divided": (NUMBERS, "int64", lambda c: c // 7),
    "whole_rest": (NUMBERS, "int64", lambda c: c % 7),
    "divided": (NUMBERS, "int64", lambda c: c / 7),
    "bits_down": (NUMBERS, "int64", lambda c: c >> 3),
    "bits_masked": (NUMBERS, "int64", lambda c: c & 6),
    "to_flag": (NUMBERS, "int64", lambda c: (c > 0).cast("int64") + (c > 0).cast("float64").cast("int64")),
    "to_whole": (FLOATS, "float64", lambda c: c.isinf().ifelse(None, c.nullif(1e18)).try_cast("int64")),
    "floor": (FLOATS, "float64", lambda c: c.isnan().ifelse(None, c.nullif(float("inf"))).floor()),
    "is_nan": (FLOATS, "float64", lambda c: c.isnan() | c.isinf()),
    "number_from_text": (WORDS, "string", lambda c: c.strip().try_cast("float64")),
    "whole_from_text": (WORDS, "string", lambda c: c.strip().try_cast("int64")),
    "moment_from_text": (DATES, "string", lambda c: c.try_cast("timestamp(6)")),
    "days_between": (MOMENTS, "timestamp(6)", lambda c: c.date().delta(ibis.date(2026, 2, 28), unit="day")),
    "microseconds": (MOMENTS, "timestamp(6)", lambda c: c.delta(ibis.timestamp("1970-01-01"), unit="microsecond")),
    "seconds": (MOMENTS, "timestamp(6)", lambda c: c.delta(ibis.timestamp("1970-01-01"), unit="second")),
    "hours": (MOMENTS, "timestamp(6)", lambda c: c.delta(ibis.timestamp("1970-01-01"), unit="hour")),
    "week": (MOMENTS, "timestamp(6)", lambda c: c.date().truncate("W")),
    "day_before": (MOMENTS, "timestamp(6)", lambda c: (c.date() - ibis.interval(days=1)).cast("date")),
    "moment_back": (MOMENTS, "timestamp(6)", lambda c: c.epoch_seconds().floor().cast("int64").as_timestamp("s")),
}
