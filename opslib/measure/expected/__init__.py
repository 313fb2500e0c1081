"""The range in which a series is expected, and the days on which it lies outside."""

from opslib.measure.expected.expect import ExpectedRange, ExpectedResult, expect_values

__all__ = ["ExpectedRange", "ExpectedResult", "expect_values"]
