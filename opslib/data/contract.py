"""What each table must hold: the names, kinds and grain that every notebook relies on.

A user's own names are mapped to these in `playbook.toml`. Columns that are not named here are kept as they are, as
event properties or user attributes.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

from opslib.language import mark

Kind = Literal["key", "text", "number", "timestamp", "date", "flag"]


@dataclass(frozen=True)
class Column:
    """One column of the contract."""

    name: str
    kind: Kind
    meaning: str
    required: bool = False
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contract:
    """One table of the contract: what a row is, which column is unique, which columns there are.

    Attributes:
        table: its name.
        grain: what a row is.
        columns: what it holds.
        unique: the column that no two rows share.
        either: groups of columns, of which a table, and each of its rows, must have one whole.
        span: the columns between whose times a row lies; empty: the first column with a time.
        repeats: whether two rows may be alike in every column.
    """

    table: str
    grain: str
    columns: tuple[Column, ...]
    unique: str | None = None
    either: tuple[tuple[str, ...], ...] = ()
    span: tuple[str, ...] = ()
    repeats: bool = True

    def column(self, name: str) -> Column | None:
        """Find a column by name, or None."""
        return next((c for c in self.columns if c.name == name), None)

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [c.name for c in self.columns]

    @property
    def time_column(self) -> str | None:
        """The column that says when a row happened."""
        return next((c.name for c in self.columns if c.kind in ("timestamp", "date")), None)

    @property
    def time_columns(self) -> tuple[str, ...]:
        """The columns that say from when to when the table reaches."""
        return self.span or ((self.time_column,) if self.time_column else ())

    def find_groups(self, names: Container[str]) -> list[tuple[str, ...]]:
        """The groups of `either` that are whole among these columns."""
        return [group for group in self.either if all(name in names for name in group)]


def _user(meaning: str = mark("who did it"), name: str = "user_id") -> Column:
    return Column(name, "key", meaning, required=True)


def _at(name: str, meaning: str, required: bool = True) -> Column:
    return Column(name, "timestamp", meaning, required)


CONTRACTS: dict[str, Contract] = {
    contract.table: contract
    for contract in (
        Contract(
            "events",
            mark("one thing that one user did"),
            (
                _user(),
                _at("ts", mark("when")),
                Column("event", "text", mark("what was done, for example app_open"), required=True),
            ),
        ),
        Contract(
            "users",
            mark("one user"),
            (
                _user(mark("who")),
                _at("signup_at", mark("when the user signed up")),
                Column("channel", "text", mark("where the user came from, for example search")),
                Column("domain", "text", mark("public traffic (search, social, ads) or private (groups, WeCom)")),
                _at("private_since", mark("when the user joined a private group, if ever"), required=False),
            ),
            unique="user_id",
        ),
        Contract(
            "orders",
            mark("one paid order (or one line of an order, with rows = 'lines')"),
            (
                _user(mark("who bought")),
                _at("ts", mark("when it was paid")),
                Column("amount", "number", mark("what the customer paid, after discount"), required=True),
                Column("order_id", "key", mark("the order; without it every row is an order")),
                Column("discount", "number", mark("what was taken off the price")),
                Column("cost", "number", mark("what the goods cost us")),
            ),
            unique="order_id",
        ),
        Contract(
            "subscriptions",
            mark("one subscription of one user"),
            (
                _user(mark("whose it is")),
                _at("started_at", mark("when it started"), required=False),
                _at("ended_at", mark("when it ended; empty: it still runs"), required=False),
                Column("tenure_months", "number", mark("for how many months it has run, or ran until it ended")),
                Column("ended", "flag", mark("it has ended")),
            ),
            either=(("started_at",), ("tenure_months", "ended")),
            span=("started_at", "ended_at"),
            repeats=False,
        ),
        Contract(
            "coupons",
            mark("one coupon given to one user"),
            (
                Column("coupon_id", "key", mark("the coupon"), required=True),
                _user(mark("who got it")),
                _at("issued_at", mark("when it was given")),
                _at("expires_at", mark("when it stops being valid")),
                _at("redeemed_at", mark("when it was used; empty: not used"), required=False),
            ),
            unique="coupon_id",
        ),
        Contract(
            "spend",
            mark("one day's spend on one channel"),
            (
                Column("date", "date", mark("the day, in the company's time zone"), required=True),
                Column("channel", "text", mark("the same names as users.channel"), required=True),
                Column("amount", "number", mark("money spent"), required=True),
            ),
        ),
        Contract(
            "messages",
            mark("one message sent to one user"),
            (
                Column("message_id", "key", mark("the message"), required=True),
                _user(mark("who was to get it")),
                _at("ts", mark("when it was sent")),
                Column("channel", "text", mark("sms, push, email, wecom")),
                Column("campaign", "text", mark("what it was sent for")),
                Column("delivered", "flag", mark("it arrived")),
                Column("opened", "flag", mark("it was opened")),
                Column("clicked", "flag", mark("a link in it was followed")),
            ),
            unique="message_id",
        ),
        Contract(
            "referrals",
            mark("one user brought by another"),
            (
                _user(mark("who invited"), "inviter_id"),
                _user(mark("who came"), "invitee_id"),
                _at("ts", mark("when the invited user joined")),
                Column("kind", "text", mark("for example invite_rebate or group_buy")),
                Column("reward", "number", mark("what the reward cost us")),
            ),
        ),
        Contract(
            "tickets",
            mark("one request or complaint to support"),
            (
                Column("ticket_id", "key", mark("the ticket"), required=True),
                _user(mark("who asked")),
                _at("opened_at", mark("when it was opened")),
                Column("category", "text", mark("what it is about")),
                Column("is_complaint", "flag", mark("it is a complaint"), required=True),
                _at("closed_at", mark("when it was closed; empty: still open"), required=False),
            ),
            unique="ticket_id",
        ),
        Contract(
            "surveys",
            mark("one answer to one survey question"),
            (
                _user(mark("who answered")),
                _at("ts", mark("when")),
                Column("kind", "text", mark("nps (0 to 10) or csat (1 to 5)"), required=True, allowed=("nps", "csat")),
                Column("score", "number", mark("the answer"), required=True),
            ),
        ),
        Contract(
            "exposures",
            mark("one user's first sight of one experiment"),
            (
                _user(mark("who saw it")),
                Column("experiment", "text", mark("which experiment"), required=True),
                Column("variant", "text", mark("which variant"), required=True),
                _at("ts", mark("when it was first seen")),
            ),
        ),
        Contract(
            "traffic",
            mark("one interval of the site's traffic"),
            (
                _at("ts", mark("start of the interval")),
                Column("requests", "number", mark("requests in the interval"), required=True),
                Column("errors", "number", mark("requests that failed")),
                Column("p95_ms", "number", mark("95 of 100 requests were faster than this, in milliseconds")),
            ),
            unique="ts",
        ),
    )
}
