"""What the lesson `mix_or_rate` is about: a company's channels, the sister company's, and the tables of both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from opslib.decide.growth.model import GrowthModel, model_growth
from opslib.errors import InputError
from opslib.explain.change import ChangeExplanation, count_outcomes, explain_change, mark_returned
from opslib.language import say
from opslib.measure.estimate import Change, compare_estimates, estimate_rate
from opslib.present.display import TableView
from opslib.present.parts import format_range
from opslib.present.tables import make_table

if TYPE_CHECKING:
    from opslib.data.source import Data

COLUMNS = ("channel", "platform", "network")
# The sister company is made up: new users and those back the next day, before and now. Each of its channels got a
# little better, and the one that keeps fewest tripled.
SISTER = {
    "community": (2000, 918, 1400, 662),
    "search": (2600, 1092, 2200, 961),
    "app_store": (2400, 912, 2000, 792),
    "paid_ads": (3000, 600, 9000, 1935),
}
# From so much of the change on, rates within channels made "almost all" of it.
ALMOST_ALL = 0.85


@dataclass(frozen=True)
class MixFacts:
    """A company and the sister company.

    Attributes:
        data, model, explanation: of the company; why its next-day retention changed.
        changed: the channel and platform whose users changed.
        added: the channel and network that brings other users.
    """

    data: Data
    model: GrowthModel
    explanation: ChangeExplanation
    changed: dict[str, str]
    added: dict[str, str]

    @cached_property
    def sister(self) -> ChangeExplanation:
        """The same of the sister company."""
        rows = pd.DataFrame.from_dict(SISTER, orient="index", columns=["old_users", "old", "new_users", "new"])
        sides = (
            rows[[f"{side}_users", side]].set_axis(["users_count", "returned"], axis=1).rename_axis("channel")
            for side in ("old", "new")
        )
        before, after = (side.reset_index() for side in sides)
        return explain_change(
            before, after, dimensions=["channel"], numerator="returned", denominator="users_count", name="d1_rate"
        )

    @cached_property
    def ours(self) -> pd.DataFrame:
        """Our channels: rates, shares, and what each did to the whole."""
        values = self.explanation.values
        return values[values["dimension"] == "channel"]

    @cached_property
    def counts(self) -> dict[str, pd.DataFrame]:
        """New users and those back the next day by all columns, before and after."""
        scope = self.model.scope
        assert scope.before is not None
        periods = {"before": scope.before, "after": scope.now}
        counted = {}
        for side, period in periods.items():
            marked = mark_returned(scope.active_days, scope.attributes, period, as_of=scope.as_of)
            counted[side] = count_outcomes(marked, dimensions=COLUMNS, numerator="returned")
        return counted

    @cached_property
    def finer(self) -> pd.DataFrame:
        """The two channels that fell most, each by what tells its users apart."""
        sides = []
        for side, counts in self.counts.items():
            parts = []
            for channel, column in ((self.changed["channel"], "platform"), (self.added["channel"], "network")):
                part = counts[counts["channel"] == channel].groupby(["channel", column])[["users_count", "returned"]]
                summed = part.sum().rename_axis(["channel", "value"])
                summed[f"{side}_rate"] = summed["returned"] / summed["users_count"]
                parts.append(summed.rename(columns={"users_count": f"{side}_count", "returned": f"{side}_returned"}))
            sides.append(pd.concat(parts))
        return sides[0].join(sides[1]).reset_index()

    @cached_property
    def rest(self) -> Change:
        """How the rate changed among everybody outside of the two groups."""
        rates = []
        for counts in self.counts.values():
            changed = (counts[list(self.changed)] == list(self.changed.values())).all(axis=1)
            others = counts[~changed & (counts["network"] != self.added["network"])]
            rates.append(estimate_rate("d1_rate", int(others["returned"].sum()), int(others["users_count"].sum())))
        return compare_estimates(rates[1], rates[0])

    def find_part(self, channel: str, value: str) -> pd.Series:
        """One row of `finer`."""
        rows = self.finer[(self.finer["channel"] == channel) & (self.finer["value"] == value)]
        return rows.iloc[0]


def gather_facts(data: Data) -> MixFacts:
    """Gather what the lesson tells of a company.

    Raises:
        InputError: next-day retention did not change by a channel's platform and by a network.
    """
    model = model_growth(data)
    found = model.staying.explanation
    refused = InputError(
        "mix_or_rate: this lesson needs a fall of next-day retention in a channel's platform and a network that "
        "brought users who do not stay; use the sample company."
    )
    if found is None or not set(COLUMNS) <= set(model.scope.dimensions):
        raise refused
    causes = [dict(item.split("=", 1) for item in segment.split(" & ")) for segment in found.causes["segment"]]
    changed = next((c for c in causes if set(c) == {"channel", "platform"}), None)
    added = next((c for c in causes if set(c) == {"network"}), None)
    split = found.splits.set_index("dimension").loc["channel"]
    if changed is None or added is None or split["rate_effect_rate"] > ALMOST_ALL * split["total_rate"]:
        raise refused
    users = data.table("users")
    named = data.execute(users.filter(users.network == added["network"]).select("channel").limit(1))
    facts = MixFacts(data, model, found, changed, {"channel": str(named["channel"].iloc[0]), **added})
    if facts.rest.clear:
        raise refused
    return facts


def show_sister(facts: MixFacts) -> TableView:
    """The sister company by channel: users, rates, shares."""
    values = facts.sister.values
    frame = pd.DataFrame({"channel": values["value"]})
    for side in ("before", "after"):
        frame[f"{side}_users"] = values[f"{side}_count"].map("{:,}".format)
        frame[f"{side}_back"] = values[f"{side}_numerator_count"].map("{:,}".format)
        frame[f"{side}_rate"] = values[f"{side}_rate"].map("{:.1%}".format)
        frame[f"{side}_share"] = values[f"{side}_share_rate"].map("{:.1%}".format)
    labels = {
        "channel": say("Channel"), "before_users": say("New users before"), "before_back": say("Back before"),
        "before_rate": say("Rate before"), "before_share": say("Share of all before"),
        "after_users": say("New users now"), "after_back": say("Back now"),
        "after_rate": say("Rate now"), "after_share": say("Share of all now"),
    }  # fmt: skip
    return make_table(frame, labels, name="lesson-sister", numeric=tuple(labels)[1:])


def show_ours(facts: MixFacts) -> TableView:
    """Our channels, and what each did to the whole by its rate and by its share."""
    values = facts.ours
    frame = pd.DataFrame({"channel": values["value"]})
    for side in ("before", "after"):
        frame[f"{side}_rate"] = values[f"{side}_rate"].map("{:.1%}".format)
        frame[f"{side}_share"] = values[f"{side}_share_rate"].map("{:.1%}".format)
    for effect in ("rate_effect_rate", "mix_effect_rate"):
        frame[effect] = [f"{100 * x:+.2f}" for x in values[effect]]
    overall = facts.explanation.overall
    sums = {effect: f"{100 * values[effect].sum():+.2f}" for effect in ("rate_effect_rate", "mix_effect_rate")}
    sides = {"before_rate": f"{overall.before.value:.1%}", "after_rate": f"{overall.now.value:.1%}"}
    sides |= {f"{side}_share": f"{1:.1%}" for side in ("before", "after")}
    frame.loc[frame.index.max() + 1] = {"channel": say("All channels"), **sides, **sums}
    labels = {
        "channel": say("Channel"), "before_rate": say("Rate before"), "after_rate": say("Rate now"),
        "before_share": say("Share of all before"), "after_share": say("Share of all now"),
        "rate_effect_rate": say("By rates, points"), "mix_effect_rate": say("By mix, points"),
    }  # fmt: skip
    return make_table(frame, labels, name="lesson-ours", numeric=tuple(labels)[1:])


def show_finer(facts: MixFacts) -> TableView:
    """The two channels that fell most, by platform or network."""
    frame = facts.finer[["channel", "value"]].copy()
    for side in ("before", "after"):
        frame[f"{side}_users"] = facts.finer[f"{side}_count"].map("{:,}".format)
        frame[f"{side}_rate"] = facts.finer[f"{side}_rate"].map("{:.1%}".format)
    frame["change"] = [_write_change(row) for row in facts.finer.to_dict("records")]
    labels = {
        "channel": say("Channel"), "value": say("Platform or network"), "before_users": say("New users before"),
        "before_rate": say("Rate before"), "after_users": say("New users now"), "after_rate": say("Rate now"),
        "change": say("Change, points [95%]"),
    }  # fmt: skip
    return make_table(frame, labels, name="lesson-finer", numeric=tuple(labels)[2:])


def _write_change(row: dict[Any, Any]) -> str:
    now, before = (
        estimate_rate("d1_rate", row[f"{side}_returned"], row[f"{side}_count"]) for side in ("after", "before")
    )
    return write_change(compare_estimates(now, before))


def write_change(change: Change) -> str:
    """A change of a rate in points, with its interval."""
    return format_range(change.difference, change.low, change.high, form="+.1f", scale=100)
