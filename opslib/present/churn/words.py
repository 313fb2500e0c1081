"""The sentences of the churn investigation."""

from __future__ import annotations

import datetime as dt

import pandas as pd

from opslib.decide.churn.investigation import ChurnInvestigation
from opslib.decide.churn.leaving import list_moments
from opslib.language import join_clauses, join_sentences, join_words, mark, say
from opslib.measure.estimate import Estimate
from opslib.measure.purchase_model.check import PurchaseModelCheck
from opslib.measure.survival.survival import SurvivalResult
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
    "natural_experiment": mark("a natural experiment says it is a cause"),
    "association": mark("an association, not an effect"),
}
VERDICTS = {
    "gain": mark("it brought users back"),
    "loss": mark("it drove users away"),
    "unclear": mark("whether it brought anybody back is not clear"),
    "not_enough_data": mark("too few users have had their whole window to say"),
    "not_tested": mark("the split was not as planned, so nothing can be concluded"),
}
REASONS = {
    "coupon_expired_unused": mark("coupon expired unused"),
    "coupon_expires_soon": mark("coupon expires soon"),
    "ticket_opened": mark("ticket opened"),
    "complaint": mark("complaint"),
    "ticket_unresolved": mark("ticket unresolved"),
    "support_slow": mark("support slow"),
    "first_purchase": mark("first purchase"),
    "month_after_purchase": mark("month after purchase"),
    "purchases_stopped": mark("purchases stopped"),
    "price_rise": mark("price rise"),
    "refund": mark("refund"),
    "discount_ended": mark("discount ended"),
    "no_message": mark("no message"),
    "message_fatigue": mark("message fatigue"),
    "last_day_cart_unpaid": mark("last day cart unpaid"),
    "error": mark("error"),
    "stopped_using": mark("stopped using"),
    "not_used": mark("not used"),
}
# Tenure is counted in days, or in months where subscriptions state it so.
HALF_LEFT = {
    "day": mark("Half have left after {median:.0f} days"),
    "month": mark("Half have left after {median:.0f} months"),
}
MOMENTS = {
    "day": mark("on days {first:.0f} to {last:.0f} {ratio} as many leave as around them"),
    "month": mark("on months {first:.0f} to {last:.0f} {ratio} as many leave as around them"),
}
GONE = {
    "inactivity": mark(
        "{company}, up to {as_of}, {users}; gone is who has been without activity for {days} days, {chosen}."
    ),
    "orders": mark(
        "{company}, up to {as_of}, {users}; gone is who has been without an order for {days} days, {chosen}."
    ),
}


@describe.register
def _describe_churn(churn: ChurnInvestigation) -> list[str]:
    parts = [_say_churn(churn), say_moments(churn), say_reason(churn), _say_worth(churn), say_recall(churn)]
    return [s for s in parts if s]


@describe_scope.register
def _describe_scope(churn: ChurnInvestigation) -> str:
    scope, definition = churn.scope, churn.leaving.definition
    about = {
        "company": scope.data.playbook.company.name, "as_of": scope.as_of, "users": name_users(scope.segment)
    }  # fmt: skip
    if definition is None or not definition.inactive_days:
        return say("{company}, up to {as_of}, {users}; who has left, the data state.", **about)
    chosen = say("as chosen from the data") if definition.chosen == "from the data" else say("as given")
    return say(GONE[definition.basis], **about, days=definition.inactive_days, chosen=chosen)


def name_reason(reason: str) -> str:
    """A reason, for people.

    >>> name_reason("coupon_expired_unused"), name_reason("not_used:search")
    ('coupon expired unused', 'not used: search')
    """
    kind, _, about = reason.partition(":")
    name = say(REASONS[kind]) if kind in REASONS else kind.replace("_", " ")
    return say("{name}: {about}", name=name, about=about) if about else name


