"""Long tables in pages: with radio buttons and CSS alone, so that it works wherever HTML is shown.

A reader chooses "16 to 30" with the mouse or the arrow keys, and a screen reader says so. Without styles, as in a
notebook that is not trusted, and on paper, all rows are there.
"""

from __future__ import annotations

import re

from opslib.language import say

PAGE_ROWS = 15
TABLE = re.compile(r"<table.*?</table>", re.DOTALL)
BODY = re.compile(r"(<tbody[^>]*>)(.*?)</tbody>", re.DOTALL)
ROW = re.compile(r"<tr.*?</tr>", re.DOTALL)
STYLE = """
#{name} .opslib-pages {{ border: 0; margin: 0 0 8px; padding: 0; font-size: 13px; }}
#{name} .opslib-pages label {{ margin: 0 12px 0 0; white-space: nowrap; }}
@media screen {{ {rules} }}
"""


def split_pages(page: str, name: str, *, rows: int = PAGE_ROWS) -> str:
    """Divide a table into pages.

    Args:
        page: HTML of one great-table, whose outer element has the id `name`.
        name: that id; no other table of a page has it.
        rows: of one page.

    Returns:
        The HTML with a choice of pages above the table, or as it was where the table is no longer than a page.

    >>> html = '<div id="t"><table><tbody>' + "<tr><td>1</td></tr>" * 3 + "</tbody></table></div>"
    >>> split_pages(html, "t") == html, split_pages(html, "t", rows=2).count("<tbody")
    (True, 2)
    """
    table = TABLE.search(page)
    body = BODY.search(table[0]) if table else None
    if table is None or body is None:
        return page
    found = ROW.findall(body[2])
    parts = [found[i : i + rows] for i in range(0, len(found), rows)]
    if len(parts) < 2:
        return page
    bodies = [f"{body[1]}{''.join(part)}</tbody>" for part in parts]
    paged = table[0][: body.start()] + "".join(bodies) + table[0][body.end() :]
    return page[: table.start()] + _write_choice(name, parts) + paged + page[table.end() :]


def _write_choice(name: str, parts: list[list[str]]) -> str:
    total, choices, rules, first = sum(map(len, parts)), [], [], 1
    for number, part in enumerate(parts, 1):
        last = first + len(part) - 1
        span = say("{first} to {last}", first=first, last=last) if last > first else str(first)
        if number == len(parts):
            span = say("{rows} of {total}", rows=span, total=total)
        checked = " checked" if number == 1 else ""
        choices.append(
            f'<label><input type="radio" name="{name}-page" class="opslib-page-{number}"{checked}>{span}</label>'
        )
        rules.append(
            f"#{name}:has(.opslib-page-{number}:checked) tbody:not(:nth-of-type({number})) {{ display: none; }}"
        )
        first = last + 1
    style = STYLE.format(name=name, rules=" ".join(rules))
    label, rows = say("Rows of the table"), say("Rows {choices}", choices="".join(choices))
    fields = f'<fieldset class="opslib-pages" aria-label="{label}">{rows}</fieldset>'
    # A form of its own: the same table in another open notebook keeps its own choice.
    return f"<style>{style.strip()}</style><form>{fields}</form>"
