"""Reading a user's files into the engine: CSV (any delimiter), whitespace-separated text, Parquet, globs.

Files are recognised by what is in them, not by their name.
"""

from __future__ import annotations

import codecs
import csv
import glob
import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis

from opslib.errors import InputError

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
WHITESPACE = "whitespace"
SUFFIXES = (".parquet", ".csv", ".txt", ".tsv", ".csv.gz", ".txt.gz", ".tsv.gz")
SAMPLE_BYTES = 65536
# What the engine says of a Parquet file that is not whole.
DAMAGE = ("magic bytes", "ooter", "too small to be", "TProtocol", "ecompress", "corrupt")
# Bytes that no text has, and the starts of files that look like text at first.
_CONTROLS = [bytes([n]) for n in range(32) if n not in (9, 10, 12, 13, 26)]
_OTHER_KINDS = (b"PK\x03\x04", b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"SQLite format")
_OTHER_TEXTS = re.compile(rb"\s*(\{\s*\"|\[\s*[{\[]|<!doctype|<html|<\?xml)", re.IGNORECASE)
_TIME_OF_DAY = r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
_VALUE = re.compile(rf"[-+]?[\d.]+([eE][-+]?\d+)?|\d{{1,4}}[-/.]\d{{1,2}}[-/.]\d{{1,4}}([ T]{_TIME_OF_DAY}.*)?")


@dataclass(frozen=True)
class FileFormat:
    """How a file is to be read."""

    kind: str  # parquet or text
    delimiter: str = ","
    header: bool = True
    skip: int = 0  # blank lines before the first line
    gzip: bool = False


def find_files(source: str, folder: Path) -> list[Path]:
    """Find the files that a source names: one file, all data files of a folder, or a glob.

    Raises:
        InputError: nothing is there, or a file is empty or unreadable.
    """
    path = Path(source).expanduser()
    path = path if path.is_absolute() else folder / path
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.name.lower().endswith(SUFFIXES))
        if not files:
            raise InputError(f"There is no data file in folder '{source}': none ends in {', '.join(SUFFIXES)}.")
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
        str(path.resolve()).encode()
        with path.open("rb") as file:
            start = file.read(SAMPLE_BYTES)
        zipped = start[:2] == b"\x1f\x8b"
        if zipped:
            with gzip.open(path) as file:
                start = file.read(SAMPLE_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise InputError(_damaged(path.name, "gzip")) from None
    except UnicodeEncodeError:
        raise InputError(f"The name of {path.name!a} or of its folder is not valid UTF-8: rename it.") from None
    except OSError as error:
        raise InputError(f"'{path.name}' cannot be read: {error.strerror or error}.") from None
    if not start.strip():
        raise InputError(f"'{path.name}' is empty: there is nothing to read.")
    if start[:4] == b"PAR1" and not zipped:
        return FileFormat("parquet")
    text = _decode_start(path.name, start)
    skip = len(text) - len(text.lstrip("\r\n"))
    skip = text[:skip].count("\n") or text[:skip].count("\r")
    lines = [line for line in text.splitlines() if line.strip()]
    # The last line of a sample may be cut in the middle.
    lines = lines[:-1] if len(start) == SAMPLE_BYTES and len(lines) > 1 else lines
    delimiter = delimiter or _guess_delimiter(lines[:50])
    if header is None:
        header = not any(_VALUE.fullmatch(cell.strip().strip('"')) for cell in split_line(lines[0], delimiter))
    return FileFormat("text", delimiter, header, skip, zipped)


def _decode_start(name: str, start: bytes) -> str:
    """The text at the start of a file, or the reason why it is none that we read."""
    advice = "Export the table as CSV or Parquet and name that file."
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"'{name}' is a text in UTF-16. Save it as UTF-8 (in Excel: 'CSV UTF-8').")
    controls = sum(start.count(byte) for byte in _CONTROLS)
    if b"\0" in start or start.startswith(_OTHER_KINDS) or controls > len(start) / 100:
        raise InputError(f"'{name}' is neither CSV nor Parquet. {advice}")
    if _OTHER_TEXTS.match(start.removeprefix(codecs.BOM_UTF8)):
        raise InputError(f"'{name}' holds JSON or a web page, not a table. {advice}")
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(start)
    except UnicodeDecodeError:
        raise InputError(_not_utf8(name)) from None


def _damaged(name: str, kind: str) -> str:
    return f"'{name}' is a damaged or cut-off {kind} file. Write it again, or copy it again."


def _not_utf8(name: str) -> str:
    return (
        f"'{name}' is not text in UTF-8 (perhaps GBK or Latin-1, or no CSV at all). Save it as UTF-8 "
        "(in Excel: 'CSV UTF-8'; or: iconv -f GBK -t UTF-8)."
    )


def split_line(line: str, delimiter: str) -> list[str]:
    """Split a line of text at its delimiter."""
    return line.split() if delimiter == WHITESPACE else next(csv.reader([line], delimiter=delimiter), [])


