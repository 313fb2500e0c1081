"""The growth model: where growth comes from, what it costs, and what would change it, in one result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opslib.data.source import Data
from opslib.decide.growth.acquisition import Acquisition, measure_acquisition_costs
from opslib.decide.growth.audience import Audience, measure_audience
from opslib.decide.growth.outlook import Outlook, measure_outlook
from opslib.decide.growth.staying import Staying, measure_staying
from opslib.decide.scope import Scope, choose_scope
from opslib.measure.estimate import Change
from opslib.measure.grains import Grain

LEVERS = ("d1_rate", "d7_rate", "reactivation_rate", "k_factor", "cac_amount")


@dataclass(frozen=True)
class GrowthModel:
    """A company's growth.

    Attributes:
        scope: data, segment and days.
        audience: who is active, and where they came from.
        staying: who stays.
        acquisition: what growth costs.
        outlook: what comes, and what would change it.
        missing: section -> the table that would light it up.
    """

    scope: Scope
    audience: Audience
    staying: Staying
    acquisition: Acquisition
    outlook: Outlook
    missing: dict[str, str]

    @property
    def currency(self) -> str:
        """The playbook's currency."""
        return self.scope.data.playbook.company.currency

    def changes(self) -> dict[str, Change]:
        """Headline metric -> change against the period before; empty where there is none."""
        return self.audience.changes() | self.staying.changes()

    def findings(self) -> list[dict[str, Any]]:
        """Everything a machine may want to read, as flat records."""
        parts = (self.audience, self.staying, self.acquisition, self.outlook)
        return [record for part in parts for record in part.findings()]


def model_growth(
    data: Data,
    *,
    as_of: str = "",
    grain: Grain = "week",
    segment: str = "",
    compare_to: str = "",
    days: int = 0,
    levers: Mapping[str, float] | None = None,
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

    Returns:
        A `GrowthModel`.

    Raises:
        InputError: unfit data, a day outside them, an unknown segment.
    """
    data.require_fit()
    scope = choose_scope(data, as_of=as_of, grain=grain, segment=segment, compare_to=compare_to, days=days)
    audience = measure_audience(scope)
    staying = measure_staying(scope)
    acquisition = measure_acquisition_costs(scope)
    outlook = measure_outlook(scope, staying, acquisition, dict.fromkeys(LEVERS, 0.0) | dict(levers or {}))
    return GrowthModel(scope, audience, staying, acquisition, outlook, _find_missing(scope, acquisition))


def _find_missing(scope: Scope, acquisition: Acquisition) -> dict[str, str]:
    data, missing = scope.data, {}
    if "channel" not in data.attributes.columns:
        missing["New users by channel"] = "users (user_id, signup_at, channel)"
    if not data.has("spend"):
        missing["Cost of new users"] = "spend (date, channel, amount)"
    elif acquisition.shift is None and scope.segment and not scope.segment.startswith("channel:"):
        missing["Cost of new users"] = "spend by this segment (it is only known by channel)"
    if not data.has("orders"):
        missing["Value of new users"] = "orders (user_id, ts, amount)"
    elif acquisition.value is None:
        missing["Value of new users"] = "events (user_id, ts, event), so that users who never bought are known"
    if acquisition.domains is None:
        missing["Public and private domain"] = "users.domain (public or private)"
    if acquisition.moved is None:
        missing["Users moved to the private domain"] = "users.private_since (when a user joined a group)"
    if acquisition.referral is None:
        missing["Users brought by users"] = "referrals (inviter_id, invitee_id, ts)"
    if not data.has("events"):
        missing["What goes with staying"] = "events (user_id, ts, event)"
    if not scope.dimensions:
        missing["Who moved retention"] = "users with attributes such as channel or platform"
    return missing
