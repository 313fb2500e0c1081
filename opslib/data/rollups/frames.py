"""Frames of counts by period, kept beside the rollups: what a series counted of past days is not counted again."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from opslib.data.rollups.store import Rollups

FOLDER = "frames"
_ABOUT = b"opslib"


@dataclass(frozen=True)
class KeptFrame:
    """A frame with a row for each period and group, as it was counted once.

    Attributes:
        frame: the counts.
        end: the day after the last that was looked at.
        version: of the rollups at that time.
    """

    frame: pd.DataFrame
    end: dt.date
    version: int


def load_frame(rollups: Rollups, key: Any) -> KeptFrame | None:
    """Read the frame that was kept under a key; None where there is none of this store."""
    path = _find_place(rollups, key)
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[_ABOUT])
        if about["store"] != rollups.store or about["key"] != repr(key):
            return None
        return KeptFrame(table.to_pandas(), dt.date.fromisoformat(about["end"]), int(about["version"]))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None


def save_frame(rollups: Rollups, key: Any, frame: pd.DataFrame, *, end: dt.date) -> None:
    """Keep a frame under a key. A folder that cannot be written to is no reason to stop: nothing is kept then."""
    about = {"store": rollups.store, "key": repr(key), "end": end.isoformat(), "version": rollups.version}
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _ABOUT: json.dumps(about).encode()})
    path = _find_place(rollups, key)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
        os.close(handle)
        try:
            pq.write_table(table, name)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)


def _find_place(rollups: Rollups, key: Any) -> Path:
    return rollups.folder / FOLDER / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.parquet"
