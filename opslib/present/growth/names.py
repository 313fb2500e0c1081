"""What the growth model calls things: levers, rates, verdicts, tiers, lengths of periods."""

from __future__ import annotations

from opslib.decide.growth.model import GrowthModel
from opslib.language import mark, say
from opslib.present.words import format_number, name_column

LEVER_NAMES = {
    "base": mark("nothing changes"),
    "d1_rate": mark("next-day retention"),
    "d7_rate": mark("day-7 retention"),
    "reactivation_rate": mark("daily return of users away for 7 to 29 days"),
    "k_factor": mark("users brought by each new user"),
    "cac_amount": mark("cost of a new user"),
    "all": mark("all of them together"),
}
# Of the users in a state on one day, the share in another on the next (see `opslib.measure.states`).
RATE_LABELS = {
    "nurr_rate": mark("Yesterday's new users come again"),
    "curr_rate": mark("Yesterday's regulars come again"),
    "rurr_rate": mark("Yesterday's returners after 7 to 29 days come again"),
    "surr_rate": mark("Yesterday's returners after 30 days come again"),
    "iwaurr_rate": mark("Users away 1 to 6 days come back"),
    "reactivation_rate": mark("Users away 7 to 29 days come back"),
    "resurrection_rate": mark("Users away 30 days or more come back"),
    "wau_loss_rate": mark("Users away 1 to 6 days make it a week"),
    "mau_loss_rate": mark("Users away 7 to 29 days make it 30"),
    "new_users": mark("New users a day"),
}
VERDICT_NAMES = {
    "more_retained": mark("more users who stay"),
    "more_users_not_retained": mark("more users, not more who stay"),
    "more_users_retained_unclear": mark("more users; whether they stay is not clear"),
    "no_clear_gain": mark("no clear gain"),
    "fewer_retained": mark("fewer users who stay"),
    "fewer_users_retained_unclear": mark("fewer users; whether users who stay were lost is not clear"),
    "no_clear_loss": mark("no clear loss"),
    "not_moved": mark("spend hardly moved"),
    "not_enough_data": mark("not enough data"),
}
STATE_NAMES = {
    "potential": mark("Signed up, never active"),
    "new": mark("New"),
    "current": mark("Current"),
    "resurrected": mark("Came back"),
    "at_risk": mark("At risk"),
    "dormant": mark("Dormant"),
    "churned": mark("Gone"),
    "none": mark("Not known before"),
}
GRAINS = {"day": mark("day"), "week": mark("week"), "month": mark("month"), "quarter": mark("quarter")}
A_GRAIN = {"day": mark("a day"), "week": mark("a week"), "month": mark("a month"), "quarter": mark("a quarter")}
# After a number.
ONE_GRAIN = {"day": mark("1 day"), "week": mark("1 week"), "month": mark("1 month"), "quarter": mark("1 quarter")}
MANY_GRAINS = {"day": mark("days"), "week": mark("weeks"), "month": mark("months"), "quarter": mark("quarters")}
# What users alike have in common, beside columns of theirs.
ACTIVE_DAYS = mark("active days")
BASES = {"margin": mark("margin"), "revenue": mark("revenue")}


def name_grain(grain: str) -> str:
    """The length of a period in a sentence."""
    return say(GRAINS[grain])


def name_a_grain(grain: str) -> str:
    """So long, for example `a week`."""
    return say(A_GRAIN[grain])


def count_grains(count: int, grain: str) -> str:
    """So many periods.

    >>> count_grains(1, "week"), count_grains(3, "month")
    ('1 week', '3 months')
    """
    return say(ONE_GRAIN[grain]) if count == 1 else say("{count} {units}", count=count, units=say(MANY_GRAINS[grain]))


def name_lever(model: GrowthModel, lever: str) -> str:
    """A lever with the value that it is set to, for example `day-7 retention at 25.0%`."""
    name = say(LEVER_NAMES[lever])
    values = model.outlook.levers.levers.set_index("lever")["then_value"].dropna()
    if lever not in values.index:
        return name
    return say("{lever} at {value}", lever=name, value=format_lever(model, lever, float(values[lever])))


def label_lever(lever: str) -> str:
    """A lever's name at the beginning of a line."""
    name = say(LEVER_NAMES[lever]) if lever in LEVER_NAMES else lever.replace("_", " ")
    return f"{name[0].upper()}{name[1:]}"


def format_lever(model: GrowthModel, lever: str, value: float) -> str:
    """A lever's value in its unit."""
    if lever == "k_factor":
        return f"{value:.3f}"
    unit = "amount" if lever == "cac_amount" else "rate"
    return format_number(value, unit, currency=model.currency)


def name_common(column: str) -> str:
    """What users alike have in common: a column, or how many days they were active."""
    return say(ACTIVE_DAYS) if column == ACTIVE_DAYS else name_column(column)


def name_value(basis: str) -> str:
    """What users bring at the beginning of a line: `Margin` or `Revenue`."""
    return say(BASES[basis]).capitalize()
