"""Who gets the message and who is held out: drawn by lot, the same lot on every engine and in every later list."""

from __future__ import annotations

from typing import Any

import ibis

HOLDOUT = "holdout"
TREATED = "treated"
# Hexadecimal digits of the hash that are read: shares are met to one in 4 billion.
DIGITS = 8
# DuckDB, Postgres and Spark call it so and give the same 32 hexadecimal digits; ibis's own word is missing on Postgres.
_MD5 = "md5"


@ibis.udf.scalar.builtin(name=_MD5)
def _md5(text: str) -> str:  # type: ignore[empty-body]
    """The engine's own MD5 of a text, as hexadecimal digits."""


def draw_lot(user_id: Any, seed: str | int) -> Any:
    """A number drawn for each user, as eight hexadecimal digits, evenly spread.

    It depends on the user and the seed and on nothing else: not on who else is there, on the order of rows or the
    engine.

    Args:
        user_id: an expression; numbers and texts.
        seed: another seed draws anew.

    Returns:
        The first digits of MD5 of `<seed>:<user_id>`.

    >>> users = ibis.memtable({"user_id": [1, 2]})
    >>> users.select(lot=draw_lot(users.user_id, 7)).to_pandas()["lot"].tolist()
    ['6dd6c9f6', '60e5d275']
    """
    return draw_digits(ibis.literal(f"{seed}:") + write_user(user_id))


def draw_digits(text: Any) -> Any:
    """Eight hexadecimal digits that depend on a text and on nothing else, evenly spread."""
    return _md5(text).substr(0, DIGITS)


def write_user(user_id: Any) -> Any:
    """A user's id as text, the same on every engine."""
    # Engines write 1.0 in different ways.
    whole = user_id.type().is_floating() or user_id.type().is_decimal()
    return (user_id.cast("int64") if whole else user_id).cast("string")


def assign_arm(user_id: Any, *, holdout: float, seed: str | int) -> Any:
    """Draw each user into "holdout" or "treated".

    Args:
        user_id: an expression.
        holdout: share of users held out, 0 to 1.
        seed: the same seed gives the same arms, also when the list has grown; with a larger share everybody held out
            before stays so.

    >>> users = ibis.memtable({"user_id": [1, 2]})
    >>> users.select(arm=assign_arm(users.user_id, holdout=0.4, seed=7)).to_pandas()["arm"].tolist()
    ['treated', 'holdout']
    """
    if holdout <= 0 or holdout >= 1:
        return ibis.literal(HOLDOUT if holdout >= 1 else TREATED)
    # Digits sort before letters in every collation, so texts of equal length compare as the numbers do.
    limit = format(min(round(holdout * 16**DIGITS), 16**DIGITS - 1), f"0{DIGITS}x")
    return ibis.ifelse(draw_lot(user_id, seed) < limit, HOLDOUT, TREATED)
