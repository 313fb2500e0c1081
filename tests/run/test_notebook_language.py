"""Notebooks and reports in Chinese: nothing of the notebooks' words is without a translation, and pages speak it."""

from __future__ import annotations

import email
import email.policy
import hashlib
import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pytest
from babel.messages.pofile import read_po
from click.testing import CliRunner

from opslib.language import LOCALE, get_language, say, speak
from opslib.parameters import check_parameters
from opslib.present.dates import speak_dates
from opslib.run import template
from opslib.run.alert import describe_report
from opslib.run.archive import hash_parameters
from opslib.run.chapters import Run
from opslib.run.charts import draw_chart
from opslib.run.cli import cli
from opslib.run.notebooks import read_notebook
from opslib.run.report import make_report
from opslib.run.translation import list_texts, split_markdown, translate_notebook
from opslib.run.watch import open_runs
from tests.run import fakes

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
CODE = re.compile(r"`[^`]+`")
SAY = re.compile(r"""say\("((?:[^"\\]|\\.)+)\"""")
FIELD = re.compile(r"\{\w+(?::[^}]*)?\}")


@cache
def read_catalogue(name: str) -> dict[str, str]:
    with (LOCALE / "zh" / f"{name}.po").open("rb") as file:
        return {str(m.id): str(m.string) for m in read_po(file) if m.id}


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
class TestNotebook:
    def test_every_text_has_a_translation(self, path: Path) -> None:
        known = read_catalogue("notebooks")
        missing = [text for text in list_texts(read_notebook(path)) if not known.get(text)]
        assert not missing, "add to opslib/locale/zh/notebooks.po:\n" + "\n".join(
            f'\nmsgid {json.dumps(text, ensure_ascii=False)}\nmsgstr ""' for text in missing
        )

    def test_translation_keeps_the_notebook(self, path: Path) -> None:
        """Cells, their ids, code and outputs, headings and lists are the same; only words change."""
        notebook = read_notebook(path)
        with speak("zh"):
            chinese = translate_notebook(notebook, {"lang": "zh"})
        nbformat.validate(chinese)
        assert [c.id for c in chinese.cells] == [c.id for c in notebook.cells]
        for before, after in zip(notebook.cells, chinese.cells, strict=True):
            if before.cell_type == "markdown":
                marks = [[mark for mark, text in split_markdown(c.source) if text] for c in (before, after)]
                assert marks[0] == marks[1]
                words = re.sub(r"`[^`]*`|\*\*|https?:\S+", "", after.source)
                assert not re.search(r"[A-Za-z]+ [A-Za-z]+ [A-Za-z]+", words), after.source
                # No slanted Chinese, and no bold that a full stop keeps from ending.
                assert not re.search(r"(?<!\*)\*(?!\*)|[，。；：！？]\*\*\w", after.source), after.source
            elif "parameters" in before.metadata.get("tags", []):
                values: list[dict[str, object]] = [{}, {}]
                for cell, found in zip((before, after), values, strict=True):
                    exec(cell.source, found)
                    del found["__builtins__"], found["__annotations__"]
                assert values[1] == values[0] | {"lang": "zh"}
                # Papermill loses a parameter whose comment holds an equals sign.
                assert all("=" not in line.partition("#")[2] for line in after.source.splitlines())
            else:
                assert after == before


def test_catalogue_of_notebooks_holds_nothing_else() -> None:
    texts = {text for path in FOLDER.rglob("*.ipynb") for text in list_texts(nbformat.read(path, 4))}
    assert set(read_catalogue("notebooks")) <= texts
    for text, said in read_catalogue("notebooks").items():
        assert sorted(set(CODE.findall(text))) == sorted(set(CODE.findall(said))), text


def test_english_notebooks_stay_as_they_are() -> None:
    for path in PATHS:
        notebook = read_notebook(path)
        assert translate_notebook(notebook) == notebook


def test_markdown_is_split_into_texts() -> None:
    source = "# A *b*\ntext\ngoes on\n\n- one\n  more\n- two\n\n```\n# no heading\n\n- no item\n```\nEnd."
    pieces = list(split_markdown(source))
    assert [text for _, text in pieces if text] == ["A *b*", "text goes on", "one more", "two", "End."]
    assert "```\n# no heading\n\n- no item\n```" in "\n".join(mark + text for mark, text in pieces)


def test_templates_and_scripts_have_a_translation() -> None:
    texts = {t for f in template.TEMPLATES.glob("*.j2") for t in SAY.findall(f.read_text("utf-8"))}
    assert len(texts) > 30
    with speak("zh"):
        for text in texts | set(template.SCRIPT_TEXTS):
            said = say(text)
            assert said != text, text
            assert sorted(FIELD.findall(said)) == sorted(FIELD.findall(text))
            # It stands in attributes as well.
            assert not set(said) & set("<>&\"'")
        assert "隐藏全部代码" in template.load_scripts()
        assert "Hide all code" not in template.load_scripts()
    assert "Hide all code" in template.load_scripts()


