"""What the lesson `budget_without_users` is about: a channel whose budget grew, and the groups of its new users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from opslib.decide.growth.model import GrowthModel, model_growth
from opslib.decide.scope import choose_scope
from opslib.errors import InputError
from opslib.language import say
from opslib.measure.channels import ChannelsResult, measure_channels
from opslib.measure.estimate import Change, compare_estimates, estimate_rate
from opslib.present.display import TableView
from opslib.present.parts import format_shares
from opslib.present.tables import make_table
from opslib.present.words import name_column
from opslib.training.lessons.mix_facts import write_change

if TYPE_CHECKING:
    from opslib.data.source import Data

COLUMNS, SPLIT = ("network", "platform"), "|"
COUNTS = ["new_users_count", "d7_count", "d7_mature_count"]


@dataclass(frozen=True)
class Story:
    """A channel whose budget grew, its new users in the two periods, and the groups of them.

    Attributes:
        growth: the growth model that it comes from.
        channel: the channel.
        row: the channel in the comparison of budgets.
        before, now: the channel in either period.
        groups: column -> its groups in the two periods: group, before_..., now_... with the counts.
        network: the network that grew most.
    """

    growth: GrowthModel
    channel: str
    row: dict[str, Any]
    before: dict[str, Any]
    now: dict[str, Any]
    groups: dict[str, pd.DataFrame]
    network: str

    def write(self, amount: float, digits: int = 0) -> str:
        """An amount in the company's currency."""
        return f"{self.growth.currency} {amount:,.{digits}f}"

    @property
    def more_users(self) -> int:
        return int(self.now["new_users_count"] - self.before["new_users_count"])


def find_story(data: Data) -> Story:
    growth = model_growth(data)
    shift = growth.acquisition.shift
    rows = [] if shift is None else shift.by_channel.to_dict("records")
    row = next((r for r in rows if r["verdict"] == "more_users_not_retained"), None)
    if row is None or growth.acquisition.before is None or COLUMNS[0] not in growth.scope.dimensions:
        raise InputError(
            "budget_without_users: this lesson needs a channel whose extra money brought nobody who stays, and the "
            "networks it buys from; use the sample company."
        )
    channel = str(row["channel"])
    groups = _compare_groups(data, channel)
    networks = groups[COLUMNS[0]]
    grown = networks["now_new_users_count"] - networks["before_new_users_count"]
    return Story(
        growth, channel, {str(k): v for k, v in row.items()}, _find_group(growth.acquisition.before, channel),
        _find_group(growth.acquisition.channels, channel), groups, str(networks["group"].iloc[int(grown.argmax())]),
    )  # fmt: skip


def _find_group(result: ChannelsResult, group: str) -> dict[str, Any]:
    return {str(k): v for k, v in result.by_group.set_index("group").loc[group].items()}


def _compare_groups(data: Data, channel: str) -> dict[str, pd.DataFrame]:
    """New users of a channel by each attribute, in the two periods."""
    scope = choose_scope(data, segment=f"channel:{channel}")
    assert scope.before is not None
    everything = scope.narrow(now=False)
    users = everything.attributes
    # Both attributes at once: counting users twice takes twice as long.
    groups = users.select("user_id", group=users[COLUMNS[0]] + SPLIT + users[COLUMNS[1]])
    parts = []
    for when, period in (("before", scope.before), ("now", scope.now)):
        result = measure_channels(everything.active_days, period, as_of=scope.as_of, groups=groups)
        parts.append(result.by_group.set_index("group")[COUNTS].add_prefix(f"{when}_"))
    both = pd.concat(parts, axis="columns").fillna(0).astype(int)
    both[list(COLUMNS)] = [str(group).split(SPLIT) for group in both.index]
    names = [name for name in both.columns if name not in COLUMNS]
    return {c: both.groupby(c)[names].sum().rename_axis("group").reset_index() for c in COLUMNS}


def show_quarters(story: Story) -> TableView:
    forms = {
        "spend": ("spend_amount", ",.0f"), "new": ("new_users_count", ",.0f"), "cac": ("cac_amount", ",.2f"),
        "back": ("d7_count", ",.0f"), "mature": ("d7_mature_count", ",.0f"), "rate": ("d7_rate", ".1%"),
    }  # fmt: skip
    periods = {say("Before"): story.before, say("Now"): story.now}
    rows = [
        {"period": period} | {name: format(row[column], form) for name, (column, form) in forms.items()}
        for period, row in periods.items()
    ]
    labels = {
        "period": say("Period"), "spend": say("Spend ({currency})", currency=story.growth.currency),
        "new": say("New users"), "cac": say("Cost per new user"), "back": say("Back on day 7"),
        "mature": say("Of those whose day 7 has come"), "rate": say("Share back on day 7"),
    }  # fmt: skip
    return make_table(pd.DataFrame(rows), labels, name="lesson-quarters", numeric=tuple(labels)[1:])


def show_groups(story: Story) -> TableView:
    parts = []
    for column, frame in story.groups.items():
        part = pd.DataFrame({"column": name_column(column).capitalize(), "group": frame["group"]})
        for when in ("before", "now"):
            part[f"{when}_new"] = [f"{n:,.0f}" for n in frame[f"{when}_new_users_count"]]
            mature = frame[f"{when}_d7_mature_count"]
            part[f"{when}_back"] = format_shares(frame[f"{when}_d7_count"] / mature, mature)
        part["change"] = [write_change(_compare_shares(row)) for row in frame.to_dict("records")]
        parts.append(part)
    labels = {
        "column": say("By"), "group": say("Group"), "before_new": say("New users before"),
        "now_new": say("New users now"), "before_back": say("Back on day 7 before"),
        "now_back": say("Back on day 7 now"), "change": say("Change, points [95%]"),
    }  # fmt: skip
    return make_table(pd.concat(parts, ignore_index=True), labels, name="lesson-groups", numeric=tuple(labels)[2:])


def _compare_shares(row: dict[Any, Any]) -> Change:
    """How the share of a group that is back on day 7 changed."""
    now, before = (
        estimate_rate("d7_rate", row[f"{when}_d7_count"], row[f"{when}_d7_mature_count"]) for when in ("now", "before")
    )
    return compare_estimates(now, before)
