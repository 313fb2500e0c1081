"""What a check says of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["right", "wrong", "error", "not_tried"]


@dataclass(frozen=True)
class Judgement:
    """A verdict on one answer.

    Attributes:
        status: `right`; `wrong`, an answer that is mistaken; `error`, one that cannot be read, such as a word where a
            number is asked for; `not_tried`, none.
        reason: the likely mistake, in a sentence that does not give the answer away; empty where it is right.
    """

    status: Status
    reason: str = ""


@dataclass(frozen=True)
class Mistake:
    """An answer that people give, and what they overlooked."""

    answer: Any
    reason: str


RIGHT = Judgement("right")
