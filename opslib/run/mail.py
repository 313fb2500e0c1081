"""A short mail of a report: the answers, the rules that fire, a picture or two, and where the whole report is.

Two files: `mail.html` stands alone, with its pictures in it, and `mail.eml` is a whole mail without sender and
receiver, whose pictures are parts of it, because that is what mail programs show. Both stay below 100 kB.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from opslib.language import say
from opslib.run.alert import BASE, say_rules
from opslib.run.charts import CHART_MIME

if TYPE_CHECKING:
    from opslib.run.publish import Chapter, Facts

MOST_BYTES = 99_000
MOST_RULES = 20
MOST_PARTS = 40
MOST_PICTURE_BYTES = 24_000
# Pictures, sentences of a notebook, letters of a sentence: the first that fits is taken, whatever the report holds.
AMOUNTS = ((2, 6, 500), (1, 6, 500), (0, 6, 500), (0, 3, 300), (0, 1, 150))
# Width and colours: twice as wide as shown first, for screens with dense points; then as small as it takes.
SIZES = ((1120, 64), (840, 32), (560, 16))
SHOWN_WIDTH = 560


@dataclass(frozen=True)
class Picture:
    """A chart of a report as a small PNG."""

    alt: str
    png: bytes
    width: int

    @property
    def name(self) -> str:
        """What the mail's own parts call it; the same picture has the same name."""
        return f"{hashlib.sha256(self.png).hexdigest()[:16]}@opslib"


def write_mail(folder: Path, facts: Facts, chapters: Sequence[Chapter], rules: Sequence[str]) -> None:
    """Write `mail.html` and `mail.eml` beside a report; the same report gives the same bytes.

    Args:
        folder: where the report's pages are.
        facts: the company and the day.
        chapters: the report's notebooks, in order.
        rules: names of the rules that fire.
    """
    pictures, too_big = choose_pictures(chapters)
    for amounts in AMOUNTS:
        html, mail = build_mail(facts, chapters, rules, pictures, amounts, too_big=too_big)
        if max(len(html), len(mail)) <= MOST_BYTES:
            break
    (folder / "mail.html").write_bytes(html)
    (folder / "mail.eml").write_bytes(mail)


def build_mail(
    facts: Facts,
    chapters: Sequence[Chapter],
    rules: Sequence[str],
    pictures: Sequence[Picture],
    amounts: tuple[int, int, int],
    *,
    too_big: int = 0,
) -> tuple[bytes, bytes]:
    """Make the page that stands alone and the mail, with so many pictures, sentences and letters."""
    from opslib.run.template import render_template

    count, sentences, letters = amounts
    shown = pictures[:count]
    values = {
        **describe_mail(facts, chapters, rules, sentences, letters),
        "pictures_left": len(pictures) - len(shown) + too_big,
    }

    def render(sources: Sequence[str]) -> str:
        shown_as = [
            {"alt": p.alt, "width": min(p.width, SHOWN_WIDTH), "source": source}
            for p, source in zip(shown, sources, strict=True)
        ]
        return render_template("mail.html.j2", {**values, "pictures": shown_as})

    page = render([f"data:image/png;base64,{base64.b64encode(p.png).decode()}" for p in shown])
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = values["subject"]
    # Mail programs open it as a draft; whoever sends it adds sender, receiver and date.
    mail["X-Unsent"] = "1"
    # Words of any script take the same room in base64; quoted-printable would triple Chinese ones.
    mail.set_content(write_text(values), cte="base64")
    mail.add_alternative(render([f"cid:{p.name}" for p in shown]), subtype="html", cte="base64")
    related: Any = list(mail.iter_parts())[1]
    for picture in shown:
        related.add_related(
            picture.png, "image", "png", cid=f"<{picture.name}>", disposition="inline",
            filename=f"{picture.name.partition('@')[0]}.png",
        )  # fmt: skip
    # Python draws boundaries by lot.
    seed = hashlib.sha256(page.encode()).hexdigest()[:24]
    for number, part in enumerate(part for part in mail.walk() if part.is_multipart()):
        part.set_boundary(f"opslib-{seed}-{number}")
    return page.encode(), mail.as_bytes()


