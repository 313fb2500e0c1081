"""The mail beside a report: small whatever the report holds, nothing to load, the same bytes each time."""

from __future__ import annotations

import base64
import email
import email.policy
import io
import random
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from opslib.run.mail import MOST_BYTES, choose_pictures, shrink_to, write_mail
from opslib.run.publish import Facts
from tests.run.fakes import HOSTILE

FACTS = Facts("Acme <b> 北京", "2026Q2", "fit", [], "f" * 64, day="2026-06-30", place="all/2026-06-30/abcd1234/")
CHART_MIME = "application/vnd.opslib.chart+json"


def make_png(width: int, height: int, *, noisy: bool) -> bytes:
    from PIL import Image

    chance = random.Random(7)
    picture = Image.new("RGB", (width, height), "white")
    if noisy:
        picture.putdata([tuple(chance.randbytes(3)) for _ in range(width * height)])
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def make_chapter(name: str, sentences: list[str], *, png: bytes = b"", cause: str = "") -> Any:
    data = {CHART_MIME: {"alt": HOSTILE}, "image/png": base64.b64encode(png).decode()}
    outputs = (
        [SimpleNamespace(data=data, get=lambda key, default=None: data if key == "data" else default)] if png else []
    )
    notebook = SimpleNamespace(cells=[{"outputs": outputs}])
    outcome = SimpleNamespace(notebook=notebook, cause=cause, ok=not cause, name=name)
    return SimpleNamespace(outcome=outcome, page=SimpleNamespace(title=f"{name} {HOSTILE}"), sentences=sentences)


class Tags(HTMLParser):
    """Collects the tags of a page and every address in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "background")]


def read_mail(folder: Path) -> Any:
    return email.message_from_bytes((folder / "mail.eml").read_bytes(), policy=email.policy.default)


def test_what_a_mail_says(tmp_path: Path) -> None:
    png = make_png(900, 400, noisy=False)
    chapters = [
        make_chapter("one", ["Revenue rose by 12%.", HOSTILE, *(f"More {n}." for n in range(9))], png=png),
        make_chapter("two", [], cause="ValueError: no luck (code cell 3)", png=png),
    ]
    write_mail(tmp_path, FACTS, chapters, ["complaints", "churn up three months"])
    page = (tmp_path / "mail.html").read_text("utf-8")
    order = ["Revenue rose by 12%.", "no luck", "Rules that fire", "churn up three months", "<img", "The full report"]
    places = [page.index(words) for words in order]
    assert places == sorted(places)
    assert "And 5 more in the full report." in page
    assert HOSTILE not in page
    found = Tags(page)
    assert not found.tags & {"script", "link", "style", "iframe", "object", "form"}
    assert all(address.startswith("data:image/png;base64,") for address in found.addresses)

    mail = read_mail(tmp_path)
    assert mail["Subject"] == "Acme <b> 北京: 2026-06-30, 2 rules fire, 1 of 2 notebooks did not finish"
    plain, html = mail.get_body(("plain",)).get_content(), mail.get_body(("html",)).get_content()
    for words in ("Revenue rose by 12%.", "ValueError: no luck", "- churn up three months"):
        assert words in plain
    pictures = [part for part in mail.walk() if part.get_content_type() == "image/png"]
    named = {f"cid:{part['Content-ID'].strip('<>')}" for part in pictures}
    assert set(Tags(html).addresses) == named
    assert pictures[0].get_content().startswith(b"\x89PNG")
    assert mail.get_body(("html",)) is not None and mail.get_content_type() == "multipart/alternative"


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    chapters = [make_chapter("one", ["Yes."], png=make_png(300, 100, noisy=True))]
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        write_mail(folder, FACTS, chapters, [])
    assert len({(f / "mail.eml").read_bytes() for f in folders}) == 1
    assert len({(f / "mail.html").read_bytes() for f in folders}) == 1


def test_the_link_leads_to_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSLIB_REPORT_URL", "https://reports.invalid/acme/")
    write_mail(tmp_path, FACTS, [make_chapter("one", ["Yes."])], [])
    address = "https://reports.invalid/acme/all/2026-06-30/abcd1234/index.html"
    assert Tags((tmp_path / "mail.html").read_text("utf-8")).addresses == [address]
    assert address in read_mail(tmp_path).get_body(("plain",)).get_content()


@pytest.mark.parametrize(("count", "letter"), [(7, "x"), (7, "京"), (60, "京")])
@pytest.mark.parametrize("noisy", [True, False])
def test_small_whatever_the_report_holds(count: int, letter: str, noisy: bool, tmp_path: Path) -> None:
    png = make_png(600, 300, noisy=noisy)
    sentences = [letter * 800 for _ in range(12)]
    write_mail(tmp_path, FACTS, [make_chapter(str(n), sentences, png=png) for n in range(count)], ["r" * 60] * 50)
    sizes = {name: (tmp_path / name).stat().st_size for name in ("mail.html", "mail.eml")}
    assert max(sizes.values()) <= MOST_BYTES < 100_000
    page = (tmp_path / "mail.html").read_text("utf-8")
    shown = page.count("<img")
    assert shown <= (0 if noisy else 2)
    assert (f"{2 - shown} picture" in page and "left out to keep this mail small" in page) == (shown < 2)


def test_pictures_are_chosen_and_shrunk() -> None:
    big = make_png(1600, 700, noisy=False)
    chapters = [make_chapter("none", []), *(make_chapter(str(n), [], png=big) for n in range(3))]
    chosen, too_big = choose_pictures(chapters)
    assert too_big == 0
    assert [picture.width for picture in chosen] == [1120, 1120]
    assert all(len(picture.png) <= 24_000 for picture in chosen)
    # What cannot be made small enough, or is no picture, is left out.
    assert shrink_to(make_png(600, 300, noisy=True)) is None
    assert shrink_to(b"no picture") is None
