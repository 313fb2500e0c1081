"""The sample's tables: every column with its type, unit and meaning, and how a chunk becomes Arrow tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from opslib.data.sample_company.behaviour import NEVER
from opslib.data.sample_company.company import (
    CATEGORY_WORDS,
    DAY_SECONDS,
    EVENT_NAMES,
    EXPERIMENTS,
    OFFER_WORDS,
    TICKET_WORDS,
    SampleSettings,
)
from opslib.data.sample_company.contact import CAMPAIGN_WORDS, MEDIUM_WORDS
from opslib.data.sample_company.incidents import VOCABULARY
from opslib.data.sample_company.simulate import Chunk

FIRST_USER_ID = 100_001
ID_STRIDE = 10_000_000  # ids of other things: each chunk has its own ten million

_TS = pa.timestamp("ms")


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One column: its Arrow type, unit, meaning, and whether it may be empty."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table: what a row is, its columns, and the column the file is sorted by."""

    name: str
    grain: str
    sorted_by: str
    columns: tuple[ColumnSpec, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])


def _id(name: str, meaning: str, nullable: bool = False) -> ColumnSpec:
    return ColumnSpec(name, pa.int64(), "id", meaning, nullable)


def _at(name: str, meaning: str, nullable: bool = False) -> ColumnSpec:
    return ColumnSpec(name, _TS, "UTC", meaning, nullable)


def _word(name: str, meaning: str, nullable: bool = False) -> ColumnSpec:
    return ColumnSpec(name, pa.string(), "category", meaning, nullable)


def _money(name: str, meaning: str) -> ColumnSpec:
    return ColumnSpec(name, pa.float64(), "CNY", meaning)


def _flag(name: str, meaning: str) -> ColumnSpec:
    return ColumnSpec(name, pa.bool_(), "true/false", meaning)


_USER = _id("user_id", "the user")

