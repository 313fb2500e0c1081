"""The three tracks of the handbook, and the lessons of each in order."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opslib.errors import InputError, suggest_name
from opslib.language import mark, say

if TYPE_CHECKING:
    from opslib.data.source import Data
    from opslib.training.plan import LessonPlan


@dataclass(frozen=True)
class Track:
    """A track.

    Attributes:
        title, time: what people call it, and how long the handbook gives it.
        lessons: name -> title; each name is a module in `lessons/` with the function `write_lesson(data)`.
    """

    title: str
    time: str
    lessons: dict[str, str]


TRACKS = (
    Track(
        mark("Basics of growth"),
        mark("30 days"),
        {
            "read_a_funnel": mark("Read a funnel"),
            "read_a_triangle": mark("Read a cohort triangle"),
            "where_growth_comes_from": mark("Where growth comes from"),
            "below_the_trigger": mark("Day-7 retention below 25%"),
            "how_often_they_come": mark("How often they come"),
        },
    ),
    Track(
        mark("Experiments and analysis"),
        mark("6 weeks"),
        {
            "sample_ratio": mark("When the split is not as planned"),
            "peeking": mark("Looking too early"),
            "how_many_users": mark("How many users a test needs"),
            "mix_or_rate": mark("Other users, or users who changed"),
            "holdout": mark("Did the campaign pay"),
        },
    ),
    Track(
        mark("Whole-domain thinking"),
        mark("3 months"),
        {
            "expired_coupons": mark("Why they leave: the expired coupon"),
            "budget_without_users": mark("A budget that brings nobody who stays"),
            "complaint_crisis": mark("Three days of complaints"),
            "moved_to_private": mark("Worth of private traffic"),
            "three_looks": mark("Did it work: three looks"),
            "quarterly_review": mark("A quarter of a company nobody has seen"),
        },
    ),
)
LESSONS = tuple(name for track in TRACKS for name in track.lessons)


def find_lesson(name: str) -> Callable[[Data], LessonPlan]:
    """Find what writes a lesson.

    Raises:
        InputError: there is no such lesson.
    """
    if name not in LESSONS:
        raise InputError(
            f"There is no lesson '{name}'.{suggest_name(name, LESSONS)} The lessons are: {', '.join(LESSONS)}."
        )
    found: Callable[[Data], LessonPlan] = importlib.import_module(f"opslib.training.lessons.{name}").write_lesson
    return found


def name_lesson(name: str) -> str:
    """What people call a lesson."""
    return say(next(track.lessons[name] for track in TRACKS if name in track.lessons))
