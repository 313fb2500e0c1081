"""A case under way: its text with the company's numbers, and its questions with sealed answers."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opslib.data.periods import Period
from opslib.errors import InputError
from opslib.language import mark, say, set_language
from opslib.training.answers import Choice, Decision, Group, Number, Option
from opslib.training.cases.costs import ACTIONS, COMPLAINT_AMOUNT, LATER_DAYS, STAYING_USER_AMOUNT
from opslib.training.cases.folder import VERSION
from opslib.training.cases.sealed import SealedAnswer
from opslib.training.plan import LessonPlan, Question
from opslib.training.values import list_values

if TYPE_CHECKING:
    from opslib.data.source import Data
    from opslib.training.answers import Answer
    from opslib.training.lesson import Lesson

CAUSE_TEXTS = {
    "release": mark("A release with which a step of the funnel often fails"),
    "price": mark("Something got dearer or harder for some users, who buy less of it"),
    "traffic": mark("A source of new users brings others than before, who do not stay"),
    "budget": mark("More money brings more new users, but none who stay"),
    "service": mark("The service got worse for some users"),
    "season": mark("The season, or chance: nothing moved apart from the rest"),
}
EVENT_COLUMNS, USER_COLUMNS = ("app_version",), ("platform", "channel", "city_tier", "age_band")
SHOWN_DAYS = 35
MOST_VERSIONS = 40


def open_case(path: str | Path = "case.json", *, lang: str = "") -> Lesson:
    """Open a case, or go on with it.

    Args:
        path: the case's file, in the folder that `opslib training new` made.
        lang: `en` or `zh`; empty: as the case's playbook says.

    Returns:
        The case, to be read, asked and finished like a lesson. What is answered is kept beside it.

    Raises:
        InputError: no case there, or one of another version.
    """
    from opslib.data.source import open_data
    from opslib.training.lesson import Lesson
    from opslib.training.progress import FILE, Progress

    path = Path(path)
    case = read_case(path)
    data = open_data(path.parent / "playbook.toml")
    set_language(lang or data.playbook.company.lang)
    plan = write_case(case, data)
    return Lesson(plan, Progress.load(path.parent / FILE))


def read_case(path: Path) -> dict[str, Any]:
    """Read a case's file."""
    try:
        case: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = case["version"]
    except FileNotFoundError:
        raise InputError(f"{path}: there is no case. Make one with: opslib training new --seed 1 --level 1") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is no case, or was changed. Make it again with the seed that it had.") from None
    if version != VERSION:
        raise InputError(f"{path} is a case of version {version}; this opslib reads {VERSION}. Make it again.")
    return case


def write_case(case: dict[str, Any], data: Data) -> LessonPlan:
    """Write a case with the company's numbers."""
    situation = (
        _tell_move(case["moved"], data),
        say(
            "Find out what happened, to whom, since when, how much, and what to do. Everything is in this folder: the "
            "cells below look with the playbook's own functions, and `opslib report` makes whole reports."
        ),
        say(
            "For the price of a decision: an order's margin is in the orders, a user who stays is worth CNY "
            "{user:,.0f}, a complaint costs CNY {complaint:,.0f}; what is lost within {days} days counts.",
            user=STAYING_USER_AMOUNT, complaint=COMPLAINT_AMOUNT, days=LATER_DAYS,
        ),
    )  # fmt: skip
    kinds = _list_questions(data)
    steps = {
        name: Question(
            question.text,
            SealedAnswer(question.answer, name, case["salt"], case["sealed"][name]),
            question.hints,
            question.solution,
        )
        for name, question in kinds.items()
    }
    return LessonPlan(
        name=f"case_{case['salt'][:8]}",
        title=say("{company}, level {level}", company=case["company"], level=case["level"]),
        minutes=40,
        situation=situation,
        steps=steps,
        closing=(say("Your trainer has the seed: opslib training reveal tells what was planted."),),
    )


