"""The sentences of the churn investigation."""

from __future__ import annotations

import pandas as pd

from opslib.decide.churn.investigation import ChurnInvestigation
from opslib.decide.churn.leaving import list_moments
from opslib.measure.estimate import Estimate
from opslib.present.words import (
    describe,
    describe_scope,
    format_estimate,
    format_number,
    format_points,
    list_limits,
    name_users,
    write_sentence,
)

EVIDENCE = {
    "natural_experiment": "a natural experiment says it is a cause",
    "association": "an association, not an effect",
}
VERDICTS = {
    "gain": "it brought users back",
    "loss": "it drove users away",
    "unclear": "whether it brought anybody back is not clear",
    "not_enough_data": "too few users have had their whole window to say",
    "not_tested": "the split was not as planned, so nothing can be concluded",
}


@describe.register
def _describe_churn(churn: ChurnInvestigation) -> list[str]:
    parts = [_say_churn(churn), say_moments(churn), say_reason(churn), _say_worth(churn), say_recall(churn)]
    return [s for s in parts if s]


@describe_scope.register
def _describe_scope(churn: ChurnInvestigation) -> str:
    scope, definition = churn.scope, churn.leaving.definition
    text = f"{scope.data.playbook.company.name}, up to {scope.as_of}, {name_users(scope.segment)}"
    if definition is None or not definition.inactive_days:
        return f"{text}; who has left, the data state."
    chosen = "as chosen from the data" if definition.chosen == "from the data" else "as given"
    what = "an order" if definition.basis == "orders" else "activity"
    return f"{text}; gone is who has been without {what} for {definition.inactive_days} days, {chosen}."


def name_reason(reason: str) -> str:
    """A reason, for people.

    >>> name_reason("coupon_expired_unused"), name_reason("not_used:search")
    ('coupon expired unused', 'not used: search')
    """
    kind, _, about = reason.partition(":")
    return f"{kind.replace('_', ' ')}: {about}" if about else kind.replace("_", " ")


def find_last_month(churn: ChurnInvestigation) -> Estimate | None:
    """The churn of the last month that is known."""
    result = churn.leaving.churn
    if result is None:
        return None
    known = result.periods.dropna(subset=["churn_rate"])
    return result.estimate(known.iloc[-1]["period_start"].date()) if len(known) else None


def _say_churn(churn: ChurnInvestigation) -> str:
    leaving = churn.leaving
    result, estimate = leaving.churn, find_last_month(churn)
    if result is None or estimate is None:
        survival = leaving.survival
        if survival is None or not survival.users_count:
            return leaving.note or "No month is over for long enough to tell who left."
        share = f"{survival.left_count / survival.users_count:.1%}"
        return f"Of {survival.users_count:,} users {survival.left_count:,} have left ({share})."
    month = result.periods.dropna(subset=["churn_rate"]).iloc[-1]["period_start"]
    text = f"In {month:%B %Y} {format_estimate(estimate)} of {estimate.denominator:,.0f} users left"
    rise = result.rise
    if rise.rising is None:
        return f"{text}."
    rates = ", ".join(f"{r:.1%}" for r in rise.periods["churn_rate"])
    chance = (
        ""
        if rise.chance_year_rate is None
        else f"; by chance alone such a run shows in {rise.chance_year_rate:.0%} of years"
    )
    if rise.rising:
        word = "and the trend is more than chance" if rise.clear else "but the trend is within chance"
        p = "" if rise.p_value is None else f" (p {_format_p(rise.p_value)})"
        return f"{text}, the {rise.rises}th rise in a row ({rates}){chance}, {word}{p}.".replace("3th", "third")
    return f"{text}; it has not risen {rise.rises} times in a row ({rates})."


def _format_p(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.3f}"


def say_moments(churn: ChurnInvestigation) -> str:
    """When they leave: half-life and the moments that stand out."""
    survival = churn.leaving.survival
    if survival is None:
        return ""
    summary = survival.summary
    median = summary["median_tenure"].iloc[0] if len(summary) else float("nan")
    unit = f"{survival.unit}s"
    text = f"Half have left after {median:.0f} {unit}" if pd.notna(median) else "Fewer than half have left so far"
    parts = []
    for result, since in ((survival, ""), (churn.leaving.since_payment, " after a payment")):
        for row in [] if result is None else list_moments(result).head(1).to_dict("records"):
            span = f"{row['tenure_first']:.0f} to {row['tenure_last']:.0f}"
            ratio = f"{row['hazard_ratio']:.1f} times [{row['ratio_low']:.1f} to {row['ratio_high']:.1f}]"
            parts.append(f"on {unit} {span}{since} {ratio} as many leave as around them")
    return f"{text}; {' and '.join(parts)}." if parts else f"{text}; at no moment do more leave than around it."


