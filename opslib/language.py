"""The language that opslib speaks: English as written in the code, others from catalogues in `locale/`.

Every sentence, label and title for people goes through `say`. Catalogues are gettext's `.po` files, so that translators
can use their own tools; CONTRIBUTING tells how to extract and add texts. A text without a translation stays English.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from opslib.errors import InputError, suggest_name

LANGUAGES = {"en": "English", "zh": "中文"}
LOCALE = Path(__file__).parent / "locale"

_spoken = "en"


def set_language(language: str) -> None:
    """Speak a language from now on, in the whole process; empty means English.

    Raises:
        InputError: a language there is no catalogue for.
    """
    global _spoken
    _spoken = check_language(language) or "en"


def get_language() -> str:
    """The language spoken now: `en` or `zh`."""
    return _spoken


def check_language(language: str) -> str:
    """Give the language back if it can be spoken; empty is allowed.

    Raises:
        InputError: it cannot.
    """
    if language and language not in LANGUAGES:
        known = ", ".join(f"{code} ({name})" for code, name in LANGUAGES.items())
        raise InputError(f"There is no language '{language}'.{suggest_name(language, LANGUAGES)} There are: {known}.")
    return language


@contextlib.contextmanager
def speak(language: str) -> Iterator[None]:
    """Speak a language for a while.

    >>> with speak("zh"):
    ...     say("Next action")
    '下一步'
    """
    before = _spoken
    set_language(language)
    try:
        yield
    finally:
        set_language(before)


def say(text: str, /, **values: Any) -> str:
    """Say a text in the language spoken now, with values put where it names them.

    Args:
        text: the English text, a literal so that it can be extracted, or one that `mark` marked.
        values: what `{name}` in the text stands for; a format such as `{count:,}` belongs to the text.

    >>> say("{count:,} of {total:,} users", count=1200, total=5000)
    '1,200 of 5,000 users'
    """
    said = text if _spoken == "en" else (_load_catalogue(_spoken).get(text) or text)
    return said.format(**values) if values else said


def mark(text: str) -> str:
    """Mark a text of a constant as one to translate; `say` translates it where it is used."""
    return text


def join_words(words: Iterable[str], *, last: str = "and") -> str:
    """Join words as a list in a sentence; `last` is `and` or `or`.

    >>> join_words(["social", "search", "referral"])
    'social, search and referral'
    """
    *rest, end = list(words) or [""]
    if not rest:
        return end
    template = mark("{words} and {end}") if last == "and" else mark("{words} or {end}")
    return say(template, words=say(", ").join(rest), end=end)


def join_clauses(clauses: Iterable[str]) -> str:
    """Join clauses into one sentence, empty ones left out.

    >>> join_clauses(["12 came", "", "3 stayed"])
    '12 came; 3 stayed'
    """
    return say("; ").join(clause for clause in clauses if clause)


def join_sentences(sentences: Iterable[str]) -> str:
    """Join whole sentences, empty ones left out.

    >>> join_sentences(["One.", "", "Two."])
    'One. Two.'
    """
    said = ""
    for sentence in filter(None, sentences):
        # Chinese sentences follow each other without a space; a playbook's own may be in English all the same.
        together = _spoken == "zh" and not said[-1:].isascii()
        said += sentence if together or not said else f" {sentence}"
    return said


@cache
def _load_catalogue(language: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted((LOCALE / language).glob("*.po")):
        found |= read_catalogue(path.read_text("utf-8"))
    return found


def read_catalogue(text: str) -> dict[str, str]:
    """Read a `.po` file: text -> translation; what is not translated, or marked as fuzzy or obsolete, is left out.

    Every kernel that speaks Chinese waits for this: Babel takes several times as long, and only tests need it.

    >>> read_catalogue('msgid "Next"\\n"action"\\nmsgstr "下一步"')
    {'Nextaction': '下一步'}
    """
    found: dict[str, str] = {}
    for block in re.split(r"\n\s*\n", text):
        parts: dict[str, list[str]] = {}
        for line in block.splitlines():
            key, quote, rest = line.partition('"')
            if line.startswith("#, ") and "fuzzy" in line:
                break
            if quote and not line.startswith("#"):
                parts.setdefault(key.strip() or next(reversed(parts), ""), []).append(json.loads(quote + rest))
        else:
            found["".join(parts.get("msgid", ()))] = "".join(parts.get("msgstr", ()))
    return {said: translated for said, translated in found.items() if said and translated}
