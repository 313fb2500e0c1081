"""The tables of voice and crisis: what users say, the incident, what waits, the plan, and the market."""

from __future__ import annotations

from typing import Any

import pandas as pd

from opslib.decide.crisis.investigation import VoiceInvestigation
from opslib.decide.crisis.market import CONTROLLED
from opslib.measure.estimate import Change, Estimate
from opslib.present.crisis.actions import FAST_RESPONSE
from opslib.present.crisis.words import LOSSES, format_day, format_nps, format_share, name_category
from opslib.present.display import ListView, TableView
from opslib.present.parts import format_probability, format_range, say_missing, say_needed
from opslib.present.tables import make_table
from opslib.present.words import MISSING, format_number, label_metric

SHOWN_SEGMENTS = 6
SHOWN_TICKETS = 10
RESPONSE_LABELS = {
    "satisfaction_response_rate": "Active users who answered on satisfaction",
    "nps_response_rate": "Active users who answered on recommending",
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
        return say_needed(voice, "Who complains", "What users say")
    rows = []
    for estimate in estimates:
        change = hearing.changes.get(estimate.name)
        rows.append(
            {
                "metric": RESPONSE_LABELS.get(estimate.name) or label_metric(estimate.name),
                "now": _format(estimate),
                "of": f"{estimate.denominator:,.0f}" if estimate.denominator > 1 else MISSING,
                "before": MISSING if change is None else _format(change.before),
                "change": MISSING if change is None else _format_change(change),
            }
        )
    labels = {
        "metric": "Metric", "now": "Now [95%]", "of": "Of user-days, answers or users",
        "before": "Before [95%]", "change": "Change",
    }  # fmt: skip
    return make_table(pd.DataFrame(rows), labels, name="voice", numeric=("now", "of", "before", "change"))


def _format(estimate: Estimate) -> str:
    if not estimate.known:
        return "too few"
    if estimate.name == "nps_ratio":
        return format_nps(estimate)
    if estimate.unit == "rate":
        return format_share(estimate, 2 if estimate.name == "complaint_rate" else 1)
    return f"{estimate.value:,.0f} [{estimate.low:,.0f} to {estimate.high:,.0f}]"


def _format_change(change: Change) -> str:
    if change.difference is None:
        return MISSING
    if change.now.unit == "count":
        text = f"{change.relative:+.0%}" if change.relative is not None else f"{change.difference:+,.0f}"
    else:
        digits = {"complaint_rate": 2, "nps_ratio": 0}.get(change.now.name, 1)
        text = f"{100 * change.difference:+.{digits}f} points"
    return text if change.clear else f"{text}, within chance"


def show_categories(voice: VoiceInvestigation) -> TableView | ListView:
    """Tickets by category: how many, how many of active users complain, how long they wait."""
    hearing = voice.voice
    if hearing.complaints is None or hearing.tickets is None:
        return say_needed(voice, "Who complains", "Tickets by category")
    frame = hearing.complaints.categories
    if frame.empty:
        return say_missing(voice, "Who complains", "no ticket was opened in these days")
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
        "category": "About", "tickets": "Tickets", "complaints": "Complaints",
        "rate": "Of 1,000 active users a day [95%]", "median": "Half solved after, hours [95%]",
        "p90": "Nine in ten after, hours [95%]", "open": "Open",
    }  # fmt: skip
    return make_table(shown, labels, name="voice-categories", numeric=tuple(labels)[1:])


def _format_hours(value: float, low: float, high: float) -> str:
    if pd.isna(value):
        return "not yet"
    return f"{value:.0f} [{low:.0f} to {'–' if pd.isna(high) else f'{high:.0f}'}]"


