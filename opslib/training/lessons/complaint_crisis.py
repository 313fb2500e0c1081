"""Lesson: three days of complaints: who counts, when the rule fires, what comes first, and what it cost."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import ibis
import pandas as pd

from opslib.data.periods import DAY
from opslib.decide.crisis.incident import Incident
from opslib.decide.crisis.investigation import VoiceInvestigation, investigate_voice
from opslib.decide.crisis.plan import CrisisPlan, name_category
from opslib.decide.crisis.timeline import Timeline
from opslib.errors import InputError
from opslib.language import mark, say
from opslib.measure.estimate import Change
from opslib.present.crisis import charts, tables
from opslib.present.crisis.words import format_day
from opslib.present.display import TableView
from opslib.present.tables import make_table
from opslib.training.answers import Choice, Decision, Number, Option, Sentence
from opslib.training.curriculum import name_lesson
from opslib.training.judgement import Mistake
from opslib.training.plan import LessonPlan, Look, Question

if TYPE_CHECKING:
    from opslib.data.source import Data

NAME = "complaint_crisis"
# The sample company's evening on which the handbook's rule fires.
AS_OF = "2026-05-21"
CODE = f'voice = opslib.investigate_voice(data, as_of="{AS_OF}")'
CHARTS, TABLES = (f"from opslib.present.crisis import {part}\n\n{CODE}\n{part}." for part in ("charts", "tables"))
MONTH_DAYS = 30
# The days before the incident that the table of days begins with.
DAYS_BEFORE = 2
# A morning's export of the support desk, made up: ticket, user, whether it is a complaint. Ticket 3 was exported twice.
EXPORT = (
    (1, "A", True), (2, "B", True), (3, "C", True), (3, "C", True), (4, "D", False),
    (5, "A", True), (6, "E", True), (7, "B", False), (8, "F", True), (9, "F", True),
)  # fmt: skip


def write_lesson(data: Data) -> LessonPlan:
    """Write the lesson with the numbers of a company.

    Raises:
        InputError: there was no crisis that evening.
    """
    if not data.span.start <= dt.date.fromisoformat(AS_OF) <= data.span.last_day:
        raise InputError(f"{NAME}: this lesson is about {AS_OF}, outside these data; use the sample company.")
    voice = investigate_voice(data, as_of=AS_OF)
    incident, plan, timeline = voice.incident, voice.plan, voice.timeline
    if incident is None or incident.satisfaction is None or plan is None or timeline is None or not voice.in_crisis:
        raise InputError(f"{NAME}: this lesson needs a crisis on {AS_OF}; use the sample company.")
    month = _count_month(voice)
    return LessonPlan(
        name=NAME,
        title=name_lesson(NAME),
        minutes=40,
        situation=_tell(voice, incident, month),
        steps={
            "export": _show_export(),
            "who_counts": _ask_who_counts(),
            "days": _show_days(voice, incident, month),
            "rate": _ask_rate(incident, month),
            "fires": _ask_fires(voice, incident),
            "about": _show_about(voice),
            "order": _ask_order(voice, incident),
            "losses": _show_losses(voice),
            "cost": _ask_cost(timeline, incident.satisfaction),
            "plan": _show_plan(voice),
            "decision": _ask_decision(voice, incident, plan, month),
        },
        closing=(
            say("A complaint rate has users above the line and users below it, both of the same day, each once."),
            say(
                "A rule with days in a row fires on the last of them. Then hours count: know beforehand who does what."
            ),
            say("Say sorry first, find the cause next, make up for it to those who were hit; and answer what waits."),
        ),
    )


def _count_month(voice: VoiceInvestigation) -> int:
    """Users active in the last 30 days."""
    days = voice.scope.active_days
    first = voice.scope.as_of - (MONTH_DAYS - 1) * DAY
    users = days.filter(days.day >= ibis.literal(first), days.day <= ibis.literal(voice.scope.as_of)).user_id
    return int(voice.scope.data.execute(users.nunique()))


def _tell(voice: VoiceInvestigation, incident: Incident, month: int) -> tuple[str, ...]:
    users = incident.complaints.daily["complaining_users_count"].sum()
    return (
        say(
            "{day}, almost midnight. The head of service: “{tickets} tickets in {days} days, we cannot keep up!” "
            "The head of marketing: “Calm down. {users} complaints from {month:,} users active this month make "
            "{rate:.1%}. The handbook speaks of a crisis above {threshold:.0%}.”",
            day=format_day(voice.scope.as_of), tickets=incident.complaints.tickets_count, days=incident.period.days,
            users=users, month=month, rate=users / month, threshold=voice.threshold_rate,
        ),
        say(
            "The rule: more than {threshold:.0%} of active users complain, {times} days running. You are on duty. Is "
            "it a crisis, what is it about, and what happens tonight, in which order?",
            threshold=voice.threshold_rate, times=voice.times,
        ),
    )  # fmt: skip


def _show_export() -> Look:
    text = say(
        "How to read it: a small example first, one morning's export of the support desk, row by row. Not every ticket "
        "is a complaint, somebody may write twice, and an export may hold a ticket twice."
    )
    return Look((text,), (_tabulate_export,))


def _tabulate_export() -> TableView:
    frame = pd.DataFrame(
        [(row, ticket, user, say("complaint") if bad else say("question"))
         for row, (ticket, user, bad) in enumerate(EXPORT, 1)],
        columns=["row", "ticket", "user", "kind"],
    ).astype(str)  # fmt: skip
    labels = {"row": say("Row"), "ticket": say("Ticket"), "user": say("User"), "kind": say("Is a")}
    return make_table(frame, labels, name="lesson-export")


def _ask_who_counts() -> Question:
    tickets = set(EXPORT)
    complaints = {ticket for ticket in tickets if ticket[2]}
    mistakes = (
        Mistake(len(EXPORT), say("Those are rows: one ticket is there twice, and not all of them are complaints.")),
        Mistake(len(tickets), say("Those are tickets, questions among them. Who asks does not complain.")),
        Mistake(len({user for _, user, _ in tickets}), say("Those are users who wrote. Some of them only asked.")),
        Mistake(len(complaints), say("Those are complaints. Who writes twice is one user all the same.")),
        Mistake(sum(bad for *_, bad in EXPORT), say("One complaint is in the export twice: count it once.")),
    )
    return Question(
        (say("How many users complained that morning?"),),
        Number(len({user for _, user, _ in complaints}), 0.4, say("people"), mistakes),
        (
            say("First strike out what is no complaint, and the ticket that is there twice."),
            say("Then write down the letters of the users that are left, each once."),
        ),
        (
            say(
                "{users}: of {rows} rows {complaints} are complaints, each ticket once, by that many different users. "
                "The playbook counts in this way: distinct complaining users, by the day on which they wrote.",
                users=say(", ").join(sorted({user for _, user, _ in complaints})), rows=len(EXPORT),
                complaints=len(complaints),
            ),
        ),
    )  # fmt: skip


def _show_days(voice: VoiceInvestigation, incident: Incident, month: int) -> Look:
    text = say(
        "How to read it: the company's own days. Users who complained and active users are counted once a day; the "
        "last column has those active on any of the {days} days up to {day}. In the chart the dashed line is at "
        "{threshold:.0%}.",
        days=MONTH_DAYS, day=format_day(voice.scope.as_of), threshold=voice.threshold_rate,
    )  # fmt: skip
    shows = (lambda: _tabulate_days(voice, incident, month), lambda: charts.plot_complaints(voice))
    return Look((text,), shows, f"{CHARTS}plot_complaints(voice)")


def _tabulate_days(voice: VoiceInvestigation, incident: Incident, month: int) -> TableView:
    complaints = voice.voice.complaints
    assert complaints is not None
    daily = complaints.daily.tail(incident.period.days + DAYS_BEFORE)
    frame = pd.DataFrame({"day": [f"{day:%Y-%m-%d}" for day in daily["day"]]})
    for column in ("tickets_count", "complaining_users_count", "active_users_count"):
        frame[column] = [f"{count:,.0f}" for count in daily[column]]
    frame["month"] = f"{month:,}"
    labels = {
        "day": say("Day"), "tickets_count": say("Tickets"), "complaining_users_count": say("Users who complained"),
        "active_users_count": say("Active users"), "month": say("Active in {days} days", days=MONTH_DAYS),
    }  # fmt: skip
    return make_table(frame, labels, name="lesson-days", numeric=tuple(labels)[1:], unbroken=("day",))


def _ask_rate(incident: Incident, month: int) -> Question:
    daily = incident.complaints.daily.set_index("day")
    row, total = daily.loc[pd.Timestamp(incident.peak)].to_dict(), daily.sum()
    users, active = row["complaining_users_count"], row["active_users_count"]
    mistakes = (
        Mistake(100 * users / month, say("You divided a day's users by a month's. Both must be of that day.")),
        Mistake(
            100 * row["tickets_count"] / active,
            say("Above the line you took tickets. Count users who complained, each once."),
        ),
        Mistake(
            100 * users / row["tickets_count"],
            say("You divided users by tickets. Below the line belong all who were active that day."),
        ),
        Mistake(
            100 * float(total["complaining_users_count"] / total["active_users_count"]),
            say("That is all days of the incident together. The rule looks at each day by itself."),
        ),
    )
    return Question(
        (say("What was the complaint rate on {day}?", day=format_day(incident.peak)),),
        Number(100 * users / active, 0.1, "%", mistakes),
        (
            say("Users over users, and both of that day alone."),
            say("In the row of that day: the column of users who complained, over the one of active users."),
        ),
        (
            say(
                "{users:,} of {active:,} active users: {rate:.1%}. The head of marketing put the complaints of a few "
                "days over the users of a month; most of those were not there to be disappointed.",
                users=int(users), active=int(active), rate=users / active,
            ),
        ),
    )  # fmt: skip


def _ask_fires(voice: VoiceInvestigation, incident: Incident) -> Question:
    days = [incident.period.start + n * DAY for n in range(incident.period.days)]
    early = say("That day lies above the line, but the rule asks for more days in a row.")
    late = say("Each day of the incident lies above the line: compare the chart's last points with the dashed line.")
    options = [
        Option(str(day), format_day(day), "" if day == incident.fired_on else early)
        for day in days
        if incident.fired_on is not None and day <= incident.fired_on
    ]
    options.append(Option("never", say("Not at all so far"), late))
    return Question(
        (say("At the end of which day does the rule fire?"),),
        Choice(tuple(options)),
        (
            say("Work out the rate of each day, or look at the chart: which days lie above the dashed line?"),
            say("Count from the first of them. How many does the rule ask for?"),
        ),
        (
            say(
                "Rates from {first} on: {rates}. The last of them makes {times} in a row. On usual days it is "
                "{usual:.1%}: no need to worry about a rule that fires by chance.",
                first=format_day(incident.period.start), times=voice.times,
                rates=say(", ").join(f"{rate:.1%}" for rate in incident.complaints.daily["complaint_rate"]),
                usual=incident.usual["complaining_users_count"].sum() / incident.usual["active_users_count"].sum(),
            ),
        ),
    )  # fmt: skip


def _show_about(voice: VoiceInvestigation) -> Look:
    text = say(
        "How to read it: first what the complaints of these days are about, against the weeks before; a ticket of "
        "the kind “question” can be a complaint, too. Then what waits for an answer, in the handbook's order (system "
        "failure before content violation before service delay), with the hours in which each kind is to be solved."
    )
    shows = (lambda: tables.show_incident(voice), lambda: tables.show_queue(voice))
    return Look((text,), shows, f"{TABLES}show_incident(voice)")


def _ask_order(voice: VoiceInvestigation, incident: Incident) -> Question:
    usual = say("It has its place in the order, but there are about as many as usual. The order does not say what "
                "happened.")  # fmt: skip
    about = Choice(
        tuple(
            Option(name, name_category(name), "" if name == incident.category else usual)
            for name in voice.scope.data.playbook.crisis.order
        )
    )
    first = Choice((
        Option("severe", say("the kind at the top of the order"),
               say("Of that kind no ticket is open: look at the column “Open”.")),
        Option("waiting", say("the first kind in the order that has open tickets")),
        Option("oldest", say("whatever has waited longest"),
               say("Waiting counts within a kind. Between kinds the order decides.")),
    ))  # fmt: skip
    newcomer = Choice((
        Option("behind", say("goes behind those that wait already"),
               say("Its clock runs out in a few hours, and it may hit everybody.")),
        Option("before", say("goes before all of them")),
        Option("aside", say("can wait until this incident is over"),
               say("An incident does not put off a worse one. What does the order say?")),
    ))  # fmt: skip
    own = incident.categories.set_index("category").loc[incident.category].to_dict()
    return Question(
        (say("Fill the gaps: what is it about, and what is answered first?"),),
        Sentence(
            say("The complaints beyond the usual are about {about}. To be answered first is {first}. A system failure "
                "reported now {newcomer}."),
            {"about": about, "first": first, "newcomer": newcomer},
        ),
        (
            say("For the first gap: which row has far more complaints than usual?"),
            say("For the others: go through the queue from the top, and look at who waits and at the hours allowed."),
        ),
        (
            say(
                "{category}: {count:,.0f} complaints, {times:.0f} times as often as usual [{low:.0f} to {high:.0f}]. "
                "The order says what comes first of what is there, not what the incident is about.",
                category=name_category(incident.category).capitalize(), count=own["complaints_count"],
                times=own["times_ratio"], low=own["times_low"], high=own["times_high"],
            ),
        ),
    )  # fmt: skip


def _show_losses(voice: VoiceInvestigation) -> Look:
    text = say(
        "How to read it: the days of the incident against what was expected of them, with a 95% interval of the "
        "difference; one that holds zero is within chance. The last column: by so much a metric was off its course "
        "the week before already. That is not put down to these days: what is expected starts from there. In the "
        "chart, red points lie outside of the grey band of what was expected."
    )
    shows = (lambda: tables.show_losses(voice), lambda: charts.plot_timeline(voice))
    return Look((text,), shows, f"{TABLES}show_losses(voice)")


def _ask_cost(timeline: Timeline, satisfaction: Change) -> Question:
    orders, revenue = timeline.loss("orders_count"), timeline.loss("revenue_amount")
    if orders is None or revenue is None or satisfaction.difference is None:
        raise InputError(f"{NAME}: this lesson needs orders and surveys; use the sample company.")
    options = (
        Option("nothing", say("Nothing: as many users are active as before"),
               say("Users still come, but look at what they answered. Who is angry today may leave in a month.")),
        Option("revenue", say("It even brought {amount:+,.0f} of revenue", amount=revenue["difference"]),
               say("Its interval reaches from {low:,.0f} to {high:,.0f}: nothing can be said of revenue.",
                   low=revenue["low"], high=revenue["high"])),
        Option("before", say("Above all the {share:.0%} of orders that were missing the week before already",
                             share=-(orders["before_rate"] or 0)),
               say("They were missing when few complained yet, so it is not these days that cost them. What came on "
                   "top stands under “Difference”.")),
        Option("trust", say("Trust above all: {points:+.0f} points of satisfaction; orders too, though hardly beyond "
                            "chance",
                            points=100 * satisfaction.difference)),
    )  # fmt: skip
    return Question(
        (say("What have these days cost so far?"),),
        Choice(options),
        (
            say("Which rows are beyond chance, and by how far?"),
            say("What was off the week before is in “Expected” already. Which row moved furthest from there?"),
        ),
        (
            say(
                "Satisfaction went from {before:.0%} of {asked_before:,.0f} answers to {now:.0%} of {asked:,.0f}. "
                "Orders: {orders:+,.0f} [{low:+,.0f} to {high:+,.0f}], beside what was missing before. Who leaves "
                "over it shows only in the weeks to come.",
                before=satisfaction.before.value, now=satisfaction.now.value, orders=orders["difference"],
                asked_before=satisfaction.before.denominator, asked=satisfaction.now.denominator,
                low=orders["low"], high=orders["high"],
            ),
        ),
    )  # fmt: skip


def _show_plan(voice: VoiceInvestigation) -> Look:
    text = say(
        "How to read it: the handbook's three steps as the playbook has them, each with who does it, within how many "
        "hours of the rule's firing, at what cost, and in which words."
    )
    return Look((text,), (lambda: tables.show_plan(voice),), f"{TABLES}show_plan(voice)")


def _ask_decision(voice: VoiceInvestigation, incident: Incident, plan: CrisisPlan, month: int) -> Question:
    hours = plan.steps["within_hours"].tolist()
    everybody = plan.cost_amount / plan.users_count * month
    amount = mark("{currency} {amount:,.0f}")
    options = (
        Option("silent", say("First find the cause, and speak when it is known and mended"),
               say("That takes a day or more, and until then nobody hears from you. One can be sorry without knowing "
                   "why yet.")),
        Option("vouchers", say("A voucher tonight for everybody active this month: {cost}",
                               cost=say(amount, currency=voice.currency, amount=everybody)),
               say("Most of them, as far as is known, met with nothing, and those who wait for an answer still wait. "
                   "Money before words looks like hush money.")),
        Option("plan", say("Apologise tonight and answer what waits, find the cause by tomorrow, then compensate those "
                           "who were hit: {cost}", cost=say(amount, currency=voice.currency, amount=plan.cost_amount))),
        Option("wait", say("Wait one more day: the last one had fewer complaints than the day before"),
               say("It is still far above the line, and the rule has fired. What it fell by is within chance.")),
    )  # fmt: skip
    return Question(
        (say("What happens tonight, and in which order?"),),
        Decision(Choice(options)),
        (
            say("What do those who wrote want first: money, a reason, or to be heard?"),
            say("Compare the hours of the steps, and whom each option pays."),
        ),
        (
            say(
                "Apology within {first:.0f} hours, cause within {second:.0f}, compensation within {third:.0f}, for "
                "the {users:,} users who complained of it. An apology needs no cause; a compensation does, as one must "
                "know who was hit.",
                first=hours[0], second=hours[1], third=hours[-1], users=plan.users_count,
            ),
            say(
                "Afterwards hold those who complained against users alike who did not: did they stay? Users who were "
                "hit but did not write are not among the {users:,}; tracing the cause finds them.",
                users=incident.users_count,
            ),
        ),
    )  # fmt: skip
