"""The tables of the churn investigation: months, groups, moments, reasons, customers, and winning back."""

from __future__ import annotations

import pandas as pd

from opslib.decide.churn.investigation import ChurnInvestigation
from opslib.explain.causes_cases import STRATA
from opslib.language import get_language, join_sentences, mark, say
from opslib.present.churn.words import name_reason
from opslib.present.churn.worth_charts import name_tier
from opslib.present.display import ListView, TableView
from opslib.present.parts import format_probability, format_range, format_shares, say_missing, say_needed
from opslib.present.tables import make_table
from opslib.present.words import MISSING, format_estimate, format_number, name_column

SHOWN_MONTHS = 8
SHOWN_REASONS = 8
SHOWN_GROUPS = 10
STATUS = {
    "named": mark("named"),
    "goes with another": mark("goes with another"),
    "explained by others": mark("not, beside the others"),
    "not clear": mark("not clear"),
    "goes with staying": mark("goes with staying"),
    "too few": mark("too few"),
}
STAYED = {"day": mark("Half have left after, days [95%]"), "month": mark("Half have left after, months [95%]")}
# `STRATA` of opslib.explain.causes_cases in words.
ALIKE = mark("month, tenure, late tier, early tier")
SPLITS = {"mean": mark("mean"), "median": mark("median"), "given": mark("given")}
EVIDENCE = {"natural_experiment": mark("natural experiment"), "association": mark("association")}


def show_churn(churn: ChurnInvestigation) -> TableView | ListView:
    """Churn of the last months: of those there at the start, and per person-time."""
    result = churn.leaving.churn
    if result is None:
        return say_missing(
            churn, mark("Is churn rising"), churn.leaving.note or say("the data hold no days on which users left")
        )
    frame = result.periods[result.periods["mature"]].tail(SHOWN_MONTHS)
    shown = pd.DataFrame({"month": frame["period_start"].dt.strftime("%Y-%m")})
    for column in ("opening_count", "new_count", "returned_count", "left_count", "closing_count"):
        shown[column] = [MISSING if pd.isna(n) else f"{n:,.0f}" for n in frame[column]]
    for name in ("churn", "time_churn"):
        ends = frame[[f"{name}_rate", f"{name}_low", f"{name}_high"]].astype(float).itertuples(index=False)
        shown[name] = [format_range(*row, form=".1%") for row in ends]
    labels = {
        "month": say("Month"), "opening_count": say("There at its start"), "new_count": say("New"),
        "returned_count": say("Came back"), "left_count": say("Left"), "closing_count": say("There at its end"),
        "churn": say("Churn [95%]"), "time_churn": say("Per person-month [95%]"),
    }  # fmt: skip
    note = say(
        "Churn: of those there at the start. Per person-month: also counts those who came and left within the month."
    )
    return make_table(
        shown,
        labels,
        name="churn-months",
        numeric=tuple(labels)[1:],
        unbroken=tuple(labels)[:1],
        note=note,
        total=int(result.periods["mature"].sum()),
    )


def show_groups(churn: ChurnInvestigation) -> TableView | ListView:
    """How long each group of users stays, and whether its churn rises."""
    leaving = churn.leaving
    result = leaving.survival_by_segment
    if result is None or not leaving.column:
        return say_missing(churn, mark("Who leaves"), say("it needs users with attributes such as channel or platform"))
    frame = result.summary.sort_values(["users_count", "segment"], ascending=[False, True]).head(SHOWN_GROUPS)
    shown = pd.DataFrame({"segment": frame["segment"].astype(str)})
    shown["users"] = [f"{n:,.0f}" for n in frame["users_count"]]
    ends = frame[["median_tenure", "median_low", "median_high"]].itertuples(index=False)
    shown["median"] = [format_range(*row, form=".0f") if not pd.isna(row[0]) else _say_not_yet() for row in ends]
    expected = result.comparison.set_index("segment")["expected_count"]
    left = result.comparison.set_index("segment")["left_count"]
    ratio = [left.get(s, 0) / expected[s] if expected.get(s) else float("nan") for s in frame["segment"]]
    shown["ratio"] = [MISSING if pd.isna(x) else f"{x:.2f}" for x in ratio]
    labels = {
        "segment": name_column(leaving.column).capitalize(), "users": say("Users"), "median": say(STAYED[result.unit]),
        "ratio": say("Left, to expected"),
    }  # fmt: skip
    rises = None if leaving.by_segment is None else leaving.by_segment.rises.set_index("segment")
    if rises is not None and len(rises):
        shown["rise"] = [_say_rise(rises.loc[s]) if s in rises.index else MISSING for s in frame["segment"]]
        labels["rise"] = say("Rising three months")
    note = say("Left, to expected: leavers against those had all groups left alike.")
    if result.p_value is not None and result.p_value < 0.05:
        differ = say("They differ beyond chance: {p} (log-rank).", p=format_probability(result.p_value))
        note = join_sentences([note, differ])
    return make_table(
        shown, labels, name="churn-groups", numeric=("users", "median", "ratio"), note=note, total=len(result.summary)
    )