def _tell_move(moved: str, data: Data) -> str:
    """What is known at first: a number that moved."""
    company = data.playbook.company.name
    if moved == "orders":
        from opslib.decide.funnel.diagnosis import diagnose_funnel

        diagnosis = diagnose_funnel(data, days=SHOWN_DAYS)
        change = diagnosis.change(overall=True)
        assert change is not None
        return say(
            "{company} asks for help: of the users who looked at an item in the last {days} days, {now:.1%} of "
            "{count:,.0f} paid; in the {days} days before it was {before:.1%}.",
            company=company, days=SHOWN_DAYS, now=change.now.value, count=change.now.denominator,
            before=change.before.value,
        )  # fmt: skip
    if moved == "staying":
        from opslib.decide.growth.model import model_growth

        model = model_growth(data, days=SHOWN_DAYS)
        costs, changes = model.acquisition, model.changes()
        assert costs.before is not None
        now, before = costs.channels.totals, costs.before.totals
        return say(
            "{company} asks for help: in the last {days} days it spent CNY {spend:,.0f} on {users:,.0f} new users, and "
            "{d1:.1%} of them came back the next day; in the {days} days before it was CNY {spend_before:,.0f}, "
            "{users_before:,.0f} and {d1_before:.1%}.",
            company=company, days=SHOWN_DAYS, spend=now["cac_amount"].numerator, users=now["new_users_count"].value,
            d1=changes["d1_rate"].now.value, spend_before=before["cac_amount"].numerator,
            users_before=before["new_users_count"].value, d1_before=changes["d1_rate"].before.value,
        )  # fmt: skip
    from opslib.decide.crisis.investigation import investigate_voice

    voice = investigate_voice(data, days=SHOWN_DAYS).voice
    assert voice.complaints is not None and voice.complaints_before is not None
    return say(
        "{company} asks for help: on an average day of the last {days} days, {now:.2%} of the active users complained "
        "({count:,.0f} complaints in all); in the {days} days before it was {before:.2%} ({count_before:,.0f}).",
        company=company, days=SHOWN_DAYS, now=voice.complaints.complaint_rate.value,
        count=voice.complaints.complaints_count.value, before=voice.complaints_before.complaint_rate.value,
        count_before=voice.complaints_before.complaints_count.value,
    )  # fmt: skip


def _list_questions(data: Data) -> dict[str, Question]:
    causes = Choice(tuple(Option(name, say(text), "-") for name, text in CAUSE_TEXTS.items()))
    actions = Choice(tuple(Option(name, say(action.text), "-") for name, action in ACTIONS.items()))
    # All that are in use: the one that is asked for may be new and rare.
    end = data.as_of + dt.timedelta(days=1)
    shown = Period(end - dt.timedelta(days=2 * SHOWN_DAYS), end, "shown")
    values = list_values(data, "events", EVENT_COLUMNS, period=shown, most=MOST_VERSIONS)
    values |= list_values(data, "users", USER_COLUMNS)
    weeks = Choice(tuple(Option(day, day, "-") for day in _list_mondays(data)))
    told = (say("What was planted is known to whom made the case: opslib training reveal, with the seed."),)
    questions: dict[str, tuple[str, Answer, tuple[str, ...]]] = {
        "cause": (
            say("What happened?"),
            Decision(causes),
            (
                say(
                    "Which number moved first: how many came, how many stayed, how many bought, or how many complained?"
                ),
                say("Did it move for everybody alike? Then it is no defect of one thing."),
            ),
        ),
        "group": (
            say("Which users does it concern? Name the smallest group that has it all."),
            Group({}, values),
            (
                say("Compare each group with everybody else, before and now."),
                say("If two groups stand out, look at those who are in both."),
            ),
        ),
        "start": (
            say("In which week did it begin? Within a week is right."),
            weeks,
            (say("Draw the group's own rate by week, beside everybody else's."),),
        ),
        "size": (
            say("By how many per cent did the rate in question change among these users? A fall is negative."),
            Number(0.0, 12.0, "%"),
            (
                say("Their rate against what it would have been: before, or as everybody else's went."),
                say("Per cent of the rate, not points."),
            ),
        ),
        "action": (
            say("What do you do first?"),
            actions,
            (
                say("Which action reaches the cause that you named?"),
                say("Reckon: its price, and what is lost in spite of it."),
            ),
        ),
    }
    return {name: Question((text,), answer, hints, told) for name, (text, answer, hints) in questions.items()}


def _list_mondays(data: Data) -> list[str]:
    last = data.as_of - dt.timedelta(days=data.as_of.weekday())
    return [(last - dt.timedelta(days=7 * i)).isoformat() for i in range(13, -1, -1)]