def show_segments(voice: VoiceInvestigation) -> TableView | ListView:
    """Groups of users who complain more, or less, than everybody else."""
    frame = voice.voice.segments.head(SHOWN_SEGMENTS)
    if frame.empty:
        if voice.voice.complaints is None:
            return say_needed(voice, "Who complains", "Groups of users")
        return say_missing(voice, "Who complains more than the rest", "no groups of users can be told apart")
    shown = pd.DataFrame(
        {"segment": [f"{_name(c)}: {s}" for c, s in zip(frame["column"], frame["segment"], strict=True)]}
    )
    shown["rate"] = [MISSING if pd.isna(r) else f"{r:.2%} of {n:,.0f}" for r, n in
                     zip(frame["complaint_rate"], frame["active_count"], strict=True)]  # fmt: skip
    shown["others"] = [f"{r:.2%}" for r in frame["others_rate"]]
    ends = frame[["times_ratio", "times_low", "times_high"]].astype(float).itertuples(index=False)
    shown["times"] = [format_range(*row, form=".2f") for row in ends]
    shown["noise"] = [format_probability(q) for q in frame["q_value"]]
    labels = {
        "segment": "Users", "rate": "Complain on a day, of user-days", "others": "Everybody else",
        "times": "Times as often [95%]", "noise": "False alarm rate",
    }  # fmt: skip
    clear = int((voice.voice.segments["q_value"] < 0.05).sum())
    compared = len(voice.voice.segments)
    note = f"{clear or 'None'} of {compared} groups {'differs' if clear == 1 else 'differ'} beyond chance."
    note += " Days with more complaints than expected are left out."
    return make_table(
        shown, labels, name="voice-segments", numeric=tuple(labels)[1:], note=note, total=len(voice.voice.segments)
    )


def _name(column: str) -> str:
    return column.replace("_", " ").capitalize()


def show_incident(voice: VoiceInvestigation) -> TableView | ListView:
    """What the incident is about: complaints by category against the days before."""
    incident = voice.incident
    if incident is None:
        return say_missing(voice, "The incident", "no day has more complaints than expected")
    frame = incident.categories
    if frame.empty:
        return say_missing(voice, "The incident", "nobody complained in its days")
    shown = pd.DataFrame({"category": [name_category(str(c)) for c in frame["category"]]})
    shown["complaints"] = [f"{n:,.0f}" for n in frame["complaints_count"]]
    for name in ("complaint_rate", "before_rate"):
        shown[name] = [MISSING if pd.isna(r) else f"{r:.2%}" for r in frame[name]]
    ends = frame[["times_ratio", "times_low", "times_high"]].astype(float).itertuples(index=False)
    shown["times"] = [format_range(*row, form=".1f") for row in ends]
    shown["excess"] = [f"{round(n) + 0:+,}" for n in frame["excess_count"]]
    labels = {
        "category": "About", "complaints": "Complaints", "complaint_rate": "Of active users a day",
        "before_rate": "Usual", "times": "Times as often [95%]", "excess": "Beyond the usual",
    }  # fmt: skip
    note = ""
    if incident.who is not None:
        named = [str(s) for s in incident.who.causes["segment"]] if incident.who.localised else []
        note = f"Hit more than others: {'; '.join(named)}." if named else "No group of users was hit more than others."
    return make_table(shown, labels, name="incident", numeric=tuple(labels)[1:], note=note)


