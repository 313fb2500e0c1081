"""Everything for people has a translation, and what speaks and joins texts does so in both languages."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from string import Formatter
from typing import TypeGuard

import jinja2
import nbformat
import pytest
from babel.messages.pofile import read_po
from jinja2 import nodes

import opslib
from opslib.errors import InputError
from opslib.language import (
    LANGUAGES,
    LOCALE,
    check_language,
    get_language,
    join_clauses,
    join_sentences,
    join_words,
    mark,
    read_catalogue,
    say,
    set_language,
    speak,
)
from opslib.run.translation import list_texts

PACKAGE = Path(opslib.__file__).parent
NOTEBOOKS = PACKAGE.parent / "notebooks"
SPEAKERS = ("say", "mark")
HAN = "\u4e00-\u9fff"
# Commas and full stops of English after Chinese letters, spaces between them, marks in a row.
QUOTED = re.compile("“[^”]*”")
CLUMSY = re.compile(rf"[{HAN}][,;:?!](?!\S*/)|[{HAN}] +[{HAN}]|[，。；：、]{{2}}|。\.|\.。")


@cache
def list_trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def list_speakers(path: Path) -> frozenset[str]:
    """Those of opslib's own `say` and `mark` that a module uses; the command line's `say` prints."""
    if path == PACKAGE / "language.py":
        return frozenset(SPEAKERS)
    imports = (node for node in list_trees()[path].body if isinstance(node, ast.ImportFrom))
    names = {alias.name for node in imports if node.module == "opslib.language" for alias in node.names}
    return frozenset(names.intersection(SPEAKERS))


@cache
def list_calls() -> tuple[tuple[str, ast.Call], ...]:
    """Where each text is said or marked, and how."""
    return tuple(
        (f"{path.relative_to(PACKAGE)}:{node.lineno}", node)
        for path, tree in list_trees().items()
        if list_speakers(path)
        for node in ast.walk(tree)
        if is_call(node, list_speakers(path))
    )


def is_call(node: ast.AST, names: Iterable[str]) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


def read_literal(call: ast.Call) -> str:
    """The text of `say("...")` or `mark("...")`; empty where it is a name that something else marked."""
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


def list_handbook_texts() -> Iterator[str]:
    handbook = tomllib.loads((PACKAGE / "data" / "handbook.toml").read_text("utf-8"))
    for rule in handbook["rules"]:
        yield from (rule["name"].replace("_", " "), rule["says"], *rule["steps"])
    for remedies in handbook["remedies"].values():
        yield from remedies
    for step in handbook["crisis"]["steps"]:
        yield from (step["name"], step["owner"], step["text"])


def list_template_texts() -> Iterator[str]:
    for path in (PACKAGE / "run" / "templates").rglob("*.j2"):
        for call in jinja2.Environment().parse(path.read_text("utf-8")).find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name == "say" and isinstance(call.args[0], nodes.Const):
                yield call.args[0].value


@cache
def gather_texts() -> dict[str, str]:
    """Every text for people -> where it is said first."""
    found: dict[str, str] = {}
    for where, call in list_calls():
        if text := read_literal(call):
            found.setdefault(text, where)
    for text in list_handbook_texts():
        found.setdefault(text, "data/handbook.toml")
    for text in list_template_texts():
        found.setdefault(text, "run/templates")
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        for text in list_texts(nbformat.read(path, 4)):
            found.setdefault(text, f"notebooks/{path.name}")
    return found


@cache
def gather_translations() -> dict[str, dict[str, set[str]]]:
    """Text -> catalogue -> its translations there."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in sorted((LOCALE / "zh").glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, abort_invalid=True):
                if message.id:
                    found[str(message.id)][path.name].add(str(message.string))
    return dict(found)


def list_placeholders(text: str) -> set[tuple[str, str, str]]:
    """What a text is to be filled with: names with their formats. Texts with single braces are not filled."""
    try:
        parsed = list(Formatter().parse(text))
    except ValueError:
        return set()
    return {(name, form or "", conversion or "") for _, name, form, conversion in parsed if name is not None}