def _say_not_yet() -> str:
    # Two words are enough in English only.
    return "not yet" if get_language() == "en" else say("Fewer than half have left so far")


def _say_rise(row: pd.Series) -> str:
    if row["rising"] is None or pd.isna(row["rising"]):
        return MISSING
    if not row["rising"]:
        return say("no")
    clear, unclear = mark("yes, {first:.0%} to {last:.0%}"), mark("yes, {first:.0%} to {last:.0%}, within chance")
    template = clear if pd.notna(row["q_value"]) and row["q_value"] < 0.05 else unclear
    return say(template, first=row["first_rate"], last=row["last_rate"])


def show_moments(churn: ChurnInvestigation) -> TableView | ListView:
    """The moments asked for, and others at which more leave than around."""
    leaving, rows = churn.leaving, []
    for result, since in ((leaving.survival, say("first active day")), (leaving.since_payment, say("a payment"))):
        if result is None:
            continue
        peaks = result.peaks
        for node in result.nodes.itertuples():
            peaks = peaks[(peaks["tenure_first"] > node.tenure_last) | (peaks["tenure_last"] < node.tenure_first)]
        for kind, frame in ((say("asked for"), result.nodes), (say("found"), peaks.head(3))):
            for row in frame.to_dict("records"):
                ends = (row["hazard_ratio"], row["ratio_low"], row["ratio_high"])
                rows.append(
                    {
                        "since": since,
                        "days": say("{first:.0f} to {last:.0f}", first=row["tenure_first"], last=row["tenure_last"]),
                        "kind": kind,
                        "left": f"{row['left_count']:,.0f}",
                        "rate": MISSING if pd.isna(row["hazard_rate"]) else f"{row['hazard_rate']:.2%}",
                        "ratio": format_range(*ends, form=".2f"),
                        "noise": format_probability(row["q_value"]),
                    }
                )
    if not rows:
        return say_missing(churn, mark("When do they leave"), leaving.note or say("no day of tenure could be compared"))
    labels = {
        "since": say("Since"), "days": say("Days"), "kind": say("Was"), "left": say("Left"),
        "rate": say("A day, of those there"), "ratio": say("To the days around [95%]"),
        "noise": say("False alarm rate"),
    }  # fmt: skip
    return make_table(pd.DataFrame(rows), labels, name="churn-moments", numeric=("left", "rate", "ratio", "noise"))


def show_reasons(churn: ChurnInvestigation) -> TableView | ListView:
    """Each reason among leavers and stayers, and what it may account for."""
    if churn.reasons is None:
        return say_needed(churn, mark("Why do they leave"), mark("Reasons"))
    frame = churn.reasons.causes.reasons.head(SHOWN_REASONS)
    if frame.empty:
        return say_missing(churn, mark("Why do they leave"), say("no reason could be compared"))
    shown = pd.DataFrame({"reason": [name_reason(str(r)) for r in frame["reason"]]})
    for side in ("leavers", "stayers"):
        pairs = zip(frame[f"{side}_rate"], frame[f"{side}_count"], strict=True)
        shown[side] = [MISSING if pd.isna(rate) else format_shares([rate], [count])[0] for rate, count in pairs]
    for name, form in (("risk_ratio", ".2f"), ("attributable", ".0%")):
        columns = [name if name == "risk_ratio" else f"{name}_rate", f"{name}_low", f"{name}_high"]
        shown[name] = [format_range(*row, form=form) for row in frame[columns].astype(float).itertuples(index=False)]
    shown["noise"] = [format_probability(x) for x in frame["q_value"]]
    shown["status"] = frame["status"].map({name: say(text) for name, text in STATUS.items()}).to_numpy()
    shown["evidence"] = frame["evidence"].map({name: say(text) for name, text in EVIDENCE.items()}).to_numpy()
    labels = {
        "reason": say("Behind them"), "leavers": say("Leavers"), "stayers": say("Stayers"),
        "risk_ratio": say("Times as likely [95%]"), "attributable": say("Share of leaving [95%]"),
        "noise": say("False alarm rate"), "status": say("Verdict"), "evidence": say("Evidence"),
    }  # fmt: skip
    strata = churn.reasons.causes.strata
    alike = say(ALIKE) if strata == STRATA else ", ".join(s.replace("_", " ") for s in strata)
    note = say(
        "Times as likely and share of leaving: among users alike in {strata}. Named: clear alone and beside others. "
        "How often somebody came lately is no reason: to come less is how leaving begins.",
        strata=alike,
    )
    return make_table(
        shown, labels, name="churn-reasons", note=note, total=len(churn.reasons.causes.reasons),
        numeric=("leavers", "stayers", "risk_ratio", "attributable", "noise"),
    )  # fmt: skip


