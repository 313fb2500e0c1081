"""Small companies for tests: files and a playbook in a folder, opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from opslib.data.source import Data, open_data

COMPANY = '[company]\nname = "Tea shop"\ndata_until = 2026-06-30\n'
EVENTS = '[tables.events]\nsource = "events.csv"\n'
ORDERS = '[tables.orders]\nsource = "orders.csv"\n'
USERS = '[tables.users]\nsource = "users.csv"\n'
HEAD = "user_id,ts,event\n"
# Five users, active on three days of January to June each.
GOOD = HEAD + "".join(
    f"{u},2026-{m:02}-1{d} 1{d}:00:00,open\n" for u in range(1, 6) for m in range(1, 7) for d in (0, 1, 2)
)

Content = str | bytes | pd.DataFrame | Callable[[Path], Any]


def write_company(folder: Path, files: dict[str, Content], tables: str = EVENTS, company: str = COMPANY) -> Path:
    """Write files and a playbook; a frame becomes Parquet or CSV by its name's ending."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pd.DataFrame):
            content.to_parquet(path) if path.suffix == ".parquet" else content.to_csv(path, index=False)
        elif isinstance(content, str):
            path.write_bytes(content.encode())
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content(path)
    playbook = folder / "playbook.toml"
    playbook.write_text(company + tables, encoding="utf-8")
    return playbook


def open_company(folder: Path, files: dict[str, Content], tables: str = EVENTS, company: str = COMPANY) -> Data:
    """Write a company and open it."""
    return open_data(write_company(folder, files, tables, company))


def open_events(folder: Path, rows: Sequence[str], options: str = "", company: str = COMPANY) -> Data:
    """Open a company of events only; each row is `user,time,event`."""
    return open_company(folder, {"events.csv": HEAD + "".join(f"{r}\n" for r in rows)}, EVENTS + options, company)


def find_problems(data: Data) -> dict[tuple[str, str], tuple[int, str]]:
    """All problems: (rule, table.column) -> (count, severity)."""
    return {(p.rule, f"{p.table}.{p.column}"): (p.count, p.severity) for p in data.fitness.problems}
