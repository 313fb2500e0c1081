"""The tables of voice and crisis: what users say, the incident, what waits, the plan, and the market."""

from __future__ import annotations

from typing import Any

import pandas as pd

from opslib.decide.crisis.incident import Incident
from opslib.decide.crisis.investigation import VoiceInvestigation
from opslib.decide.crisis.market import CONTROLLED
from opslib.decide.crisis.plan import CrisisPlan, name_category
from opslib.language import join_clauses, join_sentences, mark, say
from opslib.measure.estimate import Change, Estimate
from opslib.present.crisis.actions import FAST_RESPONSE
from opslib.present.crisis.words import LOSSES, format_day, format_nps, format_share, say_points
from opslib.present.display import ListView, TableView
from opslib.present.parts import format_probability, format_range, say_missing, say_needed
from opslib.present.senses import say_sense
from opslib.present.tables import make_table
from opslib.present.words import MISSING, format_number, label_metric, name_column, name_group, name_value

SHOWN_SEGMENTS = 6
SHOWN_TICKETS = 10
RESPONSE_LABELS = {
    "satisfaction_response_rate": mark("Active users who answered on satisfaction"),
    "nps_response_rate": mark("Active users who answered on recommending"),
}


def show_voice(voice: VoiceInvestigation) -> TableView | ListView:
    """Complaint rate, complaints, satisfaction, net promoter score and response, now and before."""
    hearing = voice.voice
    estimates: list[Estimate] = []
    if hearing.complaints is not None:
        estimates += [hearing.complaints.complaint_rate, hearing.complaints.complaints_count]
    if hearing.satisfaction is not None:
        estimates += hearing.satisfaction.estimates.values()
    if not estimates:
        return say_needed(voice, mark("Who complains"), mark("What users say"))
    rows = []
    for estimate in estimates:
        change = hearing.changes.get(estimate.name)
        rows.append(
            {
                "metric": say(RESPONSE_LABELS[estimate.name])
                if estimate.name in RESPONSE_LABELS
                else label_metric(estimate.name),
                "now": _format(estimate),
                "of": f"{estimate.denominator:,.0f}" if estimate.denominator > 1 else MISSING,
                "before": MISSING if change is None else _format(change.before),
                "change": MISSING if change is None else _format_change(change),
            }
        )
    labels = {
        "metric": say("Metric"), "now": say("Now [95%]"), "of": say("Of user-days, answers or users"),
        "before": say("Before [95%]"), "change": say("Change"),
    }  # fmt: skip
    return make_table(pd.DataFrame(rows), labels, name="voice", numeric=("now", "of", "before", "change"))


def _format(estimate: Estimate) -> str:
    if not estimate.known:
        return say("too few")
    if estimate.name == "nps_ratio":
        return format_nps(estimate)
    if estimate.unit == "rate":
        return format_share(estimate, 2 if estimate.name == "complaint_rate" else 1)
    return format_range(estimate.value, estimate.low, estimate.high, form=",.0f")


def _format_change(change: Change) -> str:
    if change.difference is None:
        return MISSING
    if change.now.unit == "count":
        text = f"{change.relative:+.0%}" if change.relative is not None else f"{change.difference:+,.0f}"
    else:
        digits = {"complaint_rate": 2, "nps_ratio": 0}.get(change.now.name, 1)
        text = say_points(f"{100 * change.difference:+.{digits}f}", change.now.name)
    return text if change.clear else say("{change}, within chance", change=text)


