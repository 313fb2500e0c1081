"""The order of checks, what a report holds, and the command line around it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from opslib.errors import InputError
from opslib.parameters import NOTEBOOKS
from opslib.run import cli, commands, execute
from opslib.run.publish import dump_json
from opslib.run.report import choose_notebooks, make_report, slugify
from tests.run import fakes
from tests.run.test_execute import kernels_of


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test in which a kernel would start."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a kernel would have started")

    monkeypatch.setattr(execute, "run_notebooks", refuse)


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command line in this process: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as end:
        cli.main(list(arguments))
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quarter", "2026Q9"], "cannot be '2026Q9'"),
        (["--quarter", "1999Q1"], "outside the data"),
        (["--segment", "channel:nope"], "There is no channel 'nope'"),
        (["-p", "quater", "2026Q2"], "Did you mean 'quarter'?"),
        (["-p", "x = 1; import os", "1"], "no parameter 'x = 1; import os'"),
        (["-p", "api_key", "1"], "looks like a secret"),
        (["00", "--quarter", "2026Q2"], "has no parameter 'quarter'"),
        (["45_nothing"], "There is no notebook '45_nothing'"),
        (["--playbook", "missing.toml"], "There is no playbook"),
        (["--playbook", "unfit.toml"], "events.ts: 3 of 9 rows lie in the future"),
        (["--nonsense"], "No such option"),
        (["--workers", "0"], "--workers"),
        (["--notebooks", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_refused_before_a_kernel(
    arguments: list[str], message: str, tmp_path: Path, notebooks: Path, no_kernel: None,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = arguments if "--notebooks" in arguments else [*arguments, "--notebooks", str(notebooks)]
    code, out, err = run_cli(capsys, "report", *given)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    line = json.loads(out)
    assert (line["status"], line["exit_code"]) == ("refused", 2)
    assert list(tmp_path.iterdir()) == []


def test_bad_destination_is_refused_before_the_data(
    tmp_path: Path, notebooks: Path, no_kernel: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = fakes.fake_source_module()
    module.open_data = lambda playbook: pytest.fail("the data were opened")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "opslib.data.source", module)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="that is a file"):
        make_report([], {}, out=tmp_path / "file", notebooks=notebooks)


def test_report_folder(report: Path) -> None:
    names = sorted(str(p.relative_to(report)) for p in report.rglob("*") if p.is_file())
    assert names == [
        "00_start_here.html", "00_start_here.json", "00_start_here.md", "40_quarterly_review.html",
        "40_quarterly_review.json", "40_quarterly_review.md", "findings.json", "index.html", "mail.eml", "mail.html",
        "manifest.json",
        "notebooks/00_start_here.ipynb", "notebooks/40_quarterly_review.ipynb",
    ]  # fmt: skip
    assert [p.name for p in report.parent.iterdir()] == ["report"]


def test_manifest(report: Path) -> None:
    manifest = json.loads((report / "manifest.json").read_text("utf-8"))
    assert manifest["kind"] == "opslib report"
    assert manifest["exit_code"] == 0
    assert manifest["data_fingerprint"] == "f" * 64
    assert manifest["notebooks"]["40_quarterly_review"]["parameters"]["quarter"] == "2026Q2"
    assert {"python", "opslib", "pandas", "duckdb"} <= set(manifest["versions"])
    assert {"parameters", "check", "notebooks", "total"} <= set(manifest["seconds"])


def test_findings(report: Path) -> None:
    text = (report / "findings.json").read_text("utf-8")
    found = json.loads(text)["notebooks"]["40_quarterly_review"]
    assert found["findings"] == [{"metric": "x", "value": 0.3, "quarter": "2026Q2"}]
    assert found["sentences"] == ["Revenue rose by 12% to 1,234.", fakes.HOSTILE]
    assert "playbook" not in text
    assert str(report) not in text


def test_index_has_the_answers(report: Path) -> None:
    page = (report / "index.html").read_text("utf-8")
    assert "Revenue rose by 12% to 1,234." in page
    assert "Which question?" in page  # a notebook without an answer shows what it is for
    assert '<a href="40_quarterly_review.html">Quarterly review</a>' in page
    assert "2026Q2" in page


def test_executed_notebook_has_its_parameters(report: Path) -> None:
    import nbformat

    notebook = nbformat.read(report / "notebooks" / "40_quarterly_review.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert any('quarter = "2026Q2"' in c.source for c in notebook.cells)


def test_failed_notebook_and_a_second_run(
    report: Path, failing_notebooks: Path, notebooks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    common = ["--out", str(out), "--quarter", "2026Q2"]
    code, printed, err = run_cli(capsys, "report", *common, "--notebooks", str(failing_notebooks))
    assert code == 1
    line = json.loads(printed)
    assert printed.count("\n") == 1
    assert line["status"] == "failed"
    assert line["notebooks"]["00_start_here"] == {"status": "ok"}
    cause = line["notebooks"]["40_quarterly_review"]["cause"]
    assert cause == "ValueError: no <b>such</b> day (code cell 5)"
    assert err.splitlines()[-1] == f"Report: {out}/index.html"
    index = (out / "index.html").read_text("utf-8")
    assert "ValueError: no &lt;b&gt;such&lt;/b&gt; day (code cell 5)" in index
    assert "on stderr" not in err
    assert "on stdout" not in printed + err
    # The next run replaces it, and finds the very same as the run of the other tests.
    code, printed, _ = run_cli(capsys, "report", *common, "--notebooks", str(notebooks), "--workers", "1")
    assert (code, json.loads(printed)["status"]) == (0, "ok")
    assert (out / "findings.json").read_bytes() == (report / "findings.json").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_unexpected_error_is_one_line(
    tmp_path: Path, notebooks: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.setattr(execute, "run_notebooks", break_down)
    arguments = ["report", "--notebooks", str(notebooks), "--out", str(tmp_path / "out")]
    code, out, err = run_cli(capsys, *arguments)
    assert code == 1
    assert "unexpected ZeroDivisionError: first (" in err
    assert "second" not in err
    assert json.loads(out)["status"] == "failed"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError):
        cli.main(["--debug", *arguments])


def test_flags_come_from_the_models() -> None:
    options = {o.name: o for o in commands.parameter_options()}
    fields = {name for model in NOTEBOOKS.values() for name in model.model_fields}
    assert set(options) == {f"parameter_{name}" for name in fields}
    assert options["parameter_compare_to"].opts == ["--compare-to"]
    assert "[40_quarterly_review]" in (options["parameter_quarter"].help or "")
    assert "[" not in (options["parameter_playbook"].help or "")


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom opslib.run import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'pandas', 'numpy', 'ibis', 'altair', 'papermill', 'nbconvert', 'pydantic', 'rich'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert "report" in made.stdout


def test_other_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(capsys, "--version")[1].startswith("opslib ")
    code, text = run_cli(capsys, "check", "--playbook", "p.toml")[:2]
    assert code == 0
    assert "Verdict: fit\n" in text
    code, text = run_cli(capsys, "check", "--playbook", "unfit.toml")[:2]
    assert code == 2
    assert "Verdict: unfit\n" in text
    assert run_cli(capsys, "check", "--playbook", "missing.toml")[0] == 2
    code, out, err = run_cli(capsys, "sample", "--out", str(tmp_path), "--events", "1", "--users", "1")
    assert (code, out) == (2, "")
    assert "not both" in err


def test_only_notebooks_that_are_there(tmp_path: Path) -> None:
    fakes.write_notebook(tmp_path / "00_start_here.ipynb", ["1"])
    assert list(choose_notebooks([], tmp_path)) == ["00_start_here"]
    assert list(choose_notebooks(["start_here"], tmp_path)) == ["00_start_here"]
    with pytest.raises(InputError, match=r"40_quarterly_review\.ipynb"):
        choose_notebooks(["40"], tmp_path)
    with pytest.raises(InputError, match="There is no notebook"):
        choose_notebooks([], tmp_path / "nowhere")


def test_notebooks_without_their_data_are_left_out(
    tmp_path: Path, notebooks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["report", "--playbook", "subscriptions.toml", "--notebooks", str(notebooks), "--out", str(out)]
    code, printed, _ = run_cli(capsys, *arguments)
    assert code == 0
    assert json.loads(printed)["notebooks"] == {"00_start_here": {"status": "ok"}}
    index = (out / "index.html").read_text("utf-8")
    assert "for want of events or orders: Quarterly review (40_quarterly_review)." in index
    assert "40_quarterly_review.html" not in index
    assert not (out / "40_quarterly_review.html").exists()
    assert list(json.loads((out / "findings.json").read_text("utf-8"))["notebooks"]) == ["00_start_here"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["40"], "40_quarterly_review cannot do without events or orders, and these data have none of them."),
        (["00", "40", "--quarter", "2026Q2"], "40_quarterly_review cannot do without"),
        (["--quarter", "2026Q2"], "Parameter 'quarter' is for notebooks that cannot do without events or orders"),
    ],
)
def test_notebooks_that_are_asked_for_without_their_data_are_refused(
    arguments: list[str], message: str, tmp_path: Path, notebooks: Path, no_kernel: None,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    common = ["--playbook", "subscriptions.toml", "--notebooks", str(notebooks), "--out", str(tmp_path / "out")]
    code, printed, err = run_cli(capsys, "report", *arguments, *common)
    assert (code, json.loads(printed)["status"]) == (2, "refused")
    assert message in err
    assert err.count("error:") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_notebooks_that_all_lack_their_data(tmp_path: Path, no_kernel: None) -> None:
    fakes.write_notebook(tmp_path / "40_quarterly_review.ipynb", ["1"], fakes.PARAMETERS["40_quarterly_review"])
    with pytest.raises(InputError, match="40_quarterly_review cannot do without events or orders"):
        make_report([], {"playbook": "subscriptions.toml"}, out=tmp_path / "out", notebooks=tmp_path)


def test_which_notebooks_need_a_table_of_users() -> None:
    free = [slug for slug, model in NOTEBOOKS.items() if not model.needs]
    assert "00_start_here" in free
    assert not {"10_growth_model", "20_funnel_diagnosis", "40_quarterly_review"} & set(free)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_run_leaves_nothing(signal_number: int, tmp_path: Path, process_env: dict[str, str]) -> None:
    fakes.write_notebook(
        tmp_path / "nb" / "00_start_here.ipynb",
        ["open('started', 'w').close(); import time; time.sleep(60)"],
        fakes.PARAMETERS["00_start_here"],
    )
    command = [sys.executable, "-m", "tests.run.fakes", "report", "--notebooks", "nb", "--out", "out/report"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=process_env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell has its background jobs ignore Ctrl-C, and what they start inherits that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    wait_for(lambda: (tmp_path / "started").exists())
    kernels = kernels_of(process.pid)
    assert len(kernels) in (1, 2)  # with the fork server, where there is one
    process.send_signal(signal_number)
    out, err = process.communicate(timeout=20)
    assert not (tmp_path / "out" / "report").exists()
    # A killed parent cannot end its kernel: the kernel notices within a second or two.
    wait_for(lambda: not any(Path(f"/proc/{kernel}").exists() for kernel in kernels), seconds=5)
    if signal_number == signal.SIGKILL:
        return
    assert process.returncode == (130 if signal_number == signal.SIGINT else 143)
    assert json.loads(out)["exit_code"] == process.returncode
    assert "Traceback" not in err
    assert list((tmp_path / "out").iterdir()) == []


def wait_for(condition: Any, seconds: float = 20) -> None:
    """Wait until something is so, or fail."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_names_of_folders() -> None:
    assert slugify("../../etc") == "etc"
    assert slugify("") == "report"
    assert len(slugify("x" * 300)) == 60
    assert "/" not in slugify("a/b\\c")


def test_json_is_settled() -> None:
    assert (
        dump_json({"b": (0.1 + 0.2, float("inf")), "a": -0.0})
        == '{\n  "a": 0.0,\n  "b": [\n    0.3,\n    null\n  ]\n}\n'
    )
    assert json.loads(dump_json({1: "北京"})) == {"1": "北京"}