def name_month(day: dt.date) -> str:
    """A month with its year.

    >>> name_month(dt.date(2026, 6, 1))
    'June 2026'
    """
    return day.strftime(say("%B %Y"))


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
            return leaving.note or say("No month is over for long enough to tell who left.")
        users, left = survival.users_count, survival.left_count
        return say("Of {users:,} users {left:,} have left ({share:.1%}).", users=users, left=left, share=left / users)
    month = name_month(result.periods.dropna(subset=["churn_rate"]).iloc[-1]["period_start"])
    rate, opening = format_estimate(estimate), estimate.denominator
    text = say("In {month} {rate} of {users:,.0f} users left", month=month, rate=rate, users=opening)
    rise = result.rise
    if rise.rising is None:
        return say("{text}.", text=text)
    rates = say(", ").join(f"{r:.1%}" for r in rise.periods["churn_rate"])
    if not rise.rising:
        return say(
            "{left}; it has not risen {rises} times in a row ({rates}).", left=text, rises=rise.rises, rates=rates
        )
    nth = say("the third rise in a row") if rise.rises == 3 else say("the {rises}th rise in a row", rises=rise.rises)
    said = say("{left}, {nth} ({rates})", left=text, nth=nth, rates=rates)
    if rise.chance_year_rate is not None:
        chance = say("by chance alone such a run shows in {chance:.0%} of years", chance=rise.chance_year_rate)
        said = join_clauses([said, chance])
    judged = say("and the trend is more than chance") if rise.clear else say("but the trend is within chance")
    if rise.p_value is not None:
        judged = say("{judged} (p {p})", judged=judged, p=_format_p(rise.p_value))
    return say("{left}, {judged}.", left=said, judged=judged)


def _format_p(p: float) -> str:
    return say("below 0.001") if p < 0.001 else f"{p:.3f}"


def say_moments(churn: ChurnInvestigation) -> str:
    """When they leave: half-life and the moments that stand out."""
    survival = churn.leaving.survival
    if survival is None:
        return ""
    summary = survival.summary
    median = summary["median_tenure"].iloc[0] if len(summary) else float("nan")
    text = say("Fewer than half have left so far")
    if pd.notna(median):
        text = say(HALF_LEFT[survival.unit], median=median)
    parts = [_say_moment(survival, MOMENTS[survival.unit])]
    if churn.leaving.since_payment is not None:
        after = mark("on days {first:.0f} to {last:.0f} after a payment {ratio} as many leave as around them")
        parts.append(_say_moment(churn.leaving.since_payment, after))
    found = [part for part in parts if part]
    if not found:
        return say("{text}; at no moment do more leave than around it.", text=text)
    moments = say("{one} and {other}", one=found[0], other=found[1]) if len(found) > 1 else found[0]
    return say("{text}.", text=join_clauses([text, moments]))


def _say_moment(result: SurvivalResult, template: str) -> str:
    """The clearest moment at which more leave; empty without one."""
    for row in list_moments(result).head(1).to_dict("records"):
        numbers = {"ratio": row["hazard_ratio"], "low": row["ratio_low"], "high": row["ratio_high"]}
        ratio = say("{ratio:.1f} times [{low:.1f} to {high:.1f}]", **numbers)
        return say(template, first=row["tenure_first"], last=row["tenure_last"], ratio=ratio)
    return ""


def say_reason(churn: ChurnInvestigation) -> str:
    """The first reason with both groups' shares, or that none is clear."""
    if churn.reasons is None:
        return ""
    result = churn.reasons.causes
    months = churn.reasons.period.label
    if result.named.empty:
        return say(
            "None of {reasons} reasons looked for tells the {users:,.0f} who left in {months} from those alike who "
            "stayed.",
            reasons=int(result.reasons["q_value"].notna().sum()),
            users=result.leavers_rate.numerator,
            months=months,
        )
    row = result.named.iloc[0]
    shares = say(
        "Of {leavers:,.0f} who left in {months}, {leavers_rate:.0%} had {reason} behind them, of {stayers:,.0f} who "
        "stayed {stayers_rate:.0%}",
        leavers=row["leavers_count"],
        months=months,
        leavers_rate=row["leavers_rate"],
        reason=name_reason(str(row["reason"])),
        stayers=row["stayers_count"],
        stayers_rate=row["stayers_rate"],
    )
    due = ""
    if pd.notna(row["attributable_rate"]):
        evidence = EVIDENCE.get(str(row["evidence"]))
        due = say(
            "among users alike it accounts for {share:.0%} [{low:.0%} to {high:.0%}] of the leaving ({evidence})",
            share=row["attributable_rate"],
            low=row["attributable_low"],
            high=row["attributable_high"],
            evidence=say(evidence) if evidence else "",
        )
    others = [name_reason(r) for r in result.named["reason"].iloc[1:3]]
    then = say("then {reasons}", reasons=join_words(others)) if others else ""
    return say("{text}.", text=join_clauses([shares, due, then]))


