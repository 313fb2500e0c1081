"""The project's own files agree: dependencies, start-up, what may be committed, targets, decisions."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent

# PyPI's names where conda-forge has others. conda's ibis-duckdb is ibis-framework[duckdb].
CONDA_NAMES = {
    "ibis-framework": "ibis-duckdb",
    "duckdb": "python-duckdb",
    "great-tables": "great_tables",
    "playwright": "playwright-python",
    "tzdata": "python-tzdata",
}


def _read_requirements(*extras: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [line for e in extras for line in project["optional-dependencies"][e]]
    return [Requirement(line) for line in lines]


def _read_constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): str(pin.specifier) for pin in pins}


def _load_check_files() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_files", ROOT / ".ci" / "check_files.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_files = _load_check_files()


# Dependencies


def test_conda_environment_is_the_same_set_as_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = {r.name: r.specifier for r in map(Requirement, environment["dependencies"]) if r.name != "pip"}
    assert str(conda.pop("python")) == ">=3.11"
    ours = {CONDA_NAMES.get(r.name, r.name): r.specifier for r in _read_requirements("test")}
    assert conda == ours


def test_constraints_satisfy_every_requirement() -> None:
    pins = _read_constraints()
    for requirement in _read_requirements("test", "bench"):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not in constraints.txt"
        assert requirement.specifier.contains(pin.removeprefix("==")), f"{requirement} against {pin}"


def test_constraints_are_exact_versions_and_nothing_else() -> None:
    for name, pin in _read_constraints().items():
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", pin), f"{name}{pin}"
    text = (ROOT / "constraints.txt").read_text()
    assert "opslib==" not in text
    assert not re.search(r"https?:|file:|--hash|^-", text, re.MULTILINE)


# Start-up


def _run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return result.stdout


def test_import_opslib_imports_nothing_heavy() -> None:
    heavy = "pandas numpy ibis altair duckdb scipy pyarrow pydantic papermill IPython"
    code = f"import sys, opslib; print([name for name in '{heavy}'.split() if sys.modules.get(name)])"
    assert _run_python(code).strip() == "[]"


def test_start_up_leaves_out_the_iri_grammars_and_validation_still_works() -> None:
    code = """