TABLES: dict[str, TableSpec] = {
    table.name: table
    for table in (
        TableSpec("events", "one thing that one user did in the app", "ts", (
            _USER,
            _at("ts", "when it happened"),
            _word("event", "what was done: " + ", ".join(EVENT_NAMES)),
            _word("platform", "android, ios or web"),
            _word("app_version", "version of the app that the user ran; `web` on the web"),
            _id("session_id", "the visit it belongs to; a session lies within one local day"),
            _word("item_category", "category looked at; only on search and shopping events", True),
        )),
        TableSpec("users", "one registered user", "signup_at", (
            _USER,
            _at("signup_at", "when the user signed up; the same instant as the user's sign_up event"),
            _word("channel", "where the user came from; the same names as in spend"),
            _word("domain", "public (ads, stores, search, social) or private (referral, WeCom, community)"),
            _word("network", "ad network, for paid_ads and social", True),
            _word("platform", "android, ios or web"),
            _word("app_version_at_signup", "app version at sign-up"),
            _word("city_tier", "tier_1, new_tier_1, tier_2, tier_3_plus"),
            _word("age_band", "age in years at sign-up"),
            _at("private_since", "when a user from a public channel joined a WeCom group or community; "
                "the sign-up for private channels", True),
        )),
        TableSpec("orders", "one paid order; each has one pay event with the same user and instant", "ts", (
            _id("order_id", "the order"),
            _USER,
            _at("ts", "when it was paid"),
            _money("amount", "what the customer paid, after discount"),
            _money("discount", "what the coupon took off"),
            _money("cost", "cost of the goods or content sold"),
            _id("coupon_id", "the coupon used", True),
            _word("category", "what was bought: " + ", ".join(CATEGORY_WORDS)),
        )),
        TableSpec("coupons", "one coupon given to one user", "issued_at", (
            _id("coupon_id", "the coupon"),
            _USER,
            _at("issued_at", "when it was given"),
            _at("expires_at", "when it stops being valid (a local midnight); may lie after the data's end"),
            _at("redeemed_at", "when it was used: the instant of its order; empty: not used", True),
            _word("offer", "which offer: " + ", ".join(OFFER_WORDS)),
        )),
        TableSpec("spend", "one day's marketing spend on one channel", "date", (
            ColumnSpec("date", pa.date32(), "local day", "the day in Asia/Shanghai"),
            _word("channel", "the same names as users.channel; referral costs are in referrals.reward"),
            _money("amount", "money spent: media for paid channels, upkeep and content for the others"),
        )),
        TableSpec("messages", "one message sent to one user", "ts", (
            _id("message_id", "the message"),
            _USER,
            _at("ts", "when it was sent"),
            _word("channel", "sms, push, wecom or email"),
            _word("campaign", "what it was sent for: " + ", ".join(CAMPAIGN_WORDS)),
            _flag("delivered", "it arrived"),
            _flag("opened", "it was opened; implies delivered"),
            _flag("clicked", "its link was followed; implies opened, and a session soon after"),
        )),
        TableSpec("referrals", "one user brought by another", "ts", (
            _id("inviter_id", "the user who invited"),
            _id("invitee_id", "the user who came; signed up through the referral channel"),
            _at("ts", "when the invited user signed up"),
            _word("kind", "invite_rebate or group_buy"),
            _money("reward", "what the reward cost"),
        )),
        TableSpec("tickets", "one request or complaint to support", "opened_at", (
            _id("ticket_id", "the ticket"),
            _USER,
            _at("opened_at", "when it was opened"),
            _word("category", "what it is about: " + ", ".join(TICKET_WORDS)),
            _flag("is_complaint", "it is a complaint"),
            _at("closed_at", "when it was closed; empty: still open when the data end", True),
        )),
        TableSpec("surveys", "one answer to one survey question", "ts", (
            _USER,
            _at("ts", "when it was answered"),
            _word("kind", "nps (0 to 10) or csat (1 to 5)"),
            ColumnSpec("score", pa.int8(), "points", "the answer"),
        )),
        TableSpec("exposures", "one user's entry into one experiment", "ts", (
            _USER,
            _word("experiment", "which: " + ", ".join(e.name for e in EXPERIMENTS)),
            _word("variant", "the side of the split, for example control or holdout"),
            _at("ts", "sign-up, first checkout, or the start of the sale"),
        )),
        TableSpec("traffic", "five minutes of the site's traffic", "ts", (
            _at("ts", "start of the five minutes"),
            ColumnSpec("requests", pa.int32(), "requests", "requests received"),
            ColumnSpec("errors", pa.int32(), "requests", "requests that failed; part of requests"),
            ColumnSpec("p95_ms", pa.int32(), "ms", "95 of 100 requests were answered within this"),
        )),
    )
}  # fmt: skip
COMPANY_TABLES = ("spend", "traffic")


def words_column(codes: np.ndarray, words: tuple[str, ...]) -> pa.Array:
    """Codes as a dictionary column; -1 is empty."""
    small = codes.astype(np.int8)
    return pa.DictionaryArray.from_arrays(pa.array(small, mask=small < 0), pa.array(words))


def time_column(seconds: np.ndarray, settings: SampleSettings, empty: np.ndarray | None = None) -> pa.Array:
    """Seconds from the window's start as naive UTC timestamps."""
    stamps = ((seconds.astype(np.int64) + settings.epoch) * 1000).view("datetime64[ms]")
    return pa.array(stamps, mask=empty)


