"""Data without events and orders: who the users are."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from opslib.data.contract import CONTRACTS
from opslib.language import mark

# Tables that tell of days, but not of who was active on them.
WITHOUT_USERS = ("tickets", "surveys", "traffic")
NO_TIME = mark("there is no time in it, so nothing says on which day tenure_months and ended were looked up")
NAME_A_DAY = mark("Write that day under [company], for example data_until = 2026-06-30.")


def describe_subscribers(table: ir.Table) -> ir.Table:
    """One row a user: the texts and flags of the first subscription.

    Args:
        table: the contract's table subscriptions; further columns are the attributes.

    Returns:
        user_id and every further column that is a text or a flag. The first subscription is the one that started
        first or, where there are no starts, the longest; of equal ones the first by its attributes.

    >>> rows = {"user_id": [1, 1, 2], "started_at": ["2026-02-01", "2026-01-01", None], "plan": ["gold", "basic", "x"]}
    >>> table = ibis.memtable(rows).cast({"started_at": "timestamp"})
    >>> describe_subscribers(table).order_by("user_id").to_pandas()["plan"].tolist()
    ['basic', 'x']
    """
    contract = CONTRACTS["subscriptions"]
    kinds = {c: table[c].type() for c in table.columns if c not in contract.names}
    shown = [c for c, kind in kinds.items() if kind.is_string() or kind.is_boolean()]
    order = [table.started_at.asc()] if "started_at" in table.columns else []
    order += [table.tenure_months.desc()] if "tenure_months" in table.columns else []
    nth = ibis.row_number().over(group_by="user_id", order_by=[*order, *(table[c] for c in shown)])
    table = table.filter(table.user_id.notnull()).select("user_id", *shown, _nth=nth)
    return table.filter(table._nth == 0).drop("_nth")


def list_users(table: ir.Table) -> ir.Table:
    """The users that a table names, one row each: user_id; none where it names none.

    >>> list_users(ibis.memtable({"user_id": [1, 1, 2]})).count().to_pandas()
    2
    """
    named = table.user_id if "user_id" in table.columns else ibis.null("string")
    users = table.select(user_id=named).distinct()
    return users.filter(users.user_id.notnull())
