"""Kinds of answers: a number, one of several, a group of users, a sentence of parts, a decision with its confidence.

Each kind reads what a learner gives, judges it, and says which mistake it most likely comes from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from opslib.language import join_words, say
from opslib.training.judgement import RIGHT, Judgement, Mistake

# Somebody who is less sure than a coin should choose the other side.
LEAST_CONFIDENCE, MOST_CONFIDENCE = 0.5, 1.0


class Answer(Protocol):
    """What every kind of answer can do."""

    @property
    def right(self) -> Any:
        """The right answer, as `judge` takes it."""

    @property
    def mistakes(self) -> Sequence[Mistake]:
        """Answers that people give by mistake."""

    def judge(self, answer: Any) -> Judgement:
        """Judge an answer that was given."""

    def write(self, answer: Any) -> str:
        """An answer as people write it."""


@dataclass(frozen=True)
class Number:
    """A number with a unit.

    Attributes:
        right: the right number, in the unit: 31.2 where the unit is per cent.
        tolerance: how far off is still right, in the unit.
        unit: what stands behind it, such as `%` or `CNY`.
        mistakes: numbers that come from a likely mistake; each is judged by the same tolerance.
    """

    right: float
    tolerance: float
    unit: str
    mistakes: tuple[Mistake, ...] = ()

    def judge(self, answer: Any) -> Judgement:
        """Judge a number, or a text that holds one.

        >>> d7 = Number(22.6, 0.2, "%", (Mistake(20.7, "You counted users whose day 7 has not come."),))
        >>> d7.judge("22.5 %").status, d7.judge(20.7).reason, d7.judge("many").status
        ('right', 'You counted users whose day 7 has not come.', 'error')
        """
        value = self.read(answer)
        if value is None:
            return Judgement("error", say("Give a number ({unit}).", unit=self.unit))
        if self._near(value, self.right):
            return RIGHT
        for mistake in self.mistakes:
            if self._near(value, float(mistake.answer)):
                return Judgement("wrong", mistake.reason)
        return Judgement("wrong", self._guess(value))

    def read(self, answer: Any) -> float | None:
        """The number that somebody means; None if it is none."""
        return _read_number(answer, self.unit)

    def write(self, answer: Any) -> str:
        """The number with its unit."""
        digits = max(0, math.ceil(-math.log10(self.tolerance))) if self.tolerance > 0 else 0
        if float(answer).is_integer():
            digits = 0
        space = "" if self.unit == "%" or not self.unit.isascii() else " "
        return f"{float(answer):,.{digits}f}{space}{self.unit}"

    def _near(self, value: float, other: float) -> bool:
        # A tolerance such as 0.1 cannot be held exactly in binary.
        return abs(value - other) <= self.tolerance * (1 + 1e-9) + 1e-12

    def _guess(self, value: float) -> str:
        """What a number that no known mistake gives tells: the unit, the sign, or only that it is off."""
        for factor in (100, 0.01):
            if abs(value * factor - self.right) <= self.tolerance * max(1, factor):
                return say("The number may be right, but not its unit: give it in {unit}.", unit=self.unit)
        if self._near(-value, self.right):
            return say("The size is right, the direction is not.")
        if self.right and 0.5 <= value / self.right <= 2:
            return say("Near, but not it. Read both counts again: which users are above the line, which below?")
        return say("Far off. Which counts did you divide, and are they of the same users?")


@dataclass(frozen=True)
class Option:
    """One of several answers; `reason` tells those who choose it what they overlooked, empty for the right one."""

    name: str
    text: str
    reason: str = ""


@dataclass(frozen=True)
class Choice:
    """One of several options, the right one among them."""

    options: tuple[Option, ...]

    @property
    def right(self) -> str:
        """The name of the right option."""
        return next(option.name for option in self.options if not option.reason)

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """All other options."""
        return tuple(Mistake(option.name, option.reason) for option in self.options if option.reason)

    def judge(self, answer: Any) -> Judgement:
        """Judge an option by its name or its letter.

        >>> step = Choice((Option("cart", "Cart", "That step hardly moved."), Option("pay", "Payment")))
        >>> step.judge("b").status, step.judge("cart").reason
        ('right', 'That step hardly moved.')
        """
        option = self.find(answer)
        if option is None:
            letters = join_words([letter_of(i) for i in range(len(self.options))], last="or")
            return Judgement("error", say("Give one of {letters}.", letters=letters))
        return RIGHT if not option.reason else Judgement("wrong", option.reason)

    def find(self, answer: Any) -> Option | None:
        """The option that somebody means."""
        said = str(answer).strip().lower()
        for position, option in enumerate(self.options):
            if said in (option.name.lower(), letter_of(position).lower(), option.text.lower()):
                return option
        return None

    def write(self, answer: Any) -> str:
        """The text of an option."""
        option = self.find(answer)
        return option.text if option else str(answer)


@dataclass(frozen=True)
class Group:
    """A group of users, by one or two columns.

    Attributes:
        right: column -> value.
        values: every column that may be chosen -> its values.
        mistakes: groups that people name by mistake.
    """

    right: Mapping[str, str]
    values: Mapping[str, Sequence[str]]
    mistakes: tuple[Mistake, ...] = ()

    def judge(self, answer: Any) -> Judgement:
        """Judge a group, as a mapping or written like `channel:social platform:ios`.

        >>> who = Group({"channel": "social", "platform": "ios"}, {"channel": ["social", "ads"], "platform": ["ios"]})
        >>> who.judge("platform:ios, channel:social").status
        'right'
        >>> who.judge("platform:ios").reason
        'True, but too wide: it sits in a part of these users.'
        """
        group = self.read(answer)
        if group is None:
            columns = join_words(self.values, last="or")
            return Judgement("error", say("Give a group such as column:value, by {columns}.", columns=columns))
        if group == dict(self.right):
            return RIGHT
        for mistake in self.mistakes:
            if group == dict(mistake.answer):
                return Judgement("wrong", mistake.reason)
        return Judgement("wrong", self._compare(group))

    def read(self, answer: Any) -> dict[str, str] | None:
        """The group that somebody means; None if there is no such."""
        if isinstance(answer, Mapping):
            group = {str(column): str(value) for column, value in answer.items()}
        else:
            parts = [part.partition(":") for part in str(answer).replace(",", " ").split()]
            group = {column: value for column, _, value in parts}
        known = all(value in self.values.get(column, ()) for column, value in group.items())
        return group if group and known else None

    def write(self, answer: Any) -> str:
        """The group as `column:value`."""
        group = self.read(answer) or {}
        return " ".join(f"{column}:{value}" for column, value in group.items())

    def _compare(self, group: Mapping[str, str]) -> str:
        shared = set(group.items()) & set(self.right.items())
        if shared == set(group.items()):
            return say("True, but too wide: it sits in a part of these users.")
        if shared == set(self.right.items()):
            return say("Too narrow: users beside these are hit as well.")
        if shared:
            return say("Half of it: one of the two is part of it, the other is not.")
        return say("These users moved no more than the others did. Compare each group with the rest, before and now.")


@dataclass(frozen=True)
class Sentence:
    """A sentence built from choices, one for each gap.

    Attributes:
        pattern: the sentence, with `{name}` for each gap.
        gaps: name -> the choices for it.
    """

    pattern: str
    gaps: Mapping[str, Choice]

    @property
    def right(self) -> dict[str, str]:
        """The right option of each gap."""
        return {name: choice.right for name, choice in self.gaps.items()}

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """The right sentence with one gap filled wrongly, for each way to do that."""
        return tuple(
            Mistake(self.right | {name: mistake.answer}, mistake.reason)
            for name, choice in self.gaps.items()
            for mistake in choice.mistakes
        )

    def judge(self, answer: Any) -> Judgement:
        """Judge the options chosen, as a mapping by gap or a sequence in their order; the first wrong one is told."""
        if isinstance(answer, Mapping):
            chosen = {str(name): value for name, value in answer.items()}
        elif isinstance(answer, Sequence) and not isinstance(answer, str):
            chosen = dict(zip(self.gaps, answer, strict=False))
        else:
            chosen = {}
        if chosen.keys() != self.gaps.keys():
            return Judgement("error", say("Fill every gap: {count} choices.", count=len(self.gaps)))
        judged = [choice.judge(chosen[name]) for name, choice in self.gaps.items()]
        for status in ("error", "wrong"):
            for judgement in judged:
                if judgement.status == status:
                    return judgement
        return RIGHT

    def write(self, answer: Any) -> str:
        """The sentence with its gaps filled."""
        return self.pattern.format(**{name: choice.write(answer[name]) for name, choice in self.gaps.items()})


@dataclass(frozen=True)
class Decision:
    """A decision, and how sure somebody is that it is the right one."""

    choice: Choice

    @property
    def right(self) -> tuple[str, float]:
        """The right option, with full confidence."""
        return self.choice.right, MOST_CONFIDENCE

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """All other options."""
        return tuple(Mistake((m.answer, 0.8), m.reason) for m in self.choice.mistakes)

    def judge(self, answer: Any) -> Judgement:
        """Judge a pair of an option and a confidence from 0.5 to 1.

        >>> wait = Decision(Choice((Option("stop", "Stop", "It is not clear yet."), Option("wait", "Wait"))))
        >>> wait.judge(("wait", 0.7)).status, wait.judge("wait").status
        ('right', 'error')
        """
        chosen, confidence = read_decision(answer)
        if confidence is None:
            text = say("Give your decision and how sure you are, from 50% to 100%, such as ('a', 0.7).")
            return Judgement("error", text)
        return self.choice.judge(chosen)

    def write(self, answer: Any) -> str:
        """The option's text."""
        return self.choice.write(read_decision(answer)[0])