def show_losses(voice: VoiceInvestigation) -> TableView | ListView:
    """What the incident cost: users, orders and revenue against what was expected, satisfaction against before."""
    if voice.incident is None or voice.timeline is None:
        return say_missing(voice, "What it cost", "there is no incident")
    rows = []
    for row in voice.timeline.losses.to_dict("records"):
        unit = LOSSES[str(row["metric"])][1]
        actual, expected = (format_number(row[k], unit) for k in ("actual", "expected"))
        low, high = (format_number(row[k], unit) for k in ("low", "high"))
        rows.append(
            {
                "metric": "User-days" if row["metric"] == "dau_count" else label_metric(str(row["metric"])),
                "actual": actual,
                "expected": expected,
                "difference": f"{format_number(row['difference'], unit)} [{low} to {high}]",
                "verdict": "beyond chance" if row["clear"] else "within chance",
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
                    "difference": format_range(change.difference, change.low, change.high, form="+.1f", scale=100)
                    + " points",
                    "verdict": "beyond chance" if change.clear else "within chance",
                    "before": MISSING,
                }
            )
    if not rows:
        return say_missing(
            voice, "What it cost", "; ".join(voice.timeline.missing.values()) or "too few days are known"
        )
    labels = {
        "metric": "Metric", "actual": "Was", "expected": "Expected", "difference": "Difference [95%]",
        "verdict": "Verdict", "before": "Off already the week before",
    }  # fmt: skip
    note = "Where the week before lay off its course already, the expected starts from there."
    return make_table(pd.DataFrame(rows), labels, name="incident-losses", numeric=tuple(labels)[1:4], note=note)


def show_queue(voice: VoiceInvestigation) -> TableView | ListView:
    """The severity queue: open tickets by category, in order, with their clocks."""
    queue = voice.queue
    if queue is None:
        return say_needed(voice, "What waits", "The queue")
    frame = queue.categories
    if frame.empty:
        return say_missing(voice, "What waits", "no ticket is open")
    shown = pd.DataFrame({"rank": frame["rank"], "category": [name_category(str(c)) for c in frame["category"]]})
    shown["clock"] = [f"{h:g} h" for h in frame["solve_hours"]]
    for column in ("open_count", "overdue_count", "due_soon_count"):
        shown[column] = [f"{n:,.0f}" for n in frame[column]]
    shown["oldest"] = [MISSING if pd.isna(h) else f"{h:.0f} h" for h in frame["oldest_hours"]]
    labels = {
        "rank": "", "category": "About", "clock": "To be solved in", "open_count": "Open", "overdue_count": "Late",
        "due_soon_count": "Due in 24 hours", "oldest": "Oldest waits",
    }  # fmt: skip
    if voice.incident is not None:
        late = zip(frame["incident_late_count"], frame["incident_count"], strict=True)
        shown["incident"] = [f"{a:,.0f} of {b:,.0f}" for a, b in late]
        labels["incident"] = "Late in the incident"
    note = f"As of {format_day(queue.now_at.date())}, {queue.now_at:%H:%M}. The most severe come first."
    return make_table(shown, labels, name="queue", numeric=tuple(labels)[2:], note=note)


def show_tickets(voice: VoiceInvestigation) -> TableView | ListView:
    """The next tickets to answer."""
    queue = voice.queue
    if queue is None:
        return say_needed(voice, "What waits", "The next tickets")
    frame = queue.tickets.head(SHOWN_TICKETS)
    if frame.empty:
        return say_missing(voice, "The next tickets", "no ticket is open")
    shown = pd.DataFrame({"ticket": frame["ticket_id"].astype(str)})
    shown["category"] = [name_category(str(c)) for c in frame["category"]]
    shown["kind"] = ["complaint" if c else "question" for c in frame["is_complaint"]]
    shown["opened"] = frame["opened_at"].dt.strftime("%Y-%m-%d %H:%M")
    shown["due"] = frame["due_at"].dt.strftime("%Y-%m-%d %H:%M")
    shown["late"] = ["late" if late else "" for late in frame["overdue"]]
    labels = {"ticket": "Ticket", "category": "About", "kind": "Is a", "opened": "Opened", "due": "Due", "late": ""}
    more = queue.open_count - len(frame)
    note = f"{more:,} more wait." if more > 0 else ""
    return make_table(
        shown, labels, name="queue-tickets", unbroken=("opened", "due"), note=note, total=len(queue.tickets)
    )


