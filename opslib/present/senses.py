"""Words that are one in English and several in other languages."""

from __future__ import annotations

from opslib.language import get_language, say


def say_sense(word: str, meaning: str) -> str:
    """Say a word that a catalogue holds with another meaning.

    Args:
        word: as English has it.
        meaning: a text of its own in the catalogues, marked as one to translate; English never shows it.

    >>> say_sense("Was", "Actual value")
    'Was'
    """
    return word if get_language() == "en" else say(meaning)