def show_categories(voice: VoiceInvestigation) -> TableView | ListView:
    """Tickets by category: how many, how many of active users complain, how long they wait."""
    hearing = voice.voice
    if hearing.complaints is None or hearing.tickets is None:
        return say_needed(voice, mark("Who complains"), mark("Tickets by category"))
    frame = hearing.complaints.categories
    if frame.empty:
        return say_missing(voice, mark("Who complains"), say("no ticket was opened in these days"))
    waits = hearing.tickets.categories.set_index("category")
    shown = pd.DataFrame({"category": [name_category(str(c)) for c in frame["category"]]})
    shown["tickets"] = [f"{n:,.0f}" for n in frame["tickets_count"]]
    shown["complaints"] = [f"{n:,.0f}" for n in frame["complaints_count"]]
    ends = frame[["complaint_rate", "complaint_low", "complaint_high"]].astype(float).itertuples(index=False)
    shown["rate"] = [format_range(*row, form=".2f", scale=1000) for row in ends]
    for name in ("median", "p90"):
        columns = [f"{name}_hours", f"{name}_low", f"{name}_high"]
        rows = waits.reindex(frame["category"])[columns].astype(float).itertuples(index=False)
        shown[name] = [_format_hours(*row) for row in rows]
    shown["open"] = [f"{n:,.0f}" for n in waits["open_count"].reindex(frame["category"]).fillna(0)]
    labels = {
        "category": say("About"), "tickets": say("Tickets"), "complaints": say("Complaints"),
        "rate": say("Of 1,000 active users a day [95%]"), "median": say("Half solved after, hours [95%]"),
        "p90": say("Nine in ten after, hours [95%]"), "open": say("Open"),
    }  # fmt: skip
    return make_table(shown, labels, name="voice-categories", numeric=tuple(labels)[1:])


def _format_hours(value: float, low: float, high: float) -> str:
    if pd.isna(value):
        return say_sense("not yet", mark("Fewer are solved so far"))
    texts = {"value": f"{value:.0f}", "low": f"{low:.0f}", "high": "–" if pd.isna(high) else f"{high:.0f}"}
    return say("{value} [{low} to {high}]", **texts)


def show_segments(voice: VoiceInvestigation) -> TableView | ListView:
    """Groups of users who complain more, or less, than everybody else."""
    frame = voice.voice.segments.head(SHOWN_SEGMENTS)
    if frame.empty:
        if voice.voice.complaints is None:
            return say_needed(voice, mark("Who complains"), mark("Groups of users"))
        return say_missing(voice, mark("Who complains more than the rest"), say("no groups of users can be told apart"))
    groups = zip(frame["column"], frame["segment"], strict=True)
    shown = pd.DataFrame({"segment": [_name_segment(column, value) for column, value in groups]})
    shown["rate"] = [MISSING if pd.isna(r) else say("{rate:.2%} of {count:,.0f}", rate=r, count=n) for r, n in
                     zip(frame["complaint_rate"], frame["active_count"], strict=True)]  # fmt: skip
    shown["others"] = [f"{r:.2%}" for r in frame["others_rate"]]
    ends = frame[["times_ratio", "times_low", "times_high"]].astype(float).itertuples(index=False)
    shown["times"] = [format_range(*row, form=".2f") for row in ends]
    shown["noise"] = [format_probability(q) for q in frame["q_value"]]
    labels = {
        "segment": say("Users"), "rate": say("Complain on a day, of user-days"), "others": say("Everybody else"),
        "times": say("Times as often [95%]"), "noise": say("False alarm rate"),
    }  # fmt: skip
    clear = int((voice.voice.segments["q_value"] < 0.05).sum())
    text = mark("{clear} of {compared} groups differ beyond chance.")
    if clear == 1:
        text = mark("{clear} of {compared} groups differs beyond chance.")
    elif not clear:
        text = mark("None of {compared} groups differ beyond chance.")
    note = say(text, clear=clear, compared=len(voice.voice.segments))
    note = join_sentences([note, say("Days with more complaints than expected are left out.")])
    return make_table(
        shown, labels, name="voice-segments", numeric=tuple(labels)[1:], note=note, total=len(voice.voice.segments)
    )


def _name_segment(column: str, value: str) -> str:
    return say("{column}: {value}", column=name_column(column).capitalize(), value=name_value(value))