import json, sys
import opslib, jsonschema, altair
checker = jsonschema.FormatChecker()
dates = jsonschema.Draft202012Validator({"format": "date"}, format_checker=checker)
chart = altair.Chart(altair.Data(values=[{"a": 1}])).mark_bar().encode(x="a:Q")
print(json.dumps({
    "grammars": sys.modules["rfc3987_syntax"] is not None or "lark" in sys.modules,
    "dates": [dates.is_valid("2026-06-30"), dates.is_valid("today")],
    "chart": chart.to_dict()["mark"]["type"],
}))
"""
    found = json.loads(_run_python(code))
    assert found == {"grammars": False, "dates": [True, False], "chart": "bar"}


# What may be committed


def test_no_tracked_file_is_too_big_holds_a_secret_or_names_one_machine() -> None:
    try:
        files = check_files.find_tracked()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    assert [finding for path in files for finding in check_files.find_in_file(path)] == []


# Each secret is put together here, so that this file passes the check itself.
SECRETS = [
    "AKIA" + "Q7" * 8,
    "aws_secret_access_key = " + "aB3/" * 10,
    "-----BEGIN RSA " + "PRIVATE KEY-----",
    "-----BEGIN " + "PRIVATE KEY-----",
    "ghp" + "_" + "a1" * 18,
    "github" + "_pat_" + "a1_B" * 10,
    "glpat" + "-" + "a1" * 10,
    "xoxb" + "-1234567890-abc",
    "pypi" + "-" + "Ab1_" * 13,
    "AIza" + "B" * 35,
    "sk" + "-proj-" + "a1" * 12,
    "eyJ" + "hbGciOiJIUzI1.eyJ" + "zdWIiOiIxMjM0." + "SflKxwRJSM",
    "url = 'postgresql://ops:" + "hunter2@db/shop'",
    "password = " + '"hunter2"',
    "db_password: str = " + "'correct-horse'",
    '{"password"' + ': "hunter2"}',
    "export PGPASSWORD" + "=hunter2",
    "api_key = " + '"9f8e7d6c5b4a39281706"',
]
HARMLESS = [
    "password = os.environ['PGPASSWORD']",
    'password = ""',
    "password: str | None = None",
    'url = "postgresql://user:password@host/database"',
    'url = "postgresql://ops:${PGPASSWORD}@db/shop"',
    'password = "<your password>"',
    'token = "quarterly-review"',
    "PGPASSWORD=$SECRET_FROM_VAULT",
    'password = "hunter2"  # not a secret',
    "the password is read from the environment only",
    "opslib report --out reports/2026Q2",
]
MACHINES = [
    "see https://files." + "python" + "hosted.org/packages",
    "--index-url https://" + "pypi" + ".org/simple",
    "data = '/" + "work/main/data'",
    "open('/" + "tmp/x.csv')",
    "/" + "home/maria/reports",
    "farm" + "-something",
]
NO_MACHINES = ["docs/" + "work/notes.md", "benchmarks/" + ".work/", "~/" + "work/x", "a " + "farm"]


@pytest.mark.parametrize("line", SECRETS + MACHINES)
def test_check_files_finds(line: str) -> None:
    assert [number for number, _ in check_files.find_in_text(f"first line\n{line}\n")][:1] == [2]


@pytest.mark.parametrize("line", [*HARMLESS, *NO_MACHINES])
def test_check_files_lets_through(line: str) -> None:
    assert list(check_files.find_in_text(line)) == []


def test_check_files_never_prints_the_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "settings.py"
    path.write_text("\n" + SECRETS[0] + "\n")
    assert check_files.main([str(path)]) == 1
    output = capsys.readouterr().out
    assert "settings.py:2: an AWS access key" in output
    assert SECRETS[0] not in output


@pytest.mark.parametrize(("name", "size"), [("big.ipynb", 400_001), ("big.parquet", 6_000_001)])
def test_check_files_refuses_big_files(tmp_path: Path, name: str, size: int) -> None:
    path = tmp_path / name
    path.write_bytes(bytes(size))
    assert "over the limit" in "".join(check_files.find_in_file(path))
    path.write_bytes(bytes(size - 1))
    assert list(check_files.find_in_file(path)) == []


# Makefile


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_alone_lists_every_public_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    public = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert public is not None
    targets = set(public.group(1).split())
    assert targets >= {"report", "test", "lab", "notebooks", "lint", "bench", "sample"}
    listing = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    listed = dict(re.findall(r"^  make (\S+) +(\S.*)$", listing, re.MULTILINE))
    assert listed.keys() == targets
    assert len(listing.splitlines()) == len(targets)


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_says_what_is_missing_without_a_new_enough_python(tmp_path: Path) -> None:
    old = tmp_path / "python-old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && exec echo Python 3.9.2\nexit 1\n')
    old.chmod(0o755)
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / ".ci", copy / ".ci")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, copy)
    result = subprocess.run(["make", "report", f"PYTHON={old}"], cwd=copy, capture_output=True, text=True)
    assert result.returncode != 0
    assert f"opslib needs Python 3.11 or newer. Looked for: {old} (3.9.2)." in result.stderr
    assert "apt-get install python3 python3-venv" in result.stderr
    assert not (copy / ".venv").exists()


# Decisions


def test_every_decision_has_a_number_a_title_a_status_and_a_place_in_the_index() -> None:
    decisions = sorted((ROOT / "docs" / "adr").glob("*.md"))
    index = decisions[0].read_text()
    assert [path.name[:4] for path in decisions] == [f"{number:04d}" for number in range(len(decisions))]
    for path in decisions:
        title, _, status = path.read_text().splitlines()[:3]
        assert re.fullmatch(rf"# {path.name[:4]}: \S.+", title), path.name
        assert re.match(r"Status: (proposed|accepted|superseded by \d{4})", status), path.name
        assert path is decisions[0] or f"({path.name})" in index, f"{path.name} is not in the index"


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs"])
def test_links_lead_somewhere(path: str) -> None:
    files = [ROOT / path] if path.endswith(".md") else sorted((ROOT / path).rglob("*.md"))
    for file in files:
        links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8"))
        broken = [link for link in links if "://" not in link and not (file.parent / link).exists()]
        assert broken == [], file.name