def _say_worth(churn: ChurnInvestigation) -> str:
    worth = churn.worth
    if worth is None or not worth.rfm.customers_count:
        return ""
    high = worth.rfm.tiers.set_index("tier").loc["high_value"]
    text = say(
        "{count:,.0f} of {customers:,} customers are of high value and brought {share:.0%} of the money",
        count=high["customers_count"],
        customers=worth.rfm.customers_count,
        share=high["revenue_rate"],
    )
    return say("{text}.", text=join_clauses([text, say_gone(churn)]))


def say_gone(churn: ChurnInvestigation) -> str:
    """How many valuable customers are likely gone; empty without any."""
    gone = {} if churn.worth is None else churn.worth.value.likely_gone
    if not gone or not gone["customers_count"] > 0:
        return ""
    return say(
        "{count:,.0f} valuable customers, who brought {amount}, are likely gone",
        count=gone["customers_count"],
        amount=format_number(gone["past_amount"], "amount", currency=churn.currency),
    )


def say_recall(churn: ChurnInvestigation) -> str:
    """What the last campaign with a holdout brought."""
    measured = None if churn.recall is None else churn.recall.measured
    if measured is None:
        return ""
    totals = measured.totals
    name = measured.experiment.replace("_", " ")
    text = say("Campaign {name}: {verdict}", name=name, verdict=say(VERDICTS[measured.verdict]))
    lift, treated, holdout = (totals[n] for n in ("lift_rate", "treated_return_rate", "holdout_return_rate"))
    if lift.known and lift.value is not None and lift.low is not None and lift.high is not None:
        found = say(
            "Of {treated:,.0f} written to {treated_rate} bought within {days} days, of {holdout:,.0f} left alone "
            "{holdout_rate}: {points}",
            treated=treated.denominator,
            treated_rate=format_number(treated.value, "rate"),
            days=measured.days,
            holdout=holdout.denominator,
            holdout_rate=format_number(holdout.value, "rate"),
            points=format_points(lift.value, lift.low, lift.high),
        )
        more = totals["relative_lift_rate"]
        if more.known:
            relative = {"change": more.value, "low": more.low, "high": more.high}
            found = say("{found}, {change:+.0%} [{low:+.0%} to {high:+.0%}]", found=found, **relative)
        text = join_sentences([say("{text}.", text=text), found])
    cost = totals.get("cost_per_incremental_amount")
    if cost is not None and cost.known:
        amount = format_estimate(cost, currency=churn.currency)
        text = say("{found}, {amount} for each user more", found=text, amount=amount)
    return say("{text}.", text=text)


@list_limits.register
def _list_limits(churn: ChurnInvestigation) -> list[str]:
    limits = [*churn.scope.notes, *_list_notes(churn)]
    limits += [
        say("{section}: not shown, it needs {table}.", section=say(section), table=say(table))
        for section, table in churn.missing.items()
    ]
    return list(dict.fromkeys(limits))


def _list_notes(churn: ChurnInvestigation) -> list[str]:
    leaving, limits = churn.leaving, []
    for part in (leaving.definition, leaving.churn, leaving.survival):
        limits += [write_sentence(note) for note in (part.notes if part is not None else ())]
    if churn.reasons is not None:
        limits.append(
            say(
                "Reasons are what is in the data: a rival's offer, or a life that changed, is not. Those with us for "
                "less than 30 days are in neither group."
            )
        )
        limits += [write_sentence(note) for note in churn.reasons.causes.notes]
    if churn.worth is not None:
        limits += _say_forecast(churn.worth.check)
        limits += [write_sentence(note) for note in churn.worth.value.notes]
        limits += [write_sentence(note) for note in churn.worth.rfm.notes]
    if churn.recall is not None:
        for found in (churn.recall.plan, churn.recall.measured):
            limits += [write_sentence(note) for note in (found.notes if found is not None else ())]
    return limits


def _say_forecast(check: PurchaseModelCheck) -> list[str]:
    """How the forecast of orders did on days that it had not seen."""
    if check.error_rate is None or check.naive_error_rate is None:
        return []
    text = say(
        "Tried on the {days} days up to {as_of}, the forecast of orders was off by {error:+.0%}, keeping up the last "
        "rate by {naive_error:+.0%}",
        days=check.holdout_days,
        as_of=check.as_of,
        error=check.error_rate,
        naive_error=check.naive_error_rate,
    )
    if check.status == "better_than_naive":
        return [say("{text}.", text=text)]
    return [say("{text}: do not plan totals with it, only the order of customers.", text=text)]