class TestCatalogues:
    def test_nothing_is_missing(self) -> None:
        translated = gather_translations()
        missing = [
            f"{where}: {text}" for text, where in gather_texts().items() if not any(translated.get(text, {}).values())
        ]
        assert missing == []

    def test_nothing_is_unused(self) -> None:
        texts = gather_texts()
        unused = [
            f"{min(catalogues)}: {text}" for text, catalogues in gather_translations().items() if text not in texts
        ]
        assert unused == []

    def test_placeholders_are_those_of_the_text(self) -> None:
        wrong = [
            f"{catalogue}: {text} -> {translation}"
            for text, catalogues in gather_translations().items()
            for catalogue, translations in catalogues.items()
            for translation in translations
            if list_placeholders(translation) != list_placeholders(text)
        ]
        assert wrong == []

    def test_one_text_has_one_translation(self) -> None:
        differing = {
            text: {name: sorted(found) for name, found in catalogues.items()}
            for text, catalogues in gather_translations().items()
            if len(set().union(*catalogues.values())) > 1
        }
        assert differing == {}

    def test_each_translation_is_written(self) -> None:
        empty = [text for text, catalogues in gather_translations().items() if "" in set().union(*catalogues.values())]
        assert empty == []

    def test_chinese_is_set_as_chinese(self) -> None:
        clumsy = {
            translation: found[0]
            for catalogues in gather_translations().values()
            for translations in catalogues.values()
            for translation in translations
            if (found := CLUMSY.search(QUOTED.sub("x", translation)))
        }
        assert clumsy == {}


class TestCode:
    def test_a_text_is_not_put_together(self) -> None:
        """What is no literal has no translation; a choice is made among texts that are marked."""
        wrong = []
        for where, call in list_calls():
            first = call.args[0] if call.args else None
            parts = ast.iter_child_nodes(first) if isinstance(first, ast.BinOp | ast.IfExp | ast.BoolOp) else ()
            if isinstance(first, ast.JoinedStr | None) or any(isinstance(p, ast.Constant) and p.value for p in parts):
                wrong.append(where)
        assert wrong == []

    def test_translators_tools_find_every_text(self) -> None:
        """They do not look into f-strings."""
        wrong = [
            f"{path.relative_to(PACKAGE)}:{node.lineno}"
            for path, tree in list_trees().items()
            for outer in ast.walk(tree)
            if isinstance(outer, ast.JoinedStr)
            for node in ast.walk(outer)
            if is_call(node, list_speakers(path)) and read_literal(node)
        ]
        assert wrong == []

    def test_values_are_those_that_the_text_names(self) -> None:
        wrong = []
        for where, call in list_calls():
            text, given = read_literal(call), {keyword.arg for keyword in call.keywords}
            # Without values a text is not filled in, and its braces are its own.
            if text and given and None not in given and given != {name for name, *_ in list_placeholders(text)}:
                wrong.append(f"{where}: {text}")
        assert wrong == []

    def test_nothing_is_said_before_the_language_is_known(self) -> None:
        """What is said when a module is loaded, a class made or a default set stays English."""
        wrong: list[str] = []

        def look(path: Path, node: ast.AST, *, running: bool) -> None:
            if is_call(node, list_speakers(path) - {"mark"}) and not running:
                wrong.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
            later: list[ast.AST] = []
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                later = [*node.body] if isinstance(node.body, list) else [node.body]
            for part in ast.iter_child_nodes(node):
                look(path, part, running=running or part in later)

        for path, tree in list_trees().items():
            if list_speakers(path):
                look(path, tree, running=False)
        assert wrong == []


@pytest.mark.parametrize("path", sorted((LOCALE / "zh").glob("*.po")), ids=lambda p: p.stem)
def test_a_catalogue_is_read_as_translators_tools_read_it(path: Path) -> None:
    with path.open("rb") as file:
        messages = {str(m.id): str(m.string) for m in read_po(file, abort_invalid=True) if m.id and m.string}
    assert read_catalogue(path.read_text("utf-8")) == messages


