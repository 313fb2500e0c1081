"""The questions that the notebooks answer, and which tables each one needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opslib.data.fitness import DataFitness
from opslib.data.periods import Period
from opslib.data.source import Data
from opslib.language import mark


@dataclass(frozen=True)
class Question:
    """One question of an operations team.

    Attributes:
        question: as somebody would ask it; translated where it is shown.
        notebook: where it is answered.
        section: in which section; translated where it is shown.
        needs: tables, or table.column, that must be there; translated where they are shown.
        missing: those of them that the data do not have.
    """

    question: str
    notebook: str
    section: str
    needs: tuple[str, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSurvey:
    """What a company's data are good for.

    Attributes:
        fitness: the contract check.
        span: from the first active day to the last full day.
        zone: the time zone that decides on days.
        activity: the table that says who was active; empty where none does.
        questions: every question, with what is missing to answer it.
    """

    fitness: DataFitness
    span: Period
    zone: str
    activity: str
    questions: tuple[Question, ...]

    def findings(self) -> list[dict[str, Any]]:
        """One flat record a table and one a question."""
        tables = [
            {"name": "table", "table": p.table, "rows": p.rows, "left_out": p.rows - p.kept}
            for p in self.fitness.profiles
        ]
        questions = [
            {"name": "question", "question": q.question, "notebook": q.notebook, "missing": list(q.missing)}
            for q in self.questions
        ]
        return [{"name": "fitness", "verdict": self.fitness.verdict}, *tables, *questions]


# "events or orders": whoever buys is active, where there are no events.
ACTIVITY = mark("events or orders")
CHURN = "30_churn_investigation"
REVIEW = "40_quarterly_review"
GROWTH = "10_growth_model"
FUNNEL = "20_funnel_diagnosis"
WATCH = "50_daily_watch"
VOICE = "55_voice_and_crisis"

QUESTIONS = (
    Question(
        mark("Where does growth come from, and who is lost?"), GROWTH, mark("Where does growth come from?"), (ACTIVITY,)
    ),
    Question(
        mark("In which tier is every user, and how do users move?"),
        GROWTH,
        mark("In which tier is everybody?"),
        (ACTIVITY,),
    ),
    Question(mark("Who moved retention?"), GROWTH, mark("Do new users stay?"), (ACTIVITY, "users")),
    Question(mark("What in the first week goes with staying?"), GROWTH, mark("What goes with staying?"), ("events",)),
    Question(mark("What comes if nothing changes, and what would a lever do?"), GROWTH, mark("What if?"), (ACTIVITY,)),
    Question(
        mark("Did more budget bring users who stay?"),
        GROWTH,
        mark("Did the moved budget bring users who stay?"),
        (ACTIVITY, "users.channel", "spend"),
    ),
    Question(
        mark("When does a user pay back?"), GROWTH, mark("When does a user pay back?"), ("events", "orders", "spend")
    ),
    Question(
        mark("Is a user in our groups worth more?"),
        GROWTH,
        mark("Public or private traffic?"),
        ("users.private_since",),
    ),
    Question(mark("Do users bring users?"), GROWTH, mark("Do users bring users?"), (ACTIVITY, "referrals")),
    Question(
        mark("At which step of the funnel are users lost, and did that change?"),
        FUNNEL,
        mark("Which step?"),
        (ACTIVITY,),
    ),
    Question(
        mark("Which users does the change sit in, since when, and is it over?"),
        FUNNEL,
        mark("Who, and since when?"),
        (ACTIVITY,),
    ),
    Question(mark("Did the fix work?"), FUNNEL, mark("Did the fix work?"), (ACTIVITY, "exposures")),
    Question(mark("Is churn rising, and when do users leave?"), CHURN, mark("Is churn rising?"), (ACTIVITY,)),
    Question(
        mark("How long do subscribers stay, and who of them?"), CHURN, mark("When do they leave?"), ("subscriptions",)
    ),
    Question(mark("Why do users leave?"), CHURN, mark("Why do they leave?"), ("events",)),
    Question(mark("Does leaving follow an expired coupon?"), CHURN, mark("Why do they leave?"), (ACTIVITY, "coupons")),
    Question(mark("Which customers are worth it?"), CHURN, mark("Who is worth it?"), ("orders",)),
    Question(
        mark("Whom to win back, and did it work?"),
        CHURN,
        mark("Whom to win back?"),
        ("orders", "messages", "exposures"),
    ),
    Question(mark("Are more people using the product than last quarter?"), REVIEW, mark("Activity"), (ACTIVITY,)),
    Question(
        mark("Does growth come from new users, or do old ones stay and return?"), REVIEW, mark("Growth"), (ACTIVITY,)
    ),
    Question(
        mark("Do new users come back the next day, after a week, after a month?"),
        REVIEW,
        mark("Retention"),
        (ACTIVITY,),
    ),
    Question(mark("How many users pay, and how much?"), REVIEW, mark("Money"), ("orders",)),
    Question(mark("Which channels bring users who stay?"), REVIEW, mark("Acquisition"), (ACTIVITY, "users.channel")),
    Question(
        mark("What does a new user cost, and one who stays?"), REVIEW, mark("Acquisition"), ("users.channel", "spend")
    ),
    Question(mark("Where did the change since last quarter come from?"), REVIEW, mark("Bridge"), (ACTIVITY,)),
    Question(
        mark("Does what we started work?"),
        REVIEW,
        mark("Initiatives"),
        (ACTIVITY, mark("[[initiatives]] in the playbook")),
    ),
    Question(mark("Does anything call for attention today?"), WATCH, mark("Rules"), (ACTIVITY,)),
    Question(mark("Do more users complain, and of what?"), VOICE, mark("Who complains?"), (ACTIVITY, "tickets")),
    Question(mark("How satisfied are users?"), VOICE, mark("How satisfied are they?"), ("surveys",)),
    Question(mark("What did an incident cost?"), VOICE, mark("What did it cost?"), (ACTIVITY, "tickets")),
    Question(mark("Which tickets come first, and which are late?"), VOICE, mark("What waits?"), ("tickets",)),
    Question(mark("Did we reach our targets?"), REVIEW, mark("Answer"), (ACTIVITY, mark("[targets] in the playbook"))),
)


def survey_data(data: Data) -> DataSurvey:
    """Survey a company's data: fit or not, over which days, and which questions they can answer.

    Raises:
        InputError: a table cannot be read, or nothing says which days the data cover.
    """
    zone = data.playbook.company.timezone
    return DataSurvey(data.fitness, data.span, zone, data.activity_name, tuple(list_questions(data)))


def list_questions(data: Data) -> list[Question]:
    """List every question with what these data lack to answer it."""
    return [
        Question(q.question, q.notebook, q.section, q.needs, tuple(n for n in q.needs if not _has(data, n)))
        for q in QUESTIONS
    ]


def _has(data: Data, need: str) -> bool:
    if need == ACTIVITY:
        return data.has_activity
    if need.startswith("[targets]"):
        return bool(data.playbook.targets)
    if need.startswith("[[initiatives]]"):
        return bool(data.playbook.initiatives or data.playbook.initiatives_file)
    table, _, column = need.partition(".")
    return data.has(table) and (not column or column in data.table(table).columns)
