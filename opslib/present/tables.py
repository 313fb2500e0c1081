"""Tables for people: numbers aligned, with units, intervals and the counts behind them."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from opslib.data.fitness import DataFitness
from opslib.decide.questions import DataSurvey
from opslib.present.display import TableView
from opslib.present.words import MISSING, format_number

TOGETHER = re.compile(r"\[[^\]]{1,40}\]|\bof [\d,]+")


def make_table(
    frame: pd.DataFrame,
    labels: dict[str, str],
    *,
    name: str,
    note: str = "",
    numeric: tuple[str, ...] = (),
    unbroken: tuple[str, ...] = (),
    total: int = 0,
) -> TableView:
    """Make a table for people.

    Args:
        frame: texts and numbers, already written as they are to be read.
        labels: column -> heading, in order; other columns are left out.
        name: a fixed id, so that the same table is the same HTML.
        note: a line below the table.
        numeric: columns to align right.
        unbroken: columns whose texts stay on one line.
        total: how many rows there are, where the table holds only some of them.

    Returns:
        A `TableView`; every value is escaped.
    """
    import great_tables as gt

    shown = frame[list(labels)]
    table = gt.GT(shown.map(keep_together), id=name).cols_label(**labels).cols_align("left")  # type: ignore[arg-type]
    if numeric:
        table = table.cols_align("right", columns=list(numeric))
    table = (
        table.sub_missing(missing_text=MISSING)
        .opt_horizontal_padding(scale=1.5)
        .tab_options(
            table_font_size="13px", column_labels_font_weight="600", table_margin_left="0", table_font_names="inherit"
        )
    )
    if unbroken:
        table = table.tab_style(gt.style.css("white-space: nowrap;"), gt.loc.body(columns=list(unbroken)))
    if total > len(shown):
        note = f"{note} {len(shown):,} of {total:,} rows.".strip()
    if note:
        table = table.tab_source_note(note)
    return TableView(table, shown, labels, name)


def keep_together(value: Any) -> Any:
    """A cell whose interval or count a narrow column does not break; other values stay as they are.

    >>> keep_together("15.3% [14.7 to 15.9%]"), keep_together("31.3% of 822"), keep_together(3)
    ('15.3% [14.7\xa0to\xa015.9%]', '31.3% of\xa0822', 3)
    """
    if not isinstance(value, str):
        return value
    return TOGETHER.sub(lambda part: part[0].replace(" ", "\xa0"), value)


def show_fitness(fitness: DataFitness) -> TableView:
    """The data-fitness table: what is there, from when to when, and what is wrong with it."""
    frame = fitness.to_frame()
    frame["rows"] = frame["rows_count"].map("{:,}".format)
    frame["left_out"] = frame["left_out_count"].map("{:,}".format)
    for column in ("first_at", "last_at"):
        frame[column] = pd.to_datetime(frame[column]).dt.strftime("%Y-%m-%d %H:%M")
    broken = frame["problems"].map(bool).any()
    frame["problems"] = frame["problems"].map(" ".join)
    labels = {
        "table": "Table",
        "grain": "A row is",
        "rows": "Rows",
        "left_out": "Left out",
        "first_at": "First (UTC)",
        "last_at": "Last (UTC)",
        "verdict": "Verdict",
    } | ({"problems": "Problems"} if broken else {})
    note = f"All tables together: {fitness.verdict}." + ("" if broken else " No rule is broken.")
    return make_table(
        frame, labels, name="fitness", numeric=("rows", "left_out"), unbroken=("first_at", "last_at"), note=note
    )


def show_questions(survey: DataSurvey) -> TableView:
    """Which question each notebook answers, and whether these data can answer it."""
    frame = pd.DataFrame.from_records([vars(q) for q in survey.questions])
    frame["answer"] = [
        "yes" if not missing else f"needs {missing}" for missing in frame["missing"].map(lambda m: ", ".join(m))
    ]
    frame["needs"] = frame["needs"].map(", ".join)
    labels = {
        "question": "Question",
        "notebook": "Notebook",
        "section": "Section",
        "needs": "Tables needed",
        "answer": "Can these data answer it?",
    }
    return make_table(frame, labels, name="questions")


def format_accounting(frame: pd.DataFrame, names: pd.Series) -> pd.DataFrame:
    """Growth accounting as it is read: period (its name, and "part" where it is not over), signed counts, ratio."""
    shown = pd.DataFrame({"period": names + frame["complete"].map({True: "", False: " (part)"})})
    for column in ("opening_count", "new_count", "resurrected_count", "churned_count", "closing_count"):
        sign = {"new_count": "+", "resurrected_count": "+", "churned_count": "−"}.get(column, "")
        shown[column] = [f"{sign}{n:,}" for n in frame[column]]
    shown["quick_ratio"] = [format_number(x, "ratio") for x in frame["quick_ratio"]]
    return shown


def label_accounting(period: str, grain: str) -> dict[str, str]:
    """The headings of that table."""
    return {
        "period": period,
        "opening_count": f"Active the {grain} before",
        "new_count": "New",
        "resurrected_count": "Came back",
        "churned_count": "Left",
        "closing_count": "Active",
        "quick_ratio": "Gained per one lost",
    }