def describe_mail(
    facts: Facts, chapters: Sequence[Chapter], rules: Sequence[str], sentences: int, letters: int
) -> dict[str, Any]:
    """Gather what a mail says in words."""
    parts = []
    for chapter in chapters[:MOST_PARTS]:
        said = [shorten(sentence, letters) for sentence in chapter.sentences]
        cause = shorten(chapter.outcome.cause, letters)
        if said or cause:
            parts.append(
                {"title": chapter.page.title, "cause": cause, "sentences": said[:sentences],
                 "more": max(0, len(said) - sentences)}
            )  # fmt: skip
    failed = sum(not chapter.outcome.ok for chapter in chapters)
    head = facts.day or facts.period or facts.as_of
    if rules:
        head = say("{about}, {state}", about=head, state=say_rules(len(rules)))
    if failed:
        state = say("{count} of {total} notebooks did not finish", count=failed, total=len(chapters))
        head = say("{about}, {state}", about=head, state=state)
    base = os.environ.get(BASE, "").rstrip("/")
    more = len(rules) - MOST_RULES
    return {
        "lang": facts.lang,
        "company": facts.company,
        "head": head,
        "subject": " ".join(say("{about}: {cause}", about=facts.company, cause=head).split()),
        "parts": parts,
        "rules": [*rules[:MOST_RULES], *([say("and {count} more", count=more)] if more > 0 else [])],
        "link": f"{base}/{quote(facts.place)}index.html" if base else "",
    }


def write_text(values: Mapping[str, Any]) -> str:
    """Write the same words as plain text, for mail programs that show no HTML."""
    blocks = [f"{values['company']}\n{values['head']}"]
    for part in values["parts"]:
        lines = [part["title"]]
        lines += [say("Did not finish. {cause}", cause=part["cause"])] if part["cause"] else []
        lines += [f"- {sentence}" for sentence in part["sentences"]]
        lines += [say("And {count} more in the full report.", count=part["more"])] if part["more"] else []
        blocks.append("\n".join(lines))
    if values["rules"]:
        blocks.append("\n".join([say("Rules that fire"), *(f"- {rule}" for rule in values["rules"])]))
    place = values["link"] or say("index.html in the folder that this mail was made in")
    blocks.append(say("Full report: {place}", place=place))
    return "\n\n".join(blocks) + "\n"


def choose_pictures(chapters: Sequence[Chapter]) -> tuple[list[Picture], int]:
    """Take the first chart of each of the first two notebooks that have one.

    Returns:
        The pictures, and how many of those charts cannot be made small enough.
    """
    found: list[Picture] = []
    too_big = 0
    for chapter in chapters:
        outputs = (output for cell in chapter.outcome.notebook.cells for output in cell.get("outputs", []))
        charts = (o.data for o in outputs if CHART_MIME in o.get("data", {}) and "image/png" in o.get("data", {}))
        data = next(charts, None)
        if data is None:
            continue
        if shrunk := shrink_to(base64.b64decode(data["image/png"])):
            found.append(Picture(data[CHART_MIME].get("alt", ""), *shrunk))
        else:
            too_big += 1
        if len(found) + too_big == AMOUNTS[0][0]:
            break
    return found, too_big


def shrink_to(png: bytes, most_bytes: int = MOST_PICTURE_BYTES) -> tuple[bytes, int] | None:
    """Make a picture fit into so many bytes, by fewer points and colours; None when it cannot be.

    Returns:
        The PNG and its width in points.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        opened = Image.open(io.BytesIO(png)).convert("RGBA")
    except (OSError, UnidentifiedImageError):
        return None
    # On white, as on paper: a mail may be read on a dark ground.
    picture = Image.alpha_composite(Image.new("RGBA", opened.size, "white"), opened).convert("RGB")
    for most_width, colors in SIZES:
        width = min(most_width, picture.width)
        size = (width, max(1, round(picture.height * width / picture.width)))
        scaled = picture.resize(size, Image.Resampling.LANCZOS) if size != picture.size else picture
        file = io.BytesIO()
        scaled.quantize(colors, method=Image.Quantize.FASTOCTREE).save(file, "PNG", optimize=True)
        if len(file.getvalue()) <= most_bytes:
            return file.getvalue(), width
    return None


def shorten(text: str, letters: int) -> str:
    """Put a text on one line of bounded length.

    >>> shorten("a  b c", 4)
    'a b…'
    """
    flat = " ".join(text.split())
    return flat if len(flat) <= letters else f"{flat[: letters - 1].rstrip()}…"
