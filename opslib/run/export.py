"""Write a table of users to a file, only when somebody asks for it: CSV that no spreadsheet runs, or Parquet.

Lists of users leave the engine here and nowhere else. The file is written beside its destination and put into place
when it is whole; a file that is there already stays unless `force` is said. Only its owner may read it.
"""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import ibis.expr.types as ir
import pyarrow as pa

from opslib.errors import InputError

Format = Literal["csv", "parquet"]

SUFFIXES: dict[str, Format] = {".csv": "csv", ".parquet": "parquet"}
# What a spreadsheet takes for a formula, also after blanks, and the full-width forms that it reads alike.
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\u2212")
_BLANKS = " \u00a0\u3000\ufeff\u200b\0"
ROWS = 50_000


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        path: the file.
        format: "csv" or "parquet".
        rows_count, bytes_count: its size.
        guarded_count: cells that got an apostrophe in front, so that no spreadsheet takes them for a formula.
    """

    path: Path
    format: Format
    rows_count: int
    bytes_count: int
    guarded_count: int


def export_table(
    table: ir.Table, path: str | Path, *, form: Format | None = None, bom: bool = False, force: bool = False
) -> Export:
    """Write a table to a CSV or Parquet file.

    Args:
        table: any Ibis table, for example the users of a win-back plan; fetched in batches.
        path: the file; its name ends in .csv or .parquet unless `form` is given.
        form: "csv" or "parquet".
        bom: begin a CSV with the mark by which Excel knows UTF-8.
        force: replace a file that is there.

    Returns:
        An `Export`.

    Raises:
        InputError: another ending, a file that is there, a folder that is not, no space or right to write. Nothing is
            left behind then.

    CSV: UTF-8, comma, CRLF (RFC 4180), times as ISO text in the zone of the table, missing values empty. Texts that
    begin like a formula get an apostrophe; numbers stay numbers, also negative ones.

    Source: OWASP, "CSV Injection".

    >>> import ibis, tempfile
    >>> table = ibis.memtable({"user_id": [1], "offer": ["=cmd()"], "value_amount": [-2.5]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = export_table(table, Path(folder) / "list.csv")
    ...     done.path.read_text("utf-8").splitlines(), done.guarded_count
    (['user_id,offer,value_amount', "1,'=cmd(),-2.5"], 1)
    """
    target = Path(path).expanduser()
    chosen = form or SUFFIXES.get(target.suffix.lower())
    if chosen not in ("csv", "parquet"):
        raise InputError(f"'{target.name}' is neither .csv nor .parquet: name a file that ends in one of them.")
    _check_target(target, force)
    try:
        with _open_aside(target, force) as file:
            if chosen == "parquet":
                rows, guarded = _write_parquet(table, file), 0
            else:
                rows, guarded = _write_csv(table, file, bom)
    except OSError as error:
        raise InputError(f"'{target}' cannot be written: {error.strerror or error}.") from None
    return Export(target, chosen, rows, target.stat().st_size, guarded)


def guard_text(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would take for a formula.

    >>> guard_text("=1+1"), guard_text(" @sum"), guard_text("20% off")
    ("'=1+1", "' @sum", '20% off')
    """
    start = text.lstrip(_BLANKS)
    return f"'{text}" if start.startswith(FORMULA_SIGNS) or text.startswith(FORMULA_SIGNS) else text


def _check_target(target: Path, force: bool) -> None:
    if target.is_dir():
        raise InputError(f"'{target}' is a folder: name a file in it.")
    if not target.parent.is_dir():
        raise InputError(f"There is no folder '{target.parent}' to write '{target.name}' in: make it first.")
    if target.exists() and not force:
        raise _taken(target)


def _taken(target: Path) -> InputError:
    return InputError(f"'{target}' is there already and stays as it is: name another file, or say `force`.")


@contextlib.contextmanager
def _open_aside(target: Path, force: bool) -> Iterator[IO[bytes]]:
    """A file beside the target that takes its place when it is whole; only its owner may read it."""
    # A link keeps pointing where it did, and the file behind it is the one replaced.
    place = target.resolve()
    partial = place.parent / f".{place.name}.{os.getpid()}.partial"
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if force:
            partial.replace(place)
        else:
            _place_new(partial, place, target)
    finally:
        partial.unlink(missing_ok=True)


def _place_new(partial: Path, place: Path, target: Path) -> None:
    """Put a file where none is; somebody may have put one there since we looked."""
    try:
        os.link(partial, place)
    except FileExistsError:
        raise _taken(target) from None
    except OSError:
        # A file system without links: look again, then rename.
        if place.exists():
            raise _taken(target) from None
        partial.rename(place)


def _write_parquet(table: ir.Table, file: IO[bytes]) -> int:
    import pyarrow.parquet as pq

    batches, rows = table.to_pyarrow_batches(chunk_size=ROWS), 0
    with pq.ParquetWriter(file, batches.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _write_csv(table: ir.Table, file: IO[bytes], bom: bool) -> tuple[int, int]:
    import io

    batches, rows, guarded = table.to_pyarrow_batches(chunk_size=ROWS), 0, 0
    text = io.TextIOWrapper(file, encoding="utf-8-sig" if bom else "utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\r\n")
    names = [guard_text(name) for name in batches.schema.names]
    writer.writerow(names)
    guarded += sum(a != b for a, b in zip(names, batches.schema.names, strict=True))
    for batch in batches:
        columns = []
        for column in batch.columns:
            values, changed = _to_cells(column)
            columns.append(values)
            guarded += changed
        writer.writerows(zip(*columns, strict=True))
        rows += batch.num_rows
    text.detach()
    return rows, guarded


def _to_cells(column: Any) -> tuple[list[Any], int]:
    """A column's values as a CSV cell holds them, and how many were guarded."""
    kind = column.type
    values = column.to_pylist()
    if pa.types.is_boolean(kind):
        return ["" if v is None else "true" if v else "false" for v in values], 0
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return ["" if v is None else v for v in values], 0
    if pa.types.is_floating(kind):
        return ["" if v is None or v != v else v for v in values], 0
    if pa.types.is_temporal(kind):
        return ["" if v is None else v.isoformat() if hasattr(v, "isoformat") else str(v) for v in values], 0
    texts = ["" if v is None else str(v) for v in values]
    cells = [guard_text(t) for t in texts]
    return cells, sum(a != b for a, b in zip(texts, cells, strict=True))
