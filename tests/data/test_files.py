"""Files are recognised by what is in them, whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import ibis
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opslib.data.files import detect_format, find_files, read_files
from opslib.errors import InputError

ROWS = [["1", "2026-01-01", "a"], ["2", "2026-01-02", "b"], ["3", "2026-01-03", "c"]]
HEAD = ["id", "day", "name"]


@pytest.fixture(scope="module")
def engine() -> ibis.BaseBackend:
    return ibis.duckdb.connect()


def read(engine: ibis.BaseBackend, *files: Path, **options: object) -> pd.DataFrame:
    return read_files(engine, list(files), **options).to_pandas()  # type: ignore[arg-type]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_delimiters_headers_line_ends_and_marks(
    engine: ibis.BaseBackend, tmp_path: Path, delimiter: str, header: bool, ends: str, mark: str
) -> None:
    lines = [delimiter.join(row) for row in ([HEAD] if header else []) + ROWS]
    path = write(tmp_path / "x.csv", mark + ends.join(lines) + ends)
    form = detect_format(path)
    assert (form.delimiter, form.header) == (delimiter, header)
    frame = read(engine, path)
    assert frame.shape == (3, 3)
    assert list(frame.columns) == (HEAD if header else ["column0", "column1", "column2"])
    assert frame.iloc[:, 0].tolist() == [1, 2, 3]


def test_decimal_commas_do_not_make_commas_the_delimiter(tmp_path: Path) -> None:
    assert detect_format(write(tmp_path / "x.csv", "1;2026-01-01;3,50\n2;2026-01-02;4,50\n")).delimiter == ";"


def test_quoted_delimiters_do_not_count(engine: ibis.BaseBackend, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", 'id\tname\n1\t"a,b"\n2\t"c,d"\n')
    assert read(engine, path)["name"].tolist() == ["a,b", "c,d"]


def test_quoted_line_breaks(engine: ibis.BaseBackend, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "id;text\n" + '1;"one\ntwo; ""three"""\n' * 60)
    frame = read(engine, path)
    assert len(frame) == 60
    assert set(frame["text"]) == {'one\ntwo; "three"'}


PRINTABLE = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])
TEXTS = st.text(PRINTABLE | st.sampled_from(',;"\n'), max_size=8)


@settings(max_examples=25)
@given(rows=st.lists(st.tuples(st.integers(0, 10**6), TEXTS), min_size=1, max_size=20))
def test_what_python_writes_is_what_we_read(
    engine: ibis.BaseBackend, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str]]
) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerows([("id", "text"), *rows])
    path = write(tmp_path_factory.mktemp("csv") / "x.csv", buffer.getvalue())
    frame = read(engine, path, as_text=("text",))
    assert frame["id"].tolist() == [n for n, _ in rows]
    assert [t if isinstance(t, str) else "" for t in frame["text"]] == [t for _, t in rows]