def show_tiers(churn: ChurnInvestigation) -> TableView | ListView:
    """The handbook's three tiers of customers: how many, what they brought, what is to come."""
    worth = churn.worth
    if worth is None or not worth.rfm.customers_count:
        return say_needed(churn, mark("Who is worth it"), mark("Tiers"))
    frame = worth.rfm.tiers
    shown = _show_customers(frame, "tier", churn)
    value = worth.value.segments.set_index("segment")
    if worth.value.model.known:
        ends = value.loc[
            frame["tier"], ["value_per_customer_amount", "value_per_customer_low", "value_per_customer_high"]
        ]
        shown["value"] = [format_range(*row, form=",.0f") for row in ends.astype(float).itertuples(index=False)]
    labels = _label_customers(say("Tier"), churn)
    if "value" in shown:
        labels["value"] = say(
            "A customer in {days} days, {currency} [95%]", days=worth.value.horizon_days, currency=churn.currency
        )
    top = worth.concentration.top_share
    note = say("Every customer is in one tier: dormant has not bought lately; else high value or potential by money.")
    if top.known:
        best = say(
            "The best {customers:.0%} of customers hold {share} of the money.",
            customers=worth.concentration.top_rate,
            share=format_estimate(top),
        )
        note = join_sentences([note, best])
    return make_table(shown, labels, name="churn-tiers", numeric=tuple(labels)[1:], note=note)


def show_cells(churn: ChurnInvestigation) -> TableView | ListView:
    """The eight cells of recency, frequency and money."""
    worth = churn.worth
    if worth is None or worth.rfm.thresholds is None:
        return say_needed(churn, mark("Who is worth it"), mark("Eight cells"))
    frame = worth.rfm.cells
    shown = _show_customers(frame, "cell", churn)
    for column in ("recent", "frequent", "valuable"):
        shown[column] = [say("high") if x else say("low") for x in frame[column]]
    labels = {"name": say("Cell"), "recent": "R", "frequent": "F", "valuable": "M"}
    labels |= _label_customers(say("Cell"), churn)
    limits = worth.rfm.thresholds
    note = say(
        "High: bought less than {days:,.0f} days ago, more than {times:,.1f} times, for more than {money}: better than "
        "the {split}.",
        days=limits.recency_days,
        times=limits.frequency_count,
        money=format_number(limits.monetary_amount, "amount", currency=churn.currency),
        split=say(SPLITS[worth.rfm.split]),
    )
    return make_table(shown, labels, name="churn-cells", numeric=tuple(labels)[4:], note=note)


def _show_customers(frame: pd.DataFrame, column: str, churn: ChurnInvestigation) -> pd.DataFrame:
    shown = pd.DataFrame({"name": [name_tier(str(n)) for n in frame[column]]})
    pairs = zip(frame["customers_count"], frame["customers_rate"], strict=True)
    shown["customers"] = [say("{count:,.0f} ({share})", count=n, share=format_number(r, "rate")) for n, r in pairs]
    ends = frame[["revenue_rate", "revenue_low", "revenue_high"]].astype(float).itertuples(index=False)
    shown["revenue"] = [format_range(*row, form=".1%") for row in ends]
    for name, form in (("recency_days", ",.0f"), ("frequency_count", ",.1f"), ("monetary_amount", ",.0f")):
        shown[name] = [MISSING if pd.isna(x) else f"{x:{form}}" for x in frame[name].astype(float)]
    return shown


def _label_customers(first: str, churn: ChurnInvestigation) -> dict[str, str]:
    return {
        "name": first, "customers": say("Customers (share)"), "revenue": say("Of the money [95%]"),
        "recency_days": say("Days since the last order"), "frequency_count": say("Orders"),
        "monetary_amount": say("Brought, {currency}", currency=churn.currency),
    }  # fmt: skip


