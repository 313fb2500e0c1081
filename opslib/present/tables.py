"""Tables for people: numbers aligned, with units, intervals and the counts behind them."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from opslib.data.fitness import DataFitness
from opslib.decide.questions import DataSurvey
from opslib.language import join_sentences, mark, say
from opslib.present.display import TableView
from opslib.present.words import FITNESS, MISSING, format_number, list_needs

# An interval, a count, and a count in Chinese, where a line may end at every letter.
TOGETHER = re.compile(r"\[[^\]]{1,40}\]|\bof [\d,]+|（[^（）]{0,8}[\d,]+[^（）]{0,8}）")
HAN = re.compile(r"(?<=[\u4e00-\u9fff])(?=\d)|(?<=\d)(?=[\u4e00-\u9fff])|(?<=[\u4e00-\u9fff])(?=[\u4e00-\u9fff])")
NO_BREAK = "\u2060"

ACTIVE_BEFORE = {
    "day": mark("Active the day before"),
    "week": mark("Active the week before"),
    "month": mark("Active the month before"),
    "quarter": mark("Active the quarter before"),
}


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
        note = join_sentences([note, say("{shown:,} of {total:,} rows.", shown=len(shown), total=total)])
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
    return TOGETHER.sub(lambda part: HAN.sub(NO_BREAK, part[0].replace(" ", "\xa0")), value)


def show_fitness(fitness: DataFitness) -> TableView:
    """The data-fitness table: what is there, from when to when, and what is wrong with it."""
    frame = fitness.to_frame()
    frame["rows"] = frame["rows_count"].map("{:,}".format)
    frame["left_out"] = frame["left_out_count"].map("{:,}".format)
    for column in ("first_at", "last_at"):
        frame[column] = pd.to_datetime(frame[column]).dt.strftime("%Y-%m-%d %H:%M")
    broken = frame["problems"].map(bool).any()
    frame["problems"] = frame["problems"].map(join_sentences)
    frame["grain"] = frame["grain"].map(say)
    frame["verdict"] = frame["verdict"].map(FITNESS).map(say)
    labels = {
        "table": say("Table"),
        "grain": say("A row is"),
        "rows": say("Rows"),
        "left_out": say("Left out"),
        "first_at": say("First (UTC)"),
        "last_at": say("Last (UTC)"),
        "verdict": say("Verdict"),
    } | ({"problems": say("Problems")} if broken else {})
    note = say("All tables together: {verdict}.", verdict=say(FITNESS[fitness.verdict]))
    note = join_sentences([note, "" if broken else say("No rule is broken.")])
    return make_table(
        frame, labels, name="fitness", numeric=("rows", "left_out"), unbroken=("first_at", "last_at"), note=note
    )


def show_questions(survey: DataSurvey) -> TableView:
    """Which question each notebook answers, and whether these data can answer it."""
    frame = pd.DataFrame.from_records([vars(q) for q in survey.questions])
    frame["answer"] = [
        say("needs {tables}", tables=list_needs(missing)) if missing else say("yes") for missing in frame["missing"]
    ]
    frame["needs"] = frame["needs"].map(list_needs)
    for column in ("question", "section"):
        frame[column] = frame[column].map(say)
    labels = {
        "question": say("Question"),
        "notebook": say("Notebook"),
        "section": say("Section"),
        "needs": say("Tables needed"),
        "answer": say("Can these data answer it?"),
    }
    return make_table(frame, labels, name="questions")


def format_accounting(frame: pd.DataFrame, names: pd.Series) -> pd.DataFrame:
    """Growth accounting as it is read: period (its name, and "part" where it is not over), signed counts, ratio."""
    periods = [
        name if complete else say("{period} (part)", period=name)
        for name, complete in zip(names, frame["complete"], strict=True)
    ]
    shown = pd.DataFrame({"period": periods}, index=names.index)
    for column in ("opening_count", "new_count", "resurrected_count", "churned_count", "closing_count"):
        sign = {"new_count": "+", "resurrected_count": "+", "churned_count": "−"}.get(column, "")
        shown[column] = [f"{sign}{n:,}" for n in frame[column]]
    shown["quick_ratio"] = [format_number(x, "ratio") for x in frame["quick_ratio"]]
    return shown


def label_accounting(period: str, grain: str) -> dict[str, str]:
    """The headings of that table."""
    return {
        "period": period,
        "opening_count": say(ACTIVE_BEFORE[grain]),
        "new_count": say("New"),
        "resurrected_count": say("Came back"),
        "churned_count": say("Left"),
        "closing_count": say("Active"),
        "quick_ratio": say("Gained per one lost"),
    }