def _guess_delimiter(lines: list[str]) -> str:
    widths = {d: [len(row) for row in csv.reader([line + "\n" for line in lines], delimiter=d)] for d in DELIMITERS}
    # A value in quotes may hold line breaks, so the sample's last row may be half a row.
    widths = {d: w[:-1] if len(w) > 2 else w for d, w in widths.items()}
    even = [d for d in DELIMITERS if min(widths[d]) == max(widths[d]) > 1]
    if even:
        return max(even, key=lambda d: widths[d][0])
    for delimiter in DELIMITERS:
        if min(widths[delimiter]) > 1:
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
    file_column: str = "",
) -> ibis.Table:
    """Open files as one table of the engine; nothing is copied, except text separated by blanks.

    Args:
        connection: an Ibis DuckDB connection.
        files: what `find_files` found.
        delimiter: the delimiter if it is known; otherwise it is detected.
        header: whether the first line holds names; otherwise it is detected.
        as_text: columns that must not be guessed as dates or numbers by the engine.
        file_column: a further column with the path of each row's file; text separated by blanks has none.

    Raises:
        InputError: a file is damaged or the files do not fit together.
    """
    formats = [detect_format(f, delimiter=delimiter, header=header) for f in files]
    form = formats[0]
    for file, other in zip(files, formats, strict=True):
        if other.kind != form.kind:
            raise InputError(
                f"'{files[0].parent.name}' mixes Parquet and text files: name one kind, for example *.parquet."
            )
        if (other.delimiter, other.header) != (form.delimiter, form.header):
            raise InputError(
                f"'{files[0].name}' and '{file.name}' are written differently ({_describe(form)}; {_describe(other)}). "
                "Write them the same way, or name one of them."
            )
    # The engine would take [ and * in a file's name as a pattern.
    names = [glob.escape(str(f)) for f in files]
    try:
        if form.kind == "parquet":
            options: dict[str, Any] = {"filename": file_column} if file_column else {}
            if len(names) > 1:
                options["union_by_name"] = True
            return connection.read_parquet(names, **options)
        if form.delimiter == WHITESPACE:
            return _read_whitespace(connection, names, header=form.header)
        return _read_delimited(connection, names, form, as_text, file_column)
    except Exception as error:
        raise InputError(explain_failure(files, form, error)) from None


def _describe(form: FileFormat) -> str:
    first = "names" if form.header else "values"
    return f"{DELIMITERS.get(form.delimiter, form.delimiter)} between values, {first} in the first line"


def _read_delimited(
    connection: Backend, names: list[str], form: FileFormat, as_text: tuple[str, ...], file_column: str
) -> ibis.Table:
    # Types come from the whole file, so that one word in line 900,000 of a column of numbers is not a crash later.
    # Nothing else is left to the engine's guess: it would skip lines until one has as many values as a broken line.
    options: dict[str, Any] = {
        "delim": form.delimiter, "header": form.header, "skip": form.skip, "sample_size": -1, "comment": "",
    }  # fmt: skip
    if len(names) > 1:
        options["union_by_name"] = True
    if form.gzip:
        options["compression"] = "gzip"
    if file_column:
        options["filename"] = file_column
    try:
        quotes = {"quote": '"', "escape": '"'}
        table = connection.read_csv(names, **options, **quotes)
    except Exception as error:
        # A lone quote in a text: no quoting, if all lines have the same number of values then.
        quotes = {"quote": "", "escape": ""}
        try:
            table = connection.read_csv(names, **options, **quotes)
        except Exception:
            raise error from None
    overrides = {c: "VARCHAR" for c in as_text if c in table.columns}
    if overrides:
        types = {c: _sql_type(connection, table, c) for c in table.columns if c != file_column} | overrides
        table = connection.read_csv(names, **options, **quotes, types=types)
    return table


def _sql_type(connection: Backend, table: ibis.Table, column: str) -> str:
    return str(connection.compiler.type_mapper.to_string(table.schema()[column]))


def _read_whitespace(connection: Backend, names: list[str], *, header: bool) -> ibis.Table:
    lines = connection.read_csv(
        names, delim="\x1f", header=False, quote="", escape="", columns={"line": "VARCHAR"}, auto_detect=False
    )
    lines = lines.filter(lines.line.strip() != "")
    first = str(lines.limit(1).to_pandas()["line"][0]).split()
    columns = first if header else [f"column{i}" for i in range(len(first))]
    cells = lines.select(cells=lines.line.strip().re_split(r"\s+"))
    uneven = cells.filter(cells.cells.length() != len(first)).limit(1).to_pandas()["cells"]
    if len(uneven):
        raise InputError(f"a line has {len(uneven[0])} values, but the first has {len(first)}: {' '.join(uneven[0])}")
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


def explain_failure(files: list[Path], form: FileFormat, error: Exception) -> str:
    """Say in a sentence why the engine could not read files."""
    text = str(error)
    name = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
    if form.kind == "parquet":
        if any(sign in text for sign in DAMAGE):
            return _damaged(name, "Parquet")
    elif "not utf-8" in text:
        return _not_utf8(name)
    elif form.delimiter != WHITESPACE:
        reason = next(filter(None, (_find_broken_line(file, form) for file in files)), None)
        if reason:
            return reason
    first = text.strip().splitlines()[0].removeprefix("Invalid Input Error: ").removeprefix("IO Error: ")
    return f"'{name}' cannot be read: {first[:300]}"


def _find_broken_line(file: Path, form: FileFormat) -> str | None:
    """The first line with more or fewer values than the first one: the engine tells only that there is one."""
    start = 1
    opened: Any = gzip.open if form.gzip else open
    try:
        with opened(file, "rt", encoding="utf-8-sig", errors="replace", newline="") as stream:
            reader = csv.reader(stream, delimiter=form.delimiter, strict=True)
            width = 0
            for row in reader:
                width = width or len(row)
                if row and len(row) != width:
                    return (
                        f"'{file.name}' line {start} has {len(row)} values, but the first line has {width}. "
                        "Mend or remove that line."
                    )
                start = reader.line_num + 1
    except csv.Error:
        return f"'{file.name}' line {start}: a quotation mark is never closed, or text follows it. Mend that line."
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return _damaged(file.name, "gzip")
    except OSError:
        return None
    return f"'{file.name}' mixes two kinds of line ends. Write it again with one kind."
