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
    Track(mark("Basics of growth"), mark("30 days"), {"read_a_funnel": mark("Read a funnel")}),
    Track(mark("Experiments and analysis"), mark("6 weeks"), {}),
    Track(mark("Whole-domain thinking"), mark("3 months"), {}),
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