def test_what_is_fuzzy_or_obsolete_is_left_out() -> None:
    blocks = [
        '#, fuzzy\nmsgid "a"\nmsgstr "b"',
        '#~ msgid "c"\n#~ msgstr "d"',
        'msgid ""\n"e \\"f\\""\nmsgstr "g"',
        'msgid "h"\nmsgstr ""',
    ]
    assert read_catalogue("\n\n".join(blocks)) == {'e "f"': "g"}


class TestSay:
    def test_english_is_what_the_code_says(self) -> None:
        assert get_language() == "en"
        assert say("Next action") == "Next action"
        assert say("{shown:,} of {total:,} rows.", shown=20, total=1200) == "20 of 1,200 rows."

    def test_chinese_comes_from_the_catalogue(self) -> None:
        with speak("zh"):
            assert say("Next action") == "下一步"
            assert say("{shown:,} of {total:,} rows.", shown=20, total=1200) == "显示1,200行中的20行。"

    def test_without_translation_a_text_stays_english(self) -> None:
        with speak("zh"):
            assert say("no catalogue has this: {count:,}", count=1200) == "no catalogue has this: 1,200"

    def test_without_values_braces_stay(self) -> None:
        assert say('write columns = { column = "..." }') == 'write columns = { column = "..." }'

    def test_values_are_never_formatted_again(self) -> None:
        assert say("{name} ({count:,})", name="{count} {0}", count=1) == "{count} {0} (1)"

    def test_mark_changes_nothing(self) -> None:
        with speak("zh"):
            assert mark("Next action") == "Next action"


class TestSpeak:
    def test_the_language_before_comes_back(self) -> None:
        with speak("zh"):
            with speak("en"):
                assert get_language() == "en"
            assert get_language() == "zh"
        assert get_language() == "en"

    def test_it_comes_back_after_an_error(self) -> None:
        with pytest.raises(ZeroDivisionError), speak("zh"):
            raise ZeroDivisionError
        assert get_language() == "en"

    def test_empty_is_english(self) -> None:
        with speak("zh"):
            set_language("")
            assert get_language() == "en"

    def test_an_unknown_language_changes_nothing(self) -> None:
        with pytest.raises(InputError), speak("de"):
            pass
        assert get_language() == "en"


@pytest.mark.parametrize("language", ["", *LANGUAGES])
def test_known_languages_are_taken(language: str) -> None:
    assert check_language(language) == language


@pytest.mark.parametrize("language", ["cn", "zh-CN", "EN", "中文", " "])
def test_unknown_languages_are_refused(language: str) -> None:
    with pytest.raises(InputError, match="There is no language") as error:
        check_language(language)
    assert "en (English), zh (中文)" in str(error.value)


@pytest.mark.parametrize(
    ("words", "english", "chinese"),
    [([], "", ""), (["a"], "a", "a"), (["a", "b"], "a and b", "a和b"), (["a", "b", "c"], "a, b and c", "a、b和c")],
)
def test_words_are_joined(words: list[str], english: str, chinese: str) -> None:
    assert join_words(iter(words)) == english
    assert join_words(words, last="or") == english.replace(" and ", " or ")
    with speak("zh"):
        assert join_words(words) == chinese
        assert join_words(words, last="or") == chinese.replace("和", "或")


def test_clauses_are_joined() -> None:
    assert join_clauses(["", "12 came", "", "3 stayed"]) == "12 came; 3 stayed"
    assert join_clauses([]) == ""
    with speak("zh"):
        assert join_clauses(["来了12人", "", "留下3人"]) == "来了12人；留下3人"


def test_sentences_are_joined() -> None:
    assert join_sentences(["One.", "", "Two."]) == "One. Two."
    with speak("zh"):
        assert join_sentences(["来了12人。", "留下3人。"]) == "来了12人。留下3人。"
