"""Long tables come in pages; no row is lost, and short ones stay as they are."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from opslib.present.display import shrink_page
from opslib.present.paging import PAGE_ROWS, split_pages
from opslib.present.tables import make_table


def make_html(rows: int) -> str:
    frame = pd.DataFrame({"name": [f"<b>row {i}</b>" for i in range(rows)]})
    return shrink_page(make_table(frame, {"name": "Name"}, name="long", note="A note.").table.as_raw_html())


@pytest.mark.parametrize("rows", [0, 1, PAGE_ROWS])
def test_a_short_table_stays(rows: int) -> None:
    assert split_pages(make_html(rows), "long") == make_html(rows)


@pytest.mark.parametrize(("rows", "sizes"), [(PAGE_ROWS + 1, [15, 1]), (47, [15, 15, 15, 2])])
def test_every_row_is_in_one_page(rows: int, sizes: list[int]) -> None:
    paged = split_pages(make_html(rows), "long")
    bodies = re.findall(r"<tbody.*?</tbody>", paged, re.DOTALL)
    assert [body.count("<tr") for body in bodies] == sizes
    assert re.findall(r"row \d+", "".join(bodies)) == [f"row {i}" for i in range(rows)]
    assert "<b>" not in paged
    assert "A note." in paged


def test_pages_are_chosen_by_labelled_buttons() -> None:
    paged = split_pages(make_html(32), "long")
    assert re.findall(r"<label><input[^>]*>([^<]+)</label>", paged) == ["1 to 15", "16 to 30", "31 to 32 of 32"]
    assert re.findall(r'class="(opslib-page-\d+)"', paged) == ["opslib-page-1", "opslib-page-2", "opslib-page-3"]
    # The same table of another open notebook keeps its own choice.
    assert paged.count("<form>") == 1
    assert paged.count(" checked") == 1
    assert paged == split_pages(make_html(32), "long")


def test_paper_and_pages_without_styles_hold_all_rows() -> None:
    style = re.findall(r"<style>(.*?)</style>", split_pages(make_html(32), "long"), re.DOTALL)[-1]
    outside, _, inside = style.partition("@media screen {")
    assert "display: none" not in outside
    assert inside.count("display: none") == 3