def say_reason(churn: ChurnInvestigation) -> str:
    """The first reason with both groups' shares, or that none is clear."""
    if churn.reasons is None:
        return ""
    result = churn.reasons.causes
    months = churn.reasons.period.label
    if result.named.empty:
        compared = int(result.reasons["q_value"].notna().sum())
        return (
            f"None of {compared} reasons looked for tells the {result.leavers_rate.numerator:,.0f} who left in "
            f"{months} from those alike who stayed."
        )
    row = result.named.iloc[0]
    reason = name_reason(str(row["reason"]))
    text = (
        f"Of {row['leavers_count']:,.0f} who left in {months}, {row['leavers_rate']:.0%} had {reason} behind them, of "
    )
    text += f"{row['stayers_count']:,.0f} who stayed {row['stayers_rate']:.0%}"
    if pd.notna(row["attributable_rate"]):
        share = f"{row['attributable_rate']:.0%} [{row['attributable_low']:.0%} to {row['attributable_high']:.0%}]"
        text += f"; among users alike it accounts for {share} of the leaving ({EVIDENCE.get(str(row['evidence']), '')})"
    others = [name_reason(r) for r in result.named["reason"].iloc[1:3]]
    return f"{text}{'; then ' + ' and '.join(others) if others else ''}."


def _say_worth(churn: ChurnInvestigation) -> str:
    worth = churn.worth
    if worth is None or not worth.rfm.customers_count:
        return ""
    currency = churn.currency
    high = worth.rfm.tiers.set_index("tier").loc["high_value"]
    text = f"{high['customers_count']:,.0f} of {worth.rfm.customers_count:,} customers are of high value and brought "
    text += f"{high['revenue_rate']:.0%} of the money"
    gone = worth.value.likely_gone
    if gone and gone["customers_count"] > 0:
        amount = format_number(gone["past_amount"], "amount", currency=currency)
        text += f"; {gone['customers_count']:,.0f} valuable customers, who brought {amount}, are likely gone"
    return f"{text}."


def say_recall(churn: ChurnInvestigation) -> str:
    """What the last campaign with a holdout brought."""
    measured = None if churn.recall is None else churn.recall.measured
    if measured is None:
        return ""
    totals = measured.totals
    text = f"Campaign {measured.experiment.replace('_', ' ')}: {VERDICTS[measured.verdict]}"
    lift, treated, holdout = (totals[n] for n in ("lift_rate", "treated_return_rate", "holdout_return_rate"))
    if lift.known and lift.value is not None and lift.low is not None and lift.high is not None:
        points = format_points(lift.value, lift.low, lift.high)
        text += f". Of {treated.denominator:,.0f} written to {format_number(treated.value, 'rate')} bought within "
        text += f"{measured.days} days, of {holdout.denominator:,.0f} left alone "
        text += f"{format_number(holdout.value, 'rate')}: {points}"
        more = totals["relative_lift_rate"]
        if more.known:
            text += f", {more.value:+.0%} [{more.low:+.0%} to {more.high:+.0%}]"
    cost = totals.get("cost_per_incremental_amount")
    if cost is not None and cost.known:
        text += f", {format_estimate(cost, currency=churn.currency)} for each user more"
    return f"{text}."


@list_limits.register
def _list_limits(churn: ChurnInvestigation) -> list[str]:
    leaving, limits = churn.leaving, list(churn.scope.notes)
    if leaving.definition is not None:
        limits += [write_sentence(note) for note in leaving.definition.notes]
    if leaving.churn is not None:
        limits += [write_sentence(note) for note in leaving.churn.notes]
    if leaving.survival is not None:
        limits += [write_sentence(note) for note in leaving.survival.notes]
    if churn.reasons is not None:
        limits.append(
            "Reasons are what is in the data: a rival's offer, or a life that changed, is not. Those with us for less "
            "than 30 days are in neither group."
        )
        limits += [write_sentence(note) for note in churn.reasons.causes.notes]
    if churn.worth is not None:
        check = churn.worth.check
        if check.error_rate is not None and check.naive_error_rate is not None:
            text = f"Tried on the {check.holdout_days} days up to {check.as_of}, the forecast of orders was off by "
            text += f"{check.error_rate:+.0%}, keeping up the last rate by {check.naive_error_rate:+.0%}"
            better = check.status == "better_than_naive"
            limits.append(f"{text}{'.' if better else ': do not plan totals with it, only the order of customers.'}")
        limits += [write_sentence(note) for note in churn.worth.value.notes]
        limits += [write_sentence(note) for note in churn.worth.rfm.notes]
    if churn.recall is not None:
        plan, measured = churn.recall.plan, churn.recall.measured
        limits += [write_sentence(note) for note in (plan.notes if plan is not None else ())]
        limits += [write_sentence(note) for note in (measured.notes if measured is not None else ())]
    limits += [f"{section}: not shown, it needs {table}." for section, table in churn.missing.items()]
    return list(dict.fromkeys(limits))
