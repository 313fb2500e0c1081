"""What each table must hold: the names, kinds and grain that every notebook relies on.

A user's own names are mapped to these in `playbook.toml`. Columns that are not named here are kept as they are, as
event properties or user attributes.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

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


def _user(meaning: str = "who did it", name: str = "user_id") -> Column:
    return Column(name, "key", meaning, required=True)


def _at(name: str, meaning: str, required: bool = True) -> Column:
    return Column(name, "timestamp", meaning, required)


CONTRACTS: dict[str, Contract] = {
    contract.table: contract
    for contract in (
        Contract(
            "events",
            "one thing that one user did",
            (
                _user(),
                _at("ts", "when"),
                Column("event", "text", "what was done, for example app_open", required=True),
            ),
        ),
        Contract(
            "users",
            "one user",
            (
                _user("who"),
                _at("signup_at", "when the user signed up"),
                Column("channel", "text", "where the user came from, for example search"),
                Column("domain", "text", "public traffic (search, social, ads) or private (groups, WeCom)"),
                _at("private_since", "when the user joined a private group, if ever", required=False),
            ),
            unique="user_id",
        ),
        Contract(
            "orders",
            "one paid order (or one line of an order, with rows = 'lines')",
            (
                _user("who bought"),
                _at("ts", "when it was paid"),
                Column("amount", "number", "what the customer paid, after discount", required=True),
                Column("order_id", "key", "the order; without it every row is an order"),
                Column("discount", "number", "what was taken off the price"),
                Column("cost", "number", "what the goods cost us"),
            ),
            unique="order_id",
        ),
        Contract(
            "subscriptions",
            "one subscription of one user",
            (
                _user("whose it is"),
                _at("started_at", "when it started", required=False),
                _at("ended_at", "when it ended; empty: it still runs", required=False),
                Column("tenure_months", "number", "for how many months it has run, or ran until it ended"),
                Column("ended", "flag", "it has ended"),
            ),
            either=(("started_at",), ("tenure_months", "ended")),
            span=("started_at", "ended_at"),
            repeats=False,
        ),
        Contract(
            "coupons",
            "one coupon given to one user",
            (
                Column("coupon_id", "key", "the coupon", required=True),
                _user("who got it"),
                _at("issued_at", "when it was given"),
                _at("expires_at", "when it stops being valid"),
                _at("redeemed_at", "when it was used; empty: not used", required=False),
            ),
            unique="coupon_id",
        ),
        Contract(
            "spend",
            "one day's spend on one channel",
            (
                Column("date", "date", "the day, in the company's time zone", required=True),
                Column("channel", "text", "the same names as users.channel", required=True),
                Column("amount", "number", "money spent", required=True),
            ),
        ),
        Contract(
            "messages",
            "one message sent to one user",
            (
                Column("message_id", "key", "the message", required=True),
                _user("who was to get it"),
                _at("ts", "when it was sent"),
                Column("channel", "text", "sms, push, email, wecom"),
                Column("campaign", "text", "what it was sent for"),
                Column("delivered", "flag", "it arrived"),
                Column("opened", "flag", "it was opened"),
                Column("clicked", "flag", "a link in it was followed"),
            ),
            unique="message_id",
        ),
        Contract(
            "referrals",
            "one user brought by another",
            (
                _user("who invited", "inviter_id"),
                _user("who came", "invitee_id"),
                _at("ts", "when the invited user joined"),
                Column("kind", "text", "for example invite_rebate or group_buy"),
                Column("reward", "number", "what the reward cost us"),
            ),
        ),
        Contract(
            "tickets",
            "one request or complaint to support",
            (
                Column("ticket_id", "key", "the ticket", required=True),
                _user("who asked"),
                _at("opened_at", "when it was opened"),
                Column("category", "text", "what it is about"),
                Column("is_complaint", "flag", "it is a complaint", required=True),
                _at("closed_at", "when it was closed; empty: still open", required=False),
            ),
            unique="ticket_id",
        ),
        Contract(
            "surveys",
            "one answer to one survey question",
            (
                _user("who answered"),
                _at("ts", "when"),
                Column("kind", "text", "nps (0 to 10) or csat (1 to 5)", required=True, allowed=("nps", "csat")),
                Column("score", "number", "the answer", required=True),
            ),
        ),
        Contract(
            "exposures",
            "one user's first sight of one experiment",
            (
                _user("who saw it"),
                Column("experiment", "text", "which experiment", required=True),
                Column("variant", "text", "which variant", required=True),
                _at("ts", "when it was first seen"),
            ),
        ),
        Contract(
            "traffic",
            "one interval of the site's traffic",
            (
                _at("ts", "start of the interval"),
                Column("requests", "number", "requests in the interval", required=True),
                Column("errors", "number", "requests that failed"),
                Column("p95_ms", "number", "95 of 100 requests were faster than this, in milliseconds"),
            ),
            unique="ts",
        ),
    )
}