def read_decision(answer: Any) -> tuple[Any, float | None]:
    """Split an answer into the decision and its confidence; None where that is missing or impossible."""
    if not isinstance(answer, Sequence) or isinstance(answer, str) or len(answer) != 2:
        return answer, None
    confidence = _read_number(answer[1], "%")
    if confidence is not None and confidence > MOST_CONFIDENCE:
        confidence /= 100
    possible = confidence is not None and LEAST_CONFIDENCE <= confidence <= MOST_CONFIDENCE
    return answer[0], confidence if possible else None


def score_confidence(confidence: float, *, right: bool) -> float:
    """Brier's score of a stated confidence: 0 is best, 0.25 is a coin's, 1 is certain and wrong.

    Source: Brier 1950, Monthly Weather Review 78; here of the chosen option alone.

    >>> score_confidence(0.9, right=True), score_confidence(0.9, right=False)
    (0.01, 0.81)
    """
    return round((confidence - (1.0 if right else 0.0)) ** 2, 6)


def letter_of(position: int) -> str:
    """The letter that an option is called by."""
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[position]


def _read_number(answer: Any, unit: str) -> float | None:
    if isinstance(answer, bool):
        return None
    if isinstance(answer, str):
        answer = answer.strip().removesuffix(unit).removesuffix("%").replace(",", "").strip()
    try:
        value = float(answer)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
