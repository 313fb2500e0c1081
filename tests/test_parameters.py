"""Parameters are refused by name, type and value, with what is allowed, before anything runs."""

from __future__ import annotations

import contextlib
import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opslib.errors import InputError
from opslib.language import get_language, set_language
from opslib.parameters import (
    NOTEBOOKS,
    QuarterlyReview,
    check_parameters,
    find_notebook,
    load_parameters,
    parse_parameters,
)

REVIEW = "40_quarterly_review"


def refuse(values: dict[str, object], notebook: str = REVIEW) -> str:
    with pytest.raises(InputError) as error:
        check_parameters(notebook, values)
    message = str(error.value)
    assert error.value.exit_code == 2
    assert "\n" not in message
    assert "pydantic" not in message
    return message


@pytest.mark.parametrize(
    ("name", "nearest"), [("quater", "quarter"), ("segmnt", "segment"), ("compareto", "compare_to")]
)
def test_unknown_name(name: str, nearest: str) -> None:
    message = refuse({name: "2026Q2"})
    assert f"has no parameter '{name}'" in message
    assert f"Did you mean '{nearest}'?" in message
    for allowed in QuarterlyReview.model_fields:
        assert allowed in message


@pytest.mark.parametrize("name", ["x = 1; import os", "quarter ", "__class__", "", "季度", "model_config"])
def test_names_that_are_no_names(name: str) -> None:
    assert "has no parameter" in refuse({name: "1"})


@pytest.mark.parametrize("value", [20262, 2026.2, True, None, dt.date(2026, 6, 30), ["2026Q2"], {"a": 1}, b"2026Q2"])
def test_wrong_type(value: object) -> None:
    message = refuse({"quarter": value})
    assert "'quarter'" in message
    assert "valid string" in message


@pytest.mark.parametrize("value", ["2026Q5", "2026", "June", "2026Q2; import os", "26Q2"])
def test_impossible_quarter(value: str) -> None:
    message = refuse({"quarter": value})
    assert repr(value) in message
    assert "for example 2026Q2" in message


def test_all_faults_are_named_at_once() -> None:
    message = refuse({"quarter": "2026Q9", "compare_to": "x", "segmant": "a:b"})
    assert "'quarter'" in message
    assert "'compare_to'" in message
    assert "'segmant'" in message


def test_unknown_language() -> None:
    message = refuse({"lang": "cn"})
    assert "There is no language 'cn'" in message
    assert "zh (中文)" in message
    assert check_parameters(REVIEW, {"lang": "zh"}).lang == "zh"


def test_a_notebook_speaks_the_language_of_its_parameters_or_its_playbook(tmp_path: Path) -> None:
    playbook = tmp_path / "playbook.toml"
    playbook.write_text('[company]\nname = "A"\nlang = "zh"\n[tables]\norders = { source = "orders.csv" }\n', "utf-8")
    try:
        load_parameters(REVIEW, {"playbook": str(playbook)})
        assert get_language() == "zh"
        load_parameters(REVIEW, {"playbook": str(playbook), "lang": "en"})
        assert get_language() == "en"
    finally:
        set_language("")


def test_unknown_language_of_a_playbook(tmp_path: Path) -> None:
    playbook = tmp_path / "playbook.toml"
    playbook.write_text('[company]\nname = "A"\nlang = "cn"\n[tables]\norders = { source = "orders.csv" }\n', "utf-8")
    message = refuse_playbook(playbook)
    assert "line 3: 'company.lang': there is no language 'cn'" in message


def refuse_playbook(playbook: Path) -> str:
    with pytest.raises(InputError) as error:
        load_parameters(REVIEW, {"playbook": str(playbook)})
    return str(error.value)


@pytest.mark.parametrize("value", ["search", ":search", "channel:", "channel"])
def test_segment_without_column_or_value(value: str) -> None:
    assert "column:value" in refuse({"segment": value})


@pytest.mark.parametrize(
    "name", ["password", "DB_PASSWORD", "apikey", "api_key", "token", "my_secret", "credentials", "passwd"]
)
def test_secrets_are_refused_by_name(name: str) -> None:
    message = refuse({name: "hunter2"})
    assert "looks like a secret" in message
    assert "environment variable" in message
    assert "hunter2" not in message


def test_defaults_are_valid_and_literal() -> None:
    for slug in NOTEBOOKS:
        literals = check_parameters(slug, {}).to_literals()
        assert literals["playbook"] == "playbook.toml"
        assert all(type(value) in (str, int, float, bool) for value in literals.values())


def test_parameters_are_frozen() -> None:
    checked = check_parameters(REVIEW, {"quarter": "2026Q2", "segment": "channel:a:b"})
    assert checked.to_literals() == {
        "playbook": "playbook.toml", "lang": "", "quarter": "2026Q2", "compare_to": "", "segment": "channel:a:b",
    }  # fmt: skip
    with pytest.raises(ValueError, match="frozen"):
        checked.quarter = "2026Q1"  # type: ignore[attr-defined]


def test_texts_from_the_command_line() -> None:
    assert parse_parameters(REVIEW, {"quarter": "2026-Q2"}).to_literals()["quarter"] == "2026-Q2"
    with pytest.raises(InputError, match=r"Did you mean 'quarter'"):
        parse_parameters(REVIEW, {"quartr": "2026Q2"})


@pytest.mark.parametrize(
    "name", [REVIEW, "40", "quarterly_review", "40_quarterly_review.ipynb", "notebooks/40_quarterly_review.ipynb"]
)
def test_ways_to_name_a_notebook(name: str) -> None:
    assert find_notebook(name) is QuarterlyReview


def test_unknown_notebook() -> None:
    with pytest.raises(InputError) as error:
        find_notebook("40_quartely_review")
    assert "Did you mean '40_quarterly_review'?" in str(error.value)
    for slug in NOTEBOOKS:
        assert slug in str(error.value)


@given(
    st.dictionaries(
        st.text(max_size=12), st.none() | st.booleans() | st.integers() | st.floats() | st.text(), max_size=4
    )
)
def test_whatever_is_given_it_is_taken_whole_or_refused(values: dict[str, object]) -> None:
    with contextlib.suppress(InputError):
        checked = check_parameters(REVIEW, values)
        assert values == {k: v for k, v in checked.to_literals().items() if k in values}
