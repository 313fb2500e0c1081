"""Reading a user's files into the engine: CSV (any delimiter), whitespace-separated text, Parquet, globs.

Files are recognised by what is in them, not by their name.
"""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis

from opslib.errors import InputError

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
WHITESPACE = "whitespace"
_TIME_OF_DAY = r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
_VALUE = re.compile(rf"[-+]?[\d.]+([eE][-+]?\d+)?|\d{{1,4}}[-/.]\d{{1,2}}[-/.]\d{{1,4}}([ T]{_TIME_OF_DAY}.*)?")


@dataclass(frozen=True)
class FileFormat:
    """How a file is to be read."""

    kind: str  # parquet or text
    delimiter: str = ","
    header: bool = True


def find_files(source: str, folder: Path) -> list[Path]:
    """Find the files that a source names: one file, all data files of a folder, or a glob.

    Raises:
        InputError: nothing is there, or a file is empty or unreadable.
    """
    path = Path(source).expanduser()
    path = path if path.is_absolute() else folder / path
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in (".parquet", ".csv", ".txt", ".tsv"))
    elif path.is_file():
        files = [path]
    else:
        files = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
    if not files:
        raise InputError(f"There is no file at '{source}' (looked in {folder.resolve()}). Check the path.")
    return files


def detect_format(path: Path, *, delimiter: str | None = None, header: bool | None = None) -> FileFormat:
    """Look at the start of a file and tell how to read it.

    Args:
        path: the file.
        delimiter: what is known of the delimiter: one character, or `whitespace`.
        header: what is known of the first line: True when it holds the column names.

    Raises:
        InputError: the file is empty, unreadable, or neither Parquet nor text.
    """
    try:
        with path.open("rb") as file:
            start = file.read(65536)
    except OSError as error:
        raise InputError(f"'{path.name}' cannot be read: {error.strerror}.") from None
    if not start.strip():
        raise InputError(f"'{path.name}' is empty: there is nothing to read.")
    if start[:4] == b"PAR1":
        return FileFormat("parquet")
    if start[:2] == b"\x1f\x8b":
        return FileFormat("text", delimiter or ",", True if header is None else header)
    if b"\0" in start or start[:4] in (b"PK\x03\x04", b"%PDF", b"\x89PNG"):
        raise InputError(
            f"'{path.name}' is neither CSV nor Parquet. Export the table as CSV or Parquet and name that file."
        )
    lines = [line for line in start.decode("utf-8-sig", errors="replace").splitlines() if line.strip()][:50]
    delimiter = delimiter or _guess_delimiter(lines)
    if header is None:
        header = not any(_VALUE.fullmatch(cell.strip().strip('"')) for cell in split_line(lines[0], delimiter))
    return FileFormat("text", delimiter, header)


def split_line(line: str, delimiter: str) -> list[str]:
    """Split a line of text at its delimiter (quotes are not looked at: good enough for a first line)."""
    return line.split() if delimiter == WHITESPACE else line.split(delimiter)


def _guess_delimiter(lines: list[str]) -> str:
    for delimiter in DELIMITERS:
        counts = [line.count(delimiter) for line in lines]
        if min(counts) >= 1:
            return delimiter
    counts = [len(line.split()) for line in lines]
    return WHITESPACE if min(counts) > 1 and min(counts) == max(counts) else ","


def read_files(
    connection: Backend,
    files: list[Path],
    *,
    delimiter: str | None = None,
    header: bool | None = None,
    as_text: tuple[str, ...] = (),
) -> ibis.Table:
    """Open files as one table of the engine; nothing is copied, except text separated by blanks.

    Args:
        connection: an Ibis DuckDB connection.
        files: what `find_files` found.
        delimiter: the delimiter if it is known; otherwise it is detected.
        header: whether the first line holds names; otherwise it is detected.
        as_text: columns that must not be guessed as dates or numbers by the engine.

    Raises:
        InputError: a file is damaged or the files do not fit together.
    """
    formats = [detect_format(f, delimiter=delimiter, header=header) for f in files]
    kinds = {f.kind for f in formats}
    if len(kinds) > 1:
        raise InputError(
            f"'{files[0].parent.name}' mixes Parquet and text files: name one kind, for example *.parquet."
        )
    names = [str(f) for f in files]
    try:
        if kinds == {"parquet"}:
            return (
                connection.read_parquet(names, union_by_name=True)
                if len(names) > 1
                else connection.read_parquet(names[0])
            )
        if formats[0].delimiter == WHITESPACE:
            return _read_whitespace(connection, names, header=formats[0].header)
        return _read_delimited(connection, names, formats[0], as_text)
    except Exception as error:
        raise InputError(_explain_engine(files, error)) from None


def _read_delimited(connection: Backend, names: list[str], form: FileFormat, as_text: tuple[str, ...]) -> ibis.Table:
    # Types come from the whole file, so that one word in line 900,000 of a column of numbers is not a crash later.
    options: dict[str, Any] = {"delim": form.delimiter, "header": form.header, "sample_size": -1}
    if len(names) > 1:
        options["union_by_name"] = True
    table = connection.read_csv(names, **options)
    overrides = {c: "VARCHAR" for c in as_text if c in table.columns}
    if overrides:
        types = {c: _sql_type(connection, table, c) for c in table.columns} | overrides
        table = connection.read_csv(names, **options, types=types)
    return table


def _sql_type(connection: Backend, table: ibis.Table, column: str) -> str:
    return str(connection.compiler.type_mapper.to_string(table.schema()[column]))


def _read_whitespace(connection: Backend, names: list[str], *, header: bool) -> ibis.Table:
    lines = connection.read_csv(
        names, delim="\x1f", header=False, quote="", escape="", columns={"line": "VARCHAR"}, auto_detect=False
    )
    first = str(lines.limit(1).to_pandas()["line"][0]).split()
    columns = first if header else [f"column{i}" for i in range(len(first))]
    cells = lines.filter(lines.line.strip() != "").select(cells=lines.line.strip().re_split(r"\s+"))
    if header:
        cells = cells.filter(cells.cells != ibis.array(first))
    split = cells.select(**{name: cells.cells[i] for i, name in enumerate(columns)}).cache()
    # A pattern for whole numbers, because the engine would read 11.77 as the integer 12.
    is_not = {
        "int64": lambda cell: ~cell.re_search(r"^[-+]?[0-9]{1,18}$"),
        "float64": lambda cell: cell.try_cast("float64").isnull(),
    }
    counts = split.aggregate(
        **{f"{n}|{kind}": test(split[n]).sum().fill_null(0) for n in columns for kind, test in is_not.items()}
    ).to_pandas()
    kinds = {n: next((k for k in is_not if counts[f"{n}|{k}"][0] == 0), "string") for n in columns}
    return split.cast({n: k for n, k in kinds.items() if k != "string"})


def _explain_engine(files: list[Path], error: Exception) -> str:
    text = str(error)
    name = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
    if "magic bytes" in text or "footer" in text or "too small to be a Parquet" in text or "TProtocol" in text:
        return f"'{name}' is a damaged or cut-off Parquet file. Write it again, or copy it again."
    first = text.strip().splitlines()[0].removeprefix("Invalid Input Error: ").removeprefix("IO Error: ")
    return f"'{name}' cannot be read: {first[:300]}"