def show_incident(voice: VoiceInvestigation) -> TableView | ListView:
    """What the incident is about: complaints by category against the days before."""
    incident = voice.incident
    if incident is None:
        return say_missing(voice, mark("The incident"), say("no day has more complaints than expected"))
    frame = incident.categories
    if frame.empty:
        return say_missing(voice, mark("The incident"), say("nobody complained in its days"))
    shown = pd.DataFrame({"category": [name_category(str(c)) for c in frame["category"]]})
    shown["complaints"] = [f"{n:,.0f}" for n in frame["complaints_count"]]
    for name in ("complaint_rate", "before_rate"):
        shown[name] = [MISSING if pd.isna(r) else f"{r:.2%}" for r in frame[name]]
    ends = frame[["times_ratio", "times_low", "times_high"]].astype(float).itertuples(index=False)
    shown["times"] = [format_range(*row, form=".1f") for row in ends]
    shown["excess"] = [f"{round(n) + 0:+,}" for n in frame["excess_count"]]
    labels = {
        "category": say("About"), "complaints": say("Complaints"), "complaint_rate": say("Of active users a day"),
        "before_rate": say("Usual"), "times": say("Times as often [95%]"), "excess": say("Beyond the usual"),
    }  # fmt: skip
    return make_table(shown, labels, name="incident", numeric=tuple(labels)[1:], note=_say_who(incident))


def _say_who(incident: Incident) -> str:
    """Which users were hit more than others; empty where that cannot be told."""
    if incident.who is None:
        return ""
    named = [str(s) for s in incident.who.causes["segment"]] if incident.who.localised else []
    if not named:
        return say("No group of users was hit more than others.")
    return say("Hit more than others: {groups}.", groups=join_clauses(named))


def show_losses(voice: VoiceInvestigation) -> TableView | ListView:
    """What the incident cost: users, orders and revenue against what was expected, satisfaction against before."""
    if voice.incident is None or voice.timeline is None:
        return say_missing(voice, mark("What it cost"), say("there is no incident"))
    rows = []
    for row in voice.timeline.losses.to_dict("records"):
        unit = LOSSES[str(row["metric"])][1]
        actual, expected = (format_number(row[k], unit) for k in ("actual", "expected"))
        low, high = (format_number(row[k], unit) for k in ("low", "high"))
        rows.append(
            {
                "metric": say("User-days") if row["metric"] == "dau_count" else label_metric(str(row["metric"])),
                "actual": actual,
                "expected": expected,
                "difference": say(
                    "{value} [{low} to {high}]", value=format_number(row["difference"], unit), low=low, high=high
                ),
                "verdict": _say_clear(row["clear"]),
                "before": MISSING if pd.isna(row["before_rate"]) else f"{row['before_rate']:+.0%}",
            }
        )
    for change in (voice.incident.satisfaction, voice.incident.nps):
        if change is not None and change.difference is not None and change.low is not None and change.high is not None:
            rows.append(
                {
                    "metric": label_metric(change.now.name),
                    "actual": _format(change.now),
                    "expected": _format(change.before),
                    "difference": say_points(
                        format_range(change.difference, change.low, change.high, form="+.1f", scale=100),
                        change.now.name,
                    ),
                    "verdict": _say_clear(change.clear),
                    "before": MISSING,
                }
            )
    if not rows:
        reasons = join_clauses(voice.timeline.missing.values()) or say("too few days are known")
        return say_missing(voice, mark("What it cost"), reasons)
    labels = {
        "metric": say("Metric"), "actual": say_sense("Was", mark("Actual value")),
        "expected": say_sense("Expected", mark("Value expected")), "difference": say("Difference [95%]"),
        "verdict": say("Verdict"), "before": say("Off already the week before"),
    }  # fmt: skip
    note = say("Where the week before lay off its course already, the expected starts from there.")
    return make_table(pd.DataFrame(rows), labels, name="incident-losses", numeric=tuple(labels)[1:4], note=note)


def _say_clear(clear: bool) -> str:
    return say("beyond chance") if clear else say("within chance")