def build_tables(chunk: Chunk, settings: SampleSettings) -> dict[str, pa.Table]:
    """The Arrow tables of one chunk, each in order of time, with ids that no other chunk uses."""
    users, codes = chunk.users, chunk.users.codes
    first_user = FIRST_USER_ID + chunk.number * settings.chunk_users
    first_id = chunk.number * ID_STRIDE + 1
    end = settings.days * DAY_SECONDS

    def user(rows: np.ndarray) -> pa.Array:
        return pa.array(rows.astype(np.int64) + first_user)

    def at(seconds: np.ndarray, empty: np.ndarray | None = None) -> pa.Array:
        return time_column(seconds, settings, empty)

    def coded(name: str) -> pa.Array:
        return words_column(codes[name], VOCABULARY[name])

    def row_ids(count: int) -> pa.Array:
        return pa.array(np.arange(count, dtype=np.int64) + first_id)

    signed_up = users.signup_day * DAY_SECONDS + users.signup_second
    private = codes["domain"] == 1
    private_since = np.where(private, signed_up, chunk.private_since)
    event = chunk.tables["events"]
    first_version = np.empty(users.count, dtype=np.int8)
    first_version[event["user"][::-1]] = event["version"][::-1]
    order, message, ticket, survey = (
        _by_time(chunk.tables[name], key)
        for name, key in (
            ("orders", "second"),
            ("messages", "second"),
            ("tickets", "opened"),
            ("surveys", "second"),
        )
    )
    coupon = chunk.tables["coupons"]
    by_issue = np.argsort(coupon["issued"], kind="stable")
    referral, exposure = chunk.tables["referrals"], chunk.tables["exposures"]
    arms = tuple(dict.fromkeys(word for e in EXPERIMENTS for word in e.variants))
    arm_code = np.full((len(EXPERIMENTS), 2), -1)
    for row, experiment in enumerate(EXPERIMENTS):
        arm_code[row] = [arms.index(word) for word in experiment.variants]

    columns: dict[str, list[pa.Array]] = {
        "events": [
            user(event["user"]), at(event["second"]), words_column(event["event"], EVENT_NAMES),
            words_column(codes["platform"].astype(np.int8)[event["user"]], VOCABULARY["platform"]),
            words_column(event["version"], VOCABULARY["app_version"]),
            pa.array(event["session"].astype(np.int64) + first_id),
            words_column(event["category"], CATEGORY_WORDS),
        ],
        "users": [
            user(np.arange(users.count)), at(signed_up),
            *(coded(name) for name in ("channel", "domain", "network", "platform")),
            words_column(first_version, VOCABULARY["app_version"]),
            *(coded(name) for name in ("city_tier", "age_band")),
            at(private_since, private_since == NEVER),
        ],
        "orders": [
            row_ids(len(order["user"])), user(order["user"]), at(order["second"]),
            pa.array(order["amount"]), pa.array(order["discount"]), pa.array(order["cost"]),
            pa.array(order["coupon"] + first_id, mask=order["coupon"] < 0),
            words_column(order["category"], CATEGORY_WORDS),
        ],
        "coupons": [
            pa.array(by_issue + first_id), user(coupon["user"][by_issue]),
            at(coupon["issued"][by_issue]), at(coupon["expires"][by_issue]),
            at(coupon["redeemed"][by_issue], coupon["redeemed"][by_issue] < 0),
            words_column(coupon["offer"][by_issue], OFFER_WORDS),
        ],
        "messages": [
            row_ids(len(message["user"])), user(message["user"]), at(message["second"]),
            words_column(message["medium"], MEDIUM_WORDS), words_column(message["campaign"], CAMPAIGN_WORDS),
            *(pa.array(message[name]) for name in ("delivered", "opened", "clicked")),
        ],
        "referrals": [
            user(referral["inviter"]), user(referral["invitee"]), at(referral["second"]),
            words_column(referral["kind"], ("invite_rebate", "group_buy")), pa.array(referral["reward"]),
        ],
        "tickets": [
            row_ids(len(ticket["user"])), user(ticket["user"]), at(ticket["opened"]),
            words_column(ticket["category"], TICKET_WORDS), pa.array(ticket["is_complaint"]),
            at(ticket["closed"], ticket["closed"] >= end),
        ],
        "surveys": [
            user(survey["user"]), at(survey["second"]), words_column(survey["kind"], ("nps", "csat")),
            pa.array(survey["score"].astype(np.int8)),
        ],
        "exposures": [
            user(exposure["user"]), words_column(exposure["experiment"], tuple(e.name for e in EXPERIMENTS)),
            words_column(arm_code[exposure["experiment"], exposure["arm"]], arms), at(exposure["second"]),
        ],
    }  # fmt: skip
    return {name: _assemble(name, arrays) for name, arrays in columns.items()}


def _by_time(table: dict[str, np.ndarray], key: str) -> dict[str, np.ndarray]:
    order = np.argsort(table[key], kind="stable")
    return {name: values[order] for name, values in table.items()}


def _assemble(name: str, arrays: list[pa.Array]) -> pa.Table:
    # Dictionary columns stay so in memory: the writer needs no strings, and the file does not say so.
    spec = TABLES[name]
    fields = [
        pa.field(column.name, array.type, nullable=column.nullable)
        for column, array in zip(spec.columns, arrays, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))
