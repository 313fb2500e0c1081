"""The growth model: where growth comes from, what it costs, and what would change it, in one result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from opslib.data.source import Data
from opslib.decide.growth.acquisition import Acquisition, measure_acquisition_costs
from opslib.decide.growth.audience import Audience, measure_audience
from opslib.decide.growth.cell import CellChoice, CohortCell, choose_cell, measure_cell
from opslib.decide.growth.outlook import Outlook, measure_outlook
from opslib.decide.growth.staying import Staying, measure_staying
from opslib.decide.scope import Scope, choose_scope
from opslib.errors import InputError, suggest_name
from opslib.language import mark
from opslib.measure.estimate import Change
from opslib.measure.grains import Grain

LEVERS = ("d1_rate", "d7_rate", "reactivation_rate", "k_factor", "cac_amount")


@dataclass(frozen=True)
class GrowthModel:
    """A company's growth; each part is computed when it is first asked for.

    Attributes:
        scope: data, segment and days.
        audience: who is active, and where they came from.
        staying: who stays.
        acquisition: what growth costs.
        outlook: what comes, and what would change it.
        cell: the week of new users and the week after it that was chosen; None where none was.
        missing: section -> the table that would light it up; both are texts to translate.
    """

    scope: Scope
    audience: Audience
    staying: Staying
    acquisition: Acquisition
    outlook: Outlook
    choice: CellChoice | None

    @cached_property
    def cell(self) -> CohortCell | None:
        return None if self.choice is None else measure_cell(self.scope, self.choice)

    @cached_property
    def missing(self) -> dict[str, str]:
        return _find_missing(self.scope, self.acquisition)

    @property
    def currency(self) -> str:
        """The playbook's currency."""
        return self.scope.data.playbook.company.currency

    def changes(self) -> dict[str, Change]:
        """Headline metric -> change against the period before; empty where there is none."""
        return self.audience.changes() | self.staying.changes()

    def findings(self) -> list[dict[str, Any]]:
        """Everything a machine may want to read, as flat records."""
        parts = (self.audience, self.staying, self.acquisition, self.outlook, self.cell)
        return [record for part in parts if part is not None for record in part.findings()]


def model_growth(
    data: Data,
    *,
    as_of: str = "",
    grain: Grain = "week",
    segment: str = "",
    compare_to: str = "",
    days: int = 0,
    levers: Mapping[str, float] | None = None,
    cohort_week: str = "",
    cohort_age: int = 0,
) -> GrowthModel:
    """Model a company's growth.

    Args:
        data: the company's data; unfit data are refused.
        as_of: the last day, as ISO text; empty: the data's last full day.
        grain: length of a period in growth accounting and tiers: day, week, month or quarter.
        segment: one group of users such as `channel:search`; empty: everybody.
        compare_to: the last day of the days compared with, or a quarter; empty: the days right before.
        days: how many days make a period; 0: 91.
        levers: lever of `LEVERS` -> its value from tomorrow on; 0 or absent takes the playbook's target or, where that
            is met, a tenth better than today.
        cohort_week: the first day of a week of new users to look into, as ISO text; empty: none.
        cohort_age: so many weeks later; 0: 1.

    Returns:
        A `GrowthModel`. What is wrong with the options is said at once; parts are computed when first asked for.

    Raises:
        InputError: unfit data, a day outside them, an unknown segment or lever, a week without new users or too young.
    """
    data.require_fit()
    scope = choose_scope(data, as_of=as_of, grain=grain, segment=segment, compare_to=compare_to, days=days)
    unknown = [name for name in levers or () if name not in LEVERS]
    if unknown:
        raise InputError(f"There is no lever '{unknown[0]}'.{suggest_name(unknown[0], LEVERS)} {', '.join(LEVERS)}.")
    return GrowthModel(
        scope,
        measure_audience(scope),
        measure_staying(scope),
        measure_acquisition_costs(scope),
        measure_outlook(scope, dict.fromkeys(LEVERS, 0.0) | dict(levers or {})),
        choose_cell(scope, cohort_week, cohort_age),
    )


def _find_missing(scope: Scope, acquisition: Acquisition) -> dict[str, str]:
    data, missing = scope.data, {}
    if "channel" not in data.attributes.columns:
        missing[mark("New users by channel")] = mark("users (user_id, signup_at, channel)")
    if not data.has("spend"):
        missing[mark("Cost of new users")] = mark("spend (date, channel, amount)")
    elif not acquisition.has_shift and scope.segment and not scope.segment.startswith("channel:"):
        missing[mark("Cost of new users")] = mark("spend by this segment (it is only known by channel)")
    if not data.has("orders"):
        missing[mark("Value of new users")] = mark("orders (user_id, ts, amount)")
    elif not acquisition.has_value:
        text = mark("events (user_id, ts, event), so that users who never bought are known")
        missing[mark("Value of new users")] = text
    if not acquisition.has_domains:
        missing[mark("Public and private domain")] = mark("users.domain (public or private)")
    if not acquisition.has_moves:
        missing[mark("Users moved to the private domain")] = mark("users.private_since (when a user joined a group)")
    if not acquisition.has_referrals:
        missing[mark("Users brought by users")] = mark("referrals (inviter_id, invitee_id, ts)")
    if not data.has("events"):
        missing[mark("What goes with staying")] = mark("events (user_id, ts, event)")
    if not scope.dimensions:
        missing[mark("Who moved retention")] = mark("users with attributes such as channel or platform")
    return missing