def show_queue(voice: VoiceInvestigation) -> TableView | ListView:
    """The severity queue: open tickets by category, in order, with their clocks."""
    queue = voice.queue
    if queue is None:
        return say_needed(voice, mark("What waits"), mark("The queue"))
    frame = queue.categories
    if frame.empty:
        return say_missing(voice, mark("What waits"), say("no ticket is open"))
    shown = pd.DataFrame({"rank": frame["rank"], "category": [name_category(str(c)) for c in frame["category"]]})
    shown["clock"] = [say("{hours:g} h", hours=hours) for hours in frame["solve_hours"]]
    for column in ("open_count", "overdue_count", "due_soon_count"):
        shown[column] = [f"{n:,.0f}" for n in frame[column]]
    oldest = frame["oldest_hours"]
    shown["oldest"] = [MISSING if pd.isna(hours) else say("{hours:.0f} h", hours=hours) for hours in oldest]
    labels = {
        "rank": "", "category": say("About"), "clock": say("To be solved in"), "open_count": say("Open"),
        "overdue_count": say("Late"), "due_soon_count": say("Due in 24 hours"), "oldest": say("Oldest waits"),
    }  # fmt: skip
    if voice.incident is not None:
        late = zip(frame["incident_late_count"], frame["incident_count"], strict=True)
        shown["incident"] = [say("{late:,.0f} of {count:,.0f}", late=a, count=b) for a, b in late]
        labels["incident"] = say("Late in the incident")
    text = mark("As of {day}, {time:%H:%M}. The most severe come first.")
    note = say(text, day=format_day(queue.now_at.date()), time=queue.now_at)
    return make_table(shown, labels, name="queue", numeric=tuple(labels)[2:], note=note)


def show_tickets(voice: VoiceInvestigation) -> TableView | ListView:
    """The next tickets to answer."""
    queue = voice.queue
    if queue is None:
        return say_needed(voice, mark("What waits"), mark("The next tickets"))
    frame = queue.tickets.head(SHOWN_TICKETS)
    if frame.empty:
        return say_missing(voice, mark("The next tickets"), say("no ticket is open"))
    shown = pd.DataFrame({"ticket": frame["ticket_id"].astype(str)})
    shown["category"] = [name_category(str(c)) for c in frame["category"]]
    shown["kind"] = [say("complaint") if c else say("question") for c in frame["is_complaint"]]
    shown["opened"] = frame["opened_at"].dt.strftime("%Y-%m-%d %H:%M")
    shown["due"] = frame["due_at"].dt.strftime("%Y-%m-%d %H:%M")
    shown["late"] = [say("late") if late else "" for late in frame["overdue"]]
    labels = {
        "ticket": say("Ticket"), "category": say("About"), "kind": say("Is a"), "opened": say("Opened"),
        "due": say("Due"), "late": "",
    }  # fmt: skip
    more = queue.open_count - len(frame)
    note = say("{count:,} more wait.", count=more) if more > 0 else ""
    return make_table(
        shown, labels, name="queue-tickets", unbroken=("opened", "due"), note=note, total=len(queue.tickets)
    )


def show_plan(voice: VoiceInvestigation) -> TableView | ListView:
    """The crisis plan: steps, owners, when they are due, what they cost, and the words to use."""
    plan = voice.plan
    if plan is None:
        return say_missing(voice, mark("The crisis plan"), say("there is no incident with complaints"))
    if plan.steps.empty:
        return say_missing(voice, mark("The crisis plan"), say("the playbook has no [[crisis.steps]]"))
    rows = []
    for row in plan.steps.to_dict("records"):
        name, owner = row["name"], row["owner"]
        due = say("not started") if pd.isna(row["due_at"]) else f"{pd.Timestamp(row['due_at']):%Y-%m-%d %H:%M}"
        rows.append(
            {
                "name": say(name),
                "owner": say(owner) or MISSING,
                "within": say("{hours:g} h", hours=row["within_hours"]),
                "due": due,
                "cost": format_number(row["cost_amount"], "amount", currency=voice.currency)
                if row["cost_amount"]
                else MISSING,
                "text": row["text"] or MISSING,
            }
        )
    labels = {
        "name": say("Step"),
        "owner": say("Owner"),
        "within": say("Within"),
        "due": say("Due"),
        "cost": say("Cost"),
        "text": say("Ready to use"),
    }
    note = join_sentences(_explain_plan(plan, voice.currency))
    return make_table(pd.DataFrame(rows), labels, name="crisis-plan", numeric=("cost",), unbroken=("due",), note=note)