def test_a_lone_quote_is_text(engine: ibis.BaseBackend, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", 'id,text\n1,5" nail\n2,"open\n3,plain\n')
    assert read(engine, path)["text"].tolist() == ['5" nail', '"open', "plain"]


def test_no_line_is_skipped_in_silence(engine: ibis.BaseBackend, tmp_path: Path) -> None:
    # The engine by itself starts at the broken line, and reads one row.
    path = write(tmp_path / "x.csv", "1,a,x\n" * 60 + "1,2026-01-01\n" + "2,b\n")
    with pytest.raises(InputError, match=r"'x.csv' line 61 has 2 values, but the first line has 3"):
        read(engine, path, header=False)
    hashes = write(tmp_path / "y.csv", "id,name\n#1,a\n#2,b\n3,c\n")
    assert read(engine, hashes)["id"].tolist() == ["#1", "#2", "3"]


def test_the_broken_line_is_named_after_quoted_line_breaks(engine: ibis.BaseBackend, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", 'id,text\n1,"a\nb"\n2,c\n3\n')
    with pytest.raises(InputError, match="line 5 has 1 values"):
        read(engine, path)


def test_blank_lines(engine: ibis.BaseBackend, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "\n\nid,name\n1,a\n\n2,b\n\n\n")
    assert read(engine, path)["id"].tolist() == [1, 2]


def test_types_come_from_all_lines(engine: ibis.BaseBackend, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "id\n" + "1\n" * 30_000 + "word\n")
    assert read(engine, path)["id"].iloc[-1] == "word"


def test_columns_kept_as_text(engine: ibis.BaseBackend, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "id,day\n007,03/04/2026\n")
    frame = read(engine, path, as_text=("id", "day", "absent"))
    assert frame.iloc[0].tolist() == ["007", "03/04/2026"]


@pytest.mark.parametrize("name", ["x.csv.gz", "x.csv", "x.gz"])
def test_gzip_is_seen_by_its_content(engine: ibis.BaseBackend, tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, gzip.compress(b"id\tname\n1\ta\n2\tb\n"))
    assert read(engine, path)["name"].tolist() == ["a", "b"]


def test_parquet_is_seen_by_its_content(engine: ibis.BaseBackend, tmp_path: Path) -> None:
    pd.DataFrame({"id": [1, 2]}).to_parquet(tmp_path / "x.csv", engine="pyarrow")
    assert read(engine, tmp_path / "x.csv")["id"].tolist() == [1, 2]


def test_parts_with_different_columns(engine: ibis.BaseBackend, tmp_path: Path) -> None:
    pd.DataFrame({"id": [1], "a": ["x"]}).to_parquet(tmp_path / "1.parquet")
    pd.DataFrame({"b": [2.5], "id": [2]}).to_parquet(tmp_path / "2.parquet")
    frame = read(engine, *find_files("*.parquet", tmp_path)).sort_values("id")
    assert frame["id"].tolist() == [1, 2]
    assert frame["a"].fillna("-").tolist() == ["x", "-"]
    assert frame["b"].fillna(0).tolist() == [0, 2.5]
    write(tmp_path / "1.csv", "id,a\n1,x\n")
    write(tmp_path / "2.csv", "b,id\n2.5,2\n")
    assert read(engine, *find_files("*.csv", tmp_path)).sort_values("id")["id"].tolist() == [1, 2]


def test_folder_glob_and_file(tmp_path: Path) -> None:
    for name in ("a.csv", "sub/b.CSV", "sub/c.csv.gz", "notes.md", "d.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    names = {
        source: [p.name for p in find_files(source, tmp_path)] for source in (".", "*.csv", "**/*.csv*", "notes.md")
    }
    assert names["."] == ["a.csv", "d.parquet", "b.CSV", "c.csv.gz"]
    assert names["*.csv"] == ["a.csv"]
    assert names["**/*.csv*"] == ["a.csv", "c.csv.gz"]
    assert names["notes.md"] == ["notes.md"]
    assert find_files(str(tmp_path / "a.csv"), Path("/nowhere")) == [tmp_path / "a.csv"]


def test_a_name_is_no_pattern(engine: ibis.BaseBackend, tmp_path: Path) -> None:
    write(tmp_path / "a*.csv", "id\n1\n")
    write(tmp_path / "ab.csv", "id\n2\n")
    assert read(engine, *find_files("a*.csv", tmp_path))["id"].tolist() == [1]


def test_columns_parted_by_blanks(engine: ibis.BaseBackend, tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", "\n id   price  name\n 1  11.77  a\n  2   12  b \n\n")
    frame = read(engine, path)
    assert frame.to_dict("list") == {"id": [1, 2], "price": [11.77, 12.0], "name": ["a", "b"]}
    path = write(tmp_path / "y.txt", "1 2 3\n" * 60 + "1 2\n")
    with pytest.raises(InputError, match="a line has 2 values, but the first has 3"):
        read(engine, path)


def test_mixed_line_ends(engine: ibis.BaseBackend, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "id,name\r\n" + "1,a\r\n" * 5 + "2,b\n" * 5)
    with pytest.raises(InputError, match="two kinds of line ends"):
        read(engine, path)
