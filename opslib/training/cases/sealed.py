"""Answers as salted hashes: a learner's folder can tell right answers from wrong ones, and shows them to nobody.

Somebody who tries all answers one by one can still find them; the hash is slow, and it is simply less work to solve it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from opslib.language import say
from opslib.training.answers import Answer, Decision, Group, Number, read_decision
from opslib.training.judgement import RIGHT, Judgement, Mistake

# Scrypt's cost: about 15 ms a try.
WORK = 2**12


def make_salt(seed: int, level: int) -> str:
    """The salt of a case, from what it was drawn with, which it does not give away.

    >>> make_salt(1, 1) == make_salt(1, 1) != make_salt(2, 1)
    True
    """
    return hashlib.scrypt(f"{seed}/{level}".encode(), salt=b"opslib case", n=WORK, r=8, p=1, dklen=16).hex()


def seal(salt: str, question: str, answer: Any) -> str:
    """The hash of an answer to a question."""
    text = f"{question}={write_answer(answer)}".encode()
    return hashlib.scrypt(text, salt=bytes.fromhex(salt), n=WORK, r=8, p=1, dklen=16).hex()


def seal_all(salt: str, question: str, answers: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """Hash of each answer -> what it is worth, in the order of the hashes, which says nothing."""
    pairs = answers.items() if isinstance(answers, Mapping) else answers
    return dict(sorted((seal(salt, question, answer), worth) for answer, worth in pairs))


def write_answer(answer: Any) -> str:
    """An answer in one way, however it was given.

    >>> write_answer({"platform": "ios", "channel": "social"}), write_answer(-51.6)
    ('channel:social platform:ios', '-52')
    """
    if isinstance(answer, Mapping):
        return " ".join(f"{column}:{value}" for column, value in sorted(answer.items()))
    if isinstance(answer, float):
        return f"{answer:.0f}"
    return str(answer).strip()


@dataclass(frozen=True)
class SealedAnswer:
    """An answer that only its hash is known of.

    Attributes:
        shape: the kind of answer, which reads what is given; what it holds as right means nothing.
        question, salt: what it is hashed with.
        sealed: hash -> what the answer is worth: 0 for a right one, money lost for a decision that costs more than the
            best one, a word for an answer that is half right.
    """

    shape: Answer
    question: str
    salt: str
    sealed: Mapping[str, Any]

    right = None
    mistakes: tuple[Mistake, ...] = ()

    def judge(self, answer: Any) -> Judgement:
        """Judge an answer by its hash."""
        judged = self.shape.judge(answer)
        if judged.status == "error":
            return judged
        worth = self.find_worth(answer)
        if worth == 0:
            return RIGHT
        return Judgement("wrong", _explain(worth))

    def find_worth(self, answer: Any) -> Any:
        """What an answer is worth, as sealed; None for one that was not."""
        return self.sealed.get(seal(self.salt, self.question, self._read(answer)))

    def find_regret(self, answer: Any) -> float | None:
        """What an action costs more than the best one; None where the question is not one of money."""
        prices = [worth for worth in self.sealed.values() if isinstance(worth, int | float)]
        worth = self.find_worth(answer)
        return float(worth) if max(prices, default=0) > 0 and isinstance(worth, int | float) else None

    def write(self, answer: Any) -> str:
        """An answer as people write it."""
        return self.shape.write(answer)

    def _read(self, answer: Any) -> Any:
        """The answer in the one way in which it was sealed."""
        if isinstance(self.shape, Decision):
            option = self.shape.choice.find(read_decision(answer)[0])
            return option.name if option else ""
        if isinstance(self.shape, Group):
            return self.shape.read(answer)
        if isinstance(self.shape, Number):
            return round(self.shape.read(answer) or 0.0)
        found = self.shape.find(answer)  # type: ignore[attr-defined]
        return found.name if found else ""


def _explain(worth: Any) -> str:
    if worth == "wide":
        return say("True, but too wide: it sits in a part of these users.")
    if isinstance(worth, int | float):
        return say("It costs {amount:,.0f} more than the best action within four weeks.", amount=worth)
    return say("The data do not bear that out. Look again at what else differs.")
