"""Companies that engines are compared on: a part of the sample company, and companies made of random streams."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from opslib.data.periods import DAY

ROOT = Path(__file__).resolve().parents[2]
TABLES = (
    "events", "users", "orders", "coupons", "spend", "messages", "referrals", "tickets", "surveys", "exposures",
    "traffic",
)  # fmt: skip
# Tables whose rows belong to nobody are taken whole.
# Those that the playbook names, and one that wants quoting.
CHANNELS = ["search", "paid_ads", "social", "referral", "app_store", "community", 'quo"ted']
_USER = {"referrals": "invitee_id", "spend": "", "traffic": ""}


def take_part(samples: Path, *, every: int = 20) -> dict[str, pa.Table]:
    """All tables of the sample company, of every so many-th user."""
    tables = {}
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name in TABLES:
            source = samples / ("events/*.parquet" if name == "events" else f"{name}.parquet")
            user = _USER.get(name, "user_id")
            kept = f"WHERE {user} % {every} = 0" if user else ""
            # A day of traffic is enough to tell one engine's answer from another's.
            kept = "WHERE minute(ts) = 0" if name == "traffic" else kept
            tables[name] = connection.execute(f"FROM '{source}' {kept} ORDER BY ALL").fetch_arrow_table()
    return tables


def draw_tables(seed: int, *, users: int = 80, days: int = 240) -> dict[str, pa.Table]:
    """All tables of a company of random streams: ties to the second, gaps, missing values, texts of any kind."""
    r = np.random.default_rng(seed)
    last = dt.datetime(2026, 6, 30, 15, 59, 59)
    start = last - days * DAY
    span = days * 86_400

    def times(n: int, *, grain: int = 60) -> list[dt.datetime]:
        return [start + dt.timedelta(seconds=int(s) // grain * grain) for s in r.integers(0, span, n)]

    def some(values: list, n: int, *, missing: float = 0.0) -> list:  # type: ignore[type-arg]
        return [None if r.random() < missing else values[i] for i in r.integers(0, len(values), n)]

    def ids(n: int) -> list[int]:
        return (users * r.random(n) ** 2).astype(int).tolist()

    n = 40 * users
    # Bursts: the steps of a funnel follow one another within minutes, some at the same second.
    bursts = [(u, t) for u, t in zip(ids(n // 4), times(n // 4, grain=300), strict=True)]
    rows = [(u, t + dt.timedelta(seconds=int(r.choice([0, 0, 30, 3600])) * i)) for u, t in bursts for i in range(4)]
    rows = [(u, min(t, last)) for u, t in rows] + [(0, last)]
    n = len(rows)
    names = ["view_item", "add_to_cart", "begin_checkout", "pay", "error_shown", "open"]
    weights = [0.35, 0.25, 0.15, 0.1, 0.05, 0.1]
    platforms = ["ios", "android", "web", "小程序"]
    tables = {
        "events": {
            "user_id": pa.array([u for u, _ in rows], pa.int64()),
            "ts": pa.array([t for _, t in rows], pa.timestamp("us")),
            "event": r.choice(names, n, p=weights).tolist(),
            "platform": some(platforms, n, missing=0.05),
            "app_version": some(["1.0", "1.10", "2.0"], n),
            "session_id": pa.array(r.integers(0, n // 3, n), pa.int64()),
            "item_category": some(["tea", "cup", "it's", ""], n, missing=0.2),
        },
        "users": {
            "user_id": pa.array(range(users), pa.int64()),
            "signup_at": pa.array([start - DAY + (t - start) / 2 for t in times(users)], pa.timestamp("us")),
            "channel": some(CHANNELS, users, missing=0.1),
            "domain": some(["public", "private"], users, missing=0.1),
            "network": some(["a", "b"], users),
            "platform": some(platforms, users, missing=0.1),
            "app_version_at_signup": some(["1.0", "2.0"], users),
            "city_tier": some(["1", "2", "3"], users, missing=0.1),
            "age_band": some(["18-24", "25-34", "35+"], users, missing=0.1),
            "private_since": pa.array([t if r.random() < 0.3 else None for t in times(users)], pa.timestamp("us")),
        },
    }
    n = 6 * users
    tables["orders"] = {
        "order_id": pa.array(range(n), pa.int64()),
        "user_id": pa.array(ids(n), pa.int64()),
        "ts": pa.array(times(n), pa.timestamp("us")),
        "amount": np.round(r.gamma(2, 40, n), 2).tolist(),
        "discount": np.round(r.choice([0, 0, 5.5, 10], n), 2).tolist(),
        "cost": np.round(r.gamma(2, 20, n), 2).tolist(),
        "coupon_id": pa.array([None] * n, pa.int64()),
        "category": some(["tea", "cup"], n, missing=0.1),
    }
    issued = times(n, grain=3600)
    tables["coupons"] = {
        "coupon_id": pa.array(range(n), pa.int64()),
        "user_id": pa.array(ids(n), pa.int64()),
        "issued_at": pa.array(issued, pa.timestamp("us")),
        "expires_at": pa.array([t + 14 * DAY for t in issued], pa.timestamp("us")),
        "redeemed_at": pa.array(
            [min(t + 3 * DAY, last) if r.random() < 0.3 else None for t in issued], pa.timestamp("us")
        ),
        "offer": some(["5 off", "10%"], n),
    }
    tables["messages"] = {
        "message_id": pa.array(range(n), pa.int64()),
        "user_id": pa.array(ids(n), pa.int64()),
        "ts": pa.array(times(n), pa.timestamp("us")),
        "channel": some(["push", "sms", "email"], n),
        "campaign": some(["may", "june"], n, missing=0.2),
        "delivered": some([True, True, False], n),
        "opened": some([True, False], n, missing=0.1),
        "clicked": some([True, False, False], n),
    }
    tables["exposures"] = {
        "user_id": pa.array(range(users), pa.int64()),
        "experiment": ["offer"] * users,
        "variant": ["treated" if u % 2 else "holdout" for u in range(users)],
        "ts": pa.array([start + (days - 60) * DAY + dt.timedelta(hours=u) for u in range(users)], pa.timestamp("us")),
    }
    n = users // 4
    tables["referrals"] = {
        "inviter_id": pa.array(ids(n), pa.int64()),
        "invitee_id": pa.array(r.permutation(users)[:n].tolist(), pa.int64()),
        "ts": pa.array(times(n), pa.timestamp("us")),
        "kind": some(["code", "group"], n),
        "reward": np.round(r.choice([0, 5, 10.5], n), 2).tolist(),
    }
    dates = [(start + i * DAY).date() for i in range(1, days + 1)]
    tables["spend"] = {
        "date": pa.array(dates * 2, pa.date32()),
        "channel": ["search"] * days + ["paid_ads"] * days,
        "amount": np.round(r.gamma(2, 50, 2 * days), 2).tolist(),
    }
    n = 3 * users
    tables["surveys"] = {
        "user_id": pa.array(ids(n), pa.int64()),
        "ts": pa.array(times(n), pa.timestamp("us")),
        "kind": ["nps"] * (n // 2) + ["csat"] * (n - n // 2),
        "score": pa.array([*r.integers(0, 11, n // 2), *r.integers(1, 6, n - n // 2)], pa.int8()),
    }
    opened = times(n)
    tables["tickets"] = {
        "ticket_id": pa.array(range(n), pa.int64()),
        "user_id": pa.array(ids(n), pa.int64()),
        "opened_at": pa.array(opened, pa.timestamp("us")),
        "category": some(["refund", "fault", "other"], n, missing=0.1),
        "is_complaint": some([True, False], n),
        "closed_at": pa.array(
            [min(t + dt.timedelta(hours=int(h)), last) if r.random() < 0.8 else None for t, h in
             zip(opened, r.integers(1, 90, n), strict=True)],
            pa.timestamp("us"),
        ),
    }  # fmt: skip
    n = 24 * days
    requests = r.poisson(2000, n)
    tables["traffic"] = {
        "ts": pa.array([last - dt.timedelta(hours=i, seconds=3599) for i in range(n)], pa.timestamp("us")),
        "requests": pa.array(requests, pa.int32()),
        "errors": pa.array(r.binomial(requests, 0.01), pa.int32()),
        "p95_ms": pa.array(r.integers(50, 400, n), pa.int32()),
    }
    return {name: pa.table(columns) for name, columns in tables.items()}


def double_users(tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """The same company with everybody in it twice."""
    doubled = {}
    for name, table in tables.items():
        again = table
        for column in ("user_id", "inviter_id", "invitee_id", "order_id", "coupon_id", "message_id", "ticket_id"):
            if column in table.column_names:
                moved = pc.add(table[column], 1_000_000)
                again = again.set_column(table.column_names.index(column), column, moved)
        doubled[name] = pa.concat_tables([table, again]) if again is not table else table
    return doubled


def write_company(folder: Path, tables: Mapping[str, pa.Table]) -> Path:
    """Write tables as Parquet files, and a playbook over them; gives the playbook."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return write_playbook(folder / "playbook.toml", {name: f"{name}.parquet" for name in tables})


def write_playbook(file: Path, sources: Mapping[str, str], *, url: str = "") -> Path:
    """Write the sample company's playbook, but with these sources and this URL."""
    text = (ROOT / "playbook.toml").read_text("utf-8")
    head, rest = text.split("[tables]\n")
    after = rest[rest.index("# Targets") :]
    named = "".join(f'{name} = {{ source = "{source}" }}\n' for name, source in sources.items())
    where = f'[data]\nurl = "{url}"\n\n' if url else ""
    file.write_text(f"{head}{where}[tables]\n{named}\n{after}", "utf-8")
    return file
