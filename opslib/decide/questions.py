"""The questions that the notebooks answer, and which tables each one needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opslib.data.fitness import DataFitness
from opslib.data.periods import Period
from opslib.data.source import Data


@dataclass(frozen=True)
class Question:
    """One question of an operations team.

    Attributes:
        question: as somebody would ask it.
        notebook: where it is answered.
        section: in which section.
        needs: tables, or table.column, that must be there.
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
ACTIVITY = "events or orders"
CHURN = "30_churn_investigation"
REVIEW = "40_quarterly_review"
GROWTH = "10_growth_model"
FUNNEL = "20_funnel_diagnosis"
WATCH = "50_daily_watch"
VOICE = "55_voice_and_crisis"

QUESTIONS = (
    Question("Where does growth come from, and who is lost?", GROWTH, "Where does growth come from?", (ACTIVITY,)),
    Question("In which tier is every user, and how do users move?", GROWTH, "In which tier is everybody?", (ACTIVITY,)),
    Question("Who moved retention?", GROWTH, "Do new users stay?", (ACTIVITY, "users")),
    Question("What in the first week goes with staying?", GROWTH, "What goes with staying?", ("events",)),
    Question("What comes if nothing changes, and what would a lever do?", GROWTH, "What if?", (ACTIVITY,)),
    Question(
        "Did more budget bring users who stay?",
        GROWTH,
        "Did the moved budget bring users who stay?",
        (ACTIVITY, "users.channel", "spend"),
    ),
    Question("When does a user pay back?", GROWTH, "When does a user pay back?", ("events", "orders", "spend")),
    Question("Is a user in our groups worth more?", GROWTH, "Public or private traffic?", ("users.private_since",)),
    Question("Do users bring users?", GROWTH, "Do users bring users?", (ACTIVITY, "referrals")),
    Question("At which step of the funnel are users lost, and did that change?", FUNNEL, "Which step?", (ACTIVITY,)),
    Question(
        "Which users does the change sit in, since when, and is it over?", FUNNEL, "Who, and since when?", (ACTIVITY,)
    ),
    Question("Did the fix work?", FUNNEL, "Did the fix work?", (ACTIVITY, "exposures")),
    Question("Is churn rising, and when do users leave?", CHURN, "Is churn rising?", (ACTIVITY,)),
    Question("How long do subscribers stay, and who of them?", CHURN, "When do they leave?", ("subscriptions",)),
    Question("Why do users leave?", CHURN, "Why do they leave?", ("events",)),
    Question("Does leaving follow an expired coupon?", CHURN, "Why do they leave?", (ACTIVITY, "coupons")),
    Question("Which customers are worth it?", CHURN, "Who is worth it?", ("orders",)),
    Question("Whom to win back, and did it work?", CHURN, "Whom to win back?", ("orders", "messages", "exposures")),
    Question("Are more people using the product than last quarter?", REVIEW, "Activity", (ACTIVITY,)),
    Question("Does growth come from new users, or do old ones stay and return?", REVIEW, "Growth", (ACTIVITY,)),
    Question("Do new users come back the next day, after a week, after a month?", REVIEW, "Retention", (ACTIVITY,)),
    Question("How many users pay, and how much?", REVIEW, "Money", ("orders",)),
    Question("Which channels bring users who stay?", REVIEW, "Acquisition", (ACTIVITY, "users.channel")),
    Question("What does a new user cost, and one who stays?", REVIEW, "Acquisition", ("users.channel", "spend")),
    Question("Where did the change since last quarter come from?", REVIEW, "Bridge", (ACTIVITY,)),
    Question("Does what we started work?", REVIEW, "Initiatives", (ACTIVITY, "[[initiatives]] in the playbook")),
    Question("Does anything call for attention today?", WATCH, "Rules", (ACTIVITY,)),
    Question("Do more users complain, and of what?", VOICE, "Who complains?", (ACTIVITY, "tickets")),
    Question("How satisfied are users?", VOICE, "How satisfied are they?", ("surveys",)),
    Question("What did an incident cost?", VOICE, "What did it cost?", (ACTIVITY, "tickets")),
    Question("Which tickets come first, and which are late?", VOICE, "What waits?", ("tickets",)),
    Question("Did we reach our targets?", REVIEW, "Answer", (ACTIVITY, "[targets] in the playbook")),
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