def _explain_plan(plan: CrisisPlan, currency: str) -> list[str]:
    """Whom the plan is for, what it costs, and from when its hours count."""
    cost = format_number(plan.cost_amount, "amount", currency=currency)
    text = mark("For {users:,} users who complained of it; together {cost}.")
    for_whom = say(text, users=plan.users_count, cost=cost)
    if plan.fired_at is None:
        return [for_whom, say("The rule has not fired: this is a draft, and nothing is due.")]
    text = mark("Hours count from {day}, {time:%H:%M}, when the rule had fired.")
    return [for_whom, say(text, day=format_day(plan.fired_at.date()), time=plan.fired_at)]


def show_market(voice: VoiceInvestigation) -> TableView | ListView:
    """Each marked event: how the exposed moved against those who were not, in the four weeks after."""
    market = voice.market
    if not market.events:
        reason = say("the playbook marks no [[market_events]] in these data, such as a rival's launch")
        return say_missing(voice, mark("The market"), reason)
    frame = market.effects
    if frame.empty:
        return say_missing(voice, mark("The market"), say("who was active when is not known"))
    names = zip(frame["event"], frame["date"], strict=True)
    shown = pd.DataFrame({"event": [say("{event}, {day}", event=name, day=format_day(day)) for name, day in names]})
    shown["segment"] = [_name_exposed(s) for s in frame["segment"]]
    shown["metric"] = [label_metric(str(m)) for m in frame["metric"]]
    shown["effect"] = [_format_effect(row) for row in frame.to_dict("records")]
    shown["verdict"] = [_judge(row) for row in frame.to_dict("records")]
    labels = {
        "event": say("Event"), "segment": say("Exposed"), "metric": say("Metric"),
        "effect": say("Change against the others [95%]"), "verdict": say("Verdict"),
    }  # fmt: skip
    notes = [say("Verdicts allow for how many comparisons there are of each event.")]
    if (frame["segment"] == "").any():
        notes.append(say("Everybody exposed: the change is against the weeks before, and tells no cause."))
    return make_table(shown, labels, name="market", numeric=("effect",), note=join_sentences(notes))


def _name_exposed(segment: str) -> str:
    column, _, value = segment.partition(":")
    return name_group(column, value.replace(":", " ")) if segment else say("everybody")


def _format_effect(row: dict[Any, Any]) -> str:
    if row["effect"] is None or pd.isna(row["effect"]):
        return MISSING
    if row["metric"].endswith("_rate"):
        points = format_range(row["effect"], row["low"], row["high"], form="+.1f", scale=100)
        return say_points(points, row["metric"])
    base = row["expected"] or float("nan")
    ends = (row[k] / base for k in ("effect", "low", "high"))
    return format_range(*ends, form="+.0f", scale=100) + " %"


def _judge(row: dict[Any, Any]) -> str:
    if row["effect"] is None or pd.isna(row["effect"]):
        return row["note"] or say("not enough data")
    if row["method"] != CONTROLLED:
        return say("moved, cause not told") if row["clear"] else say("within chance")
    if not row["sound"]:
        return say("not to be relied on: the groups moved apart before")
    return _say_clear(row["clear"])


def show_fast_response(voice: VoiceInvestigation) -> ListView:
    """What to do after a rival's launch."""
    return ListView([say(text) for text in FAST_RESPONSE])