@pytest.mark.parametrize(("playbook", "lang"), [("playbook.toml", "zh"), ("chinese.toml", "")])
def test_report_in_chinese(notebooks: Path, tmp_path: Path, playbook: str, lang: str) -> None:
    """Asked for, or the playbook's: the page's own words, the mail, the alert; what follows is English again."""
    texts = {"playbook": playbook, "lang": lang}
    report = make_report(["40_quarterly_review"], texts, out=tmp_path / "out", notebooks=notebooks)
    assert get_language() == "en"
    assert (report.exit_code, report.lang) == (0, "zh")
    page = (report.out / "40_quarterly_review.html").read_text("utf-8")
    for words in ('<html lang="zh-CN">', "目录", "图表数据", "显示全部代码", "font-style: normal"):
        assert words in page
    for words in (">Contents<", "Show all code", "Table behind", ">Code<"):
        assert words not in page
    assert ("zh（默认）" in page) == (not lang)
    index = report.index.read_text("utf-8")
    assert '数字的数据文件：<a href="findings.json">findings.json</a>。' in index
    assert "&lt;script&gt;" in index
    assert "<script>" not in index
    mail = (report.out / "mail.html").read_text("utf-8")
    assert '<html lang="zh-CN">' in mail
    assert "完整报告是" in mail
    message = email.message_from_bytes((report.out / "mail.eml").read_bytes(), policy=email.policy.default)
    assert "：" in message["Subject"]
    executed = read_notebook(report.out / "notebooks" / "40_quarterly_review.ipynb")
    assert executed.metadata["lang"] == "zh"
    assert json.loads((report.out / "manifest.json").read_text("utf-8"))["lang"] == "zh"


def test_what_a_rule_opens_speaks_the_watchs_language(notebooks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The words of rules need the real one.
    monkeypatch.delitem(sys.modules, "opslib.data.source")
    watch = Run("50_daily_watch", check_parameters("50_daily_watch", {"lang": "zh"}))
    asked = {"name": "investigation", "notebook": "40_quarterly_review", "parameters": {}, "rules": []}
    data: Any = fakes.FakeData()
    assert open_runs(watch, [asked], data, folder=notebooks).runs[0].parameters.lang == "zh"


def test_language_of_a_dated_run() -> None:
    """Runs in two languages lie side by side; those from before there was a choice are still found."""

    def hash_of(lang: str) -> str:
        return hash_parameters("all", {"40_quarterly_review": check_parameters("40_quarterly_review", {"lang": lang})})

    values = {"playbook": "playbook.toml", "quarter": "", "compare_to": "", "segment": ""}
    before = json.dumps(["all", {"40_quarterly_review": values}], sort_keys=True)
    assert hash_of("") == hashlib.sha256(before.encode()).hexdigest()
    assert len({hash_of(""), hash_of("en"), hash_of("zh")}) == 3


def test_alert_is_told_in_the_reports_language(failing_notebooks: Path, tmp_path: Path) -> None:
    report = make_report(["40"], {"lang": "zh"}, out=tmp_path / "out", notebooks=failing_notebooks)
    alert = describe_report(report)
    assert alert is not None
    assert alert.cause == "40_quarterly_review未完成：ValueError (code cell 5)"
    message = json.loads(alert.to_json())
    assert message["text"].splitlines()[-1].startswith("报告：file://")
    assert "lang" not in message
    assert "**未完成**：" in (report.out / "40_quarterly_review.md").read_text("utf-8")


def test_same_input_same_bytes(notebooks: Path, tmp_path: Path) -> None:
    first, second = (
        make_report(["40"], {"lang": "zh"}, out=tmp_path / name, notebooks=notebooks).out for name in ("one", "two")
    )
    for name in ("40_quarterly_review.html", "40_quarterly_review.md", "findings.json", "index.html", "mail.eml"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_notebooks_to_work_with(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    command = ["notebooks", "--lang", "zh", "--out", str(out), "--playbook", "ours.toml"]
    assert CliRunner().invoke(cli, command, catch_exceptions=False).exit_code == 0
    assert [p.name for p in sorted(out.iterdir())] == [p.name for p in PATHS]
    for path in out.iterdir():
        notebook = read_notebook(path)
        parameters = next(c.source for c in notebook.cells if c.metadata.get("tags") == ["parameters"])
        assert 'lang: str = "zh"  #' in parameters
        assert 'playbook: str = "ours.toml"  #' in parameters
        assert notebook.cells[0].source.startswith("# ")
        assert "**问题**：" in notebook.cells[0].source
        assert not any(c.get("outputs") or c.get("execution_count") for c in notebook.cells)
    refused = CliRunner().invoke(cli, command)
    assert "is in" in str(refused.exception)
    assert CliRunner().invoke(cli, [*command, "--force"]).exit_code == 0


def test_committed_notebooks_are_never_replaced(tmp_path: Path) -> None:
    before = PATHS[0].read_bytes()
    refused = CliRunner().invoke(cli, ["notebooks", "--lang", "zh", "--out", str(FOLDER), "--force"])
    assert "name another folder" in str(refused.exception)
    assert PATHS[0].read_bytes() == before
    wrong = CliRunner().invoke(cli, ["notebooks", "--lang", "zu", "--out", str(tmp_path / "x")])
    assert "There is no language 'zu'" in str(wrong.exception)
    assert not (tmp_path / "x").exists()


def test_dates_on_axes_are_chinese() -> None:
    x = {"field": "d", "type": "temporal", "axis": {"format": "%-d %b", "values": ["2026-06-08T00:00:00"]}}
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"values": [{"d": "2026-06-08T00:00:00"}]}, "mark": "point",
        "encoding": {"x": x, "tooltip": {"field": "d", "type": "temporal", "format": "%A"}},
    }  # fmt: skip
    assert ">8 Jun<" in draw_chart({"vegalite": speak_dates(spec)})["svg"]
    with speak("zh"):
        drawn = draw_chart({"vegalite": speak_dates(spec)})
    assert ">6月8日<" in drawn["svg"]
    # What other formats would need goes along, so that a browser draws the same.
    assert drawn["vega"]["config"]["locale"]["time"]["days"][1] == "星期一"
    assert spec["encoding"]["x"]["axis"]["format"] == "%-d %b"  # type: ignore[index]