def show_plan(voice: VoiceInvestigation) -> TableView | ListView:
    """The crisis plan: steps, owners, when they are due, what they cost, and the words to use."""
    plan = voice.plan
    if plan is None:
        reason = "there is no incident with complaints"
        return say_missing(voice, "The crisis plan", reason)
    if plan.steps.empty:
        return say_missing(voice, "The crisis plan", "the playbook has no [[crisis.steps]]")
    rows = []
    for row in plan.steps.to_dict("records"):
        due = "not started" if pd.isna(row["due_at"]) else f"{pd.Timestamp(row['due_at']):%Y-%m-%d %H:%M}"
        rows.append(
            {
                "name": row["name"],
                "owner": row["owner"] or MISSING,
                "within": f"{row['within_hours']:g} h",
                "due": due,
                "cost": format_number(row["cost_amount"], "amount", currency=voice.currency)
                if row["cost_amount"]
                else MISSING,
                "text": row["text"] or MISSING,
            }
        )
    labels = {
        "name": "Step",
        "owner": "Owner",
        "within": "Within",
        "due": "Due",
        "cost": "Cost",
        "text": "Ready to use",
    }
    note = f"For {plan.users_count:,} users who complained of it; together "
    note += f"{format_number(plan.cost_amount, 'amount', currency=voice.currency)}."
    if plan.fired_at is None:
        note += " The rule has not fired: this is a draft, and nothing is due."
    else:
        note += f" Hours count from {format_day(plan.fired_at.date())}, {plan.fired_at:%H:%M}, when the rule had fired."
    return make_table(pd.DataFrame(rows), labels, name="crisis-plan", numeric=("cost",), unbroken=("due",), note=note)


def show_market(voice: VoiceInvestigation) -> TableView | ListView:
    """Each marked event: how the exposed moved against those who were not, in the four weeks after."""
    market = voice.market
    if not market.events:
        reason = "the playbook marks no [[market_events]] in these data, such as a rival's launch"
        return say_missing(voice, "The market", reason)
    frame = market.effects
    if frame.empty:
        return say_missing(voice, "The market", "who was active when is not known")
    shown = pd.DataFrame({"event": [f"{r['event']}, {format_day(r['date'])}" for r in frame.to_dict("records")]})
    shown["segment"] = [s.replace(":", " ") or "everybody" for s in frame["segment"]]
    shown["metric"] = [label_metric(str(m)) for m in frame["metric"]]
    shown["effect"] = [_format_effect(row) for row in frame.to_dict("records")]
    shown["verdict"] = [_judge(row) for row in frame.to_dict("records")]
    labels = {
        "event": "Event", "segment": "Exposed", "metric": "Metric", "effect": "Change against the others [95%]",
        "verdict": "Verdict",
    }  # fmt: skip
    note = "Verdicts allow for how many comparisons there are of each event."
    if (frame["segment"] == "").any():
        note += " Everybody exposed: the change is against the weeks before, and tells no cause."
    return make_table(shown, labels, name="market", numeric=("effect",), note=note)


def _format_effect(row: dict[Any, Any]) -> str:
    if row["effect"] is None or pd.isna(row["effect"]):
        return MISSING
    if row["metric"].endswith("_rate"):
        return format_range(row["effect"], row["low"], row["high"], form="+.1f", scale=100) + " points"
    base = row["expected"] or float("nan")
    ends = (row[k] / base for k in ("effect", "low", "high"))
    return format_range(*ends, form="+.0f", scale=100) + " %"


def _judge(row: dict[Any, Any]) -> str:
    if row["effect"] is None or pd.isna(row["effect"]):
        return row["note"] or "not enough data"
    if row["method"] != CONTROLLED:
        return "moved, cause not told" if row["clear"] else "within chance"
    if not row["sound"]:
        return "not to be relied on: the groups moved apart before"
    return "beyond chance" if row["clear"] else "within chance"


def show_fast_response(voice: VoiceInvestigation) -> ListView:
    """What to do after a rival's launch."""
    return ListView(list(FAST_RESPONSE))