def show_plan(churn: ChurnInvestigation) -> TableView | ListView:
    """Whom to write to: each segment's offer, who is reachable, left alone, and what it costs."""
    plan = None if churn.recall is None else churn.recall.plan
    if plan is None:
        return say_needed(churn, mark("Whom to win back"), mark("The list"))
    frame = plan.segments[plan.segments["users_count"] > 0]
    if frame.empty:
        return ListView([say("Nobody who bought has gone silent: there is nobody to win back.")])
    shown = pd.DataFrame({"segment": [name_tier(str(n)) for n in frame["segment"]], "offer": frame["offer"]})
    for column in ("users_count", "unreachable_count", "capped_count", "over_budget_count"):
        shown[column] = [f"{n:,}" for n in frame[column]]
    for column in ("holdout_count", "treated_count"):
        shown[column] = [f"{n:,}" for n in frame[column]]
    shown["cost"] = [f"{x:,.0f}" for x in frame["cost_amount"]]
    labels = {
        "segment": say("Customers"), "offer": say("Offer"), "users_count": say("Silent"),
        "unreachable_count": say("Out of reach"), "capped_count": say("Written to too often"),
        "over_budget_count": say("Over budget"), "holdout_count": say("Left alone by lot"),
        "treated_count": say("Written to"), "cost": say("Cost, {currency}", currency=churn.currency),
    }  # fmt: skip
    days = 0 if churn.recall is None else churn.recall.silent_days
    note = say(
        "Customers without activity for {days} days or more; the most valuable first, as far as the budget reaches.",
        days=days,
    )
    return make_table(shown, labels, name="churn-plan", numeric=tuple(labels)[2:], note=note)


def show_reach(churn: ChurnInvestigation) -> TableView | ListView:
    """Through which channel they can be reached, and who has answered there before."""
    plan = None if churn.recall is None else churn.recall.plan
    if plan is None or plan.reach.empty:
        return say_missing(churn, mark("Whom to win back"), say("it needs messages, to know who can be reached"))
    shown = pd.DataFrame({"channel": plan.reach["channel"].astype(str)})
    shown["cost"] = [f"{x:,.3f}" for x in plan.reach["message_amount"].astype(float)]
    for column in ("reachable_count", "answered_count", "chosen_count"):
        shown[column] = [f"{n:,}" for n in plan.reach[column]]
    labels = {
        "channel": say("Channel"), "cost": say("A message, {currency}", currency=churn.currency),
        "reachable_count": say("Reachable"), "answered_count": say("Opened or clicked before"),
        "chosen_count": say("Chosen for"),
    }  # fmt: skip
    note = say("A user may be reachable by several; chosen is the one with the best answer before, then the cheapest.")
    return make_table(shown, labels, name="churn-reach", numeric=tuple(labels)[1:], note=note)


def show_recall(churn: ChurnInvestigation) -> TableView | ListView:
    """What the last campaign with a holdout brought, in numbers."""
    measured = None if churn.recall is None else churn.recall.measured
    if measured is None:
        return say_needed(churn, mark("Did it bring them back"), mark("The last campaign"))
    names = {
        "treated_return_rate": (say("Came back, written to"), "rate"),
        "holdout_return_rate": (say("Came back, left alone"), "rate"),
        "lift_rate": (say("Difference, points"), "points"),
        "relative_lift_rate": (say("Difference, of those left alone"), "rate"),
        "incremental_users_count": (say("Users brought back by it"), "count"),
        "revenue_difference_amount": (say("Revenue a user, {currency}", currency=churn.currency), "amount"),
        "cost_per_incremental_amount": (say("Cost for each of them, {currency}", currency=churn.currency), "amount"),
        "delivered_rate": (say("Delivered"), "rate"),
    }
    forms = {"rate": (".1%", 1), "points": ("+.1f", 100), "count": (",.0f", 1), "amount": (",.2f", 1)}
    rows = []
    for name, (label, kind) in names.items():
        estimate = measured.totals.get(name)
        if estimate is None:
            continue
        form, scale = forms[kind]
        value = format_range(estimate.value, estimate.low, estimate.high, form=form, scale=scale)
        counts = (
            say("{part:,.0f} of {whole:,.0f}", part=estimate.numerator, whole=estimate.denominator)
            if kind == "rate" and "lift" not in name
            else MISSING
        )
        said = value if estimate.known else estimate.note or MISSING
        rows.append({"what": label, "value": said, "counts": counts})
    labels = {
        "what": measured.experiment.replace("_", " ").capitalize(),
        "value": say("Value [95%]"),
        "counts": say("Users"),
    }
    note = say(
        "Back: bought within {days} days of the draw. All who were drawn count, also where nothing arrived.",
        days=measured.days,
    )
    return make_table(pd.DataFrame(rows), labels, name="churn-recall", numeric=("value", "counts"), note=note)
