"""What pages, mails and first pages are made of: templates that escape everything and speak the report's language."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from opslib.language import get_language, mark, say

TEMPLATES = Path(__file__).parent / "templates" / "opslib"
# A browser chooses the forms of Chinese letters by the country too.
TAGS = {"zh": "zh-CN"}
# What the scripts say; they hold each as a literal.
SCRIPT_TEXTS = (mark("Show all code"), mark("Hide all code"), mark("Static drawing: "))


def render_template(name: str, values: Mapping[str, Any]) -> str:
    """Fill one of our templates that is no notebook, such as the report's first page."""
    scripts: list[str] = []
    template = load_exporter().environment.get_template(name)
    return template.render(policy=make_policy(scripts), **values)


@lru_cache(maxsize=1)
def load_exporter() -> Any:
    """Make the nbconvert exporter with our template; the first time takes half a second."""
    from nbconvert.exporters.templateexporter import TemplateExporter

    # Nothing but our own folder: a template of this name elsewhere on the machine must not stand in.
    exporter = TemplateExporter(
        template_name="opslib", template_file="page.html.j2", extra_template_basedirs=[str(TEMPLATES.parent)]
    )
    exporter.template_paths = [str(TEMPLATES)]
    exporter.environment.autoescape = True
    exporter.environment.filters["format_value"] = format_value
    exporter.environment.globals["style"] = (TEMPLATES / "page.css").read_text("utf-8")
    exporter.environment.globals |= {"add_style": add_style, "say": say_html, "say_tag": say_tag}
    return exporter


def load_scripts(name: str = "page.js") -> str:
    """Read one of the template's scripts, its words in the language spoken now."""
    script = _read_template(name).strip()
    for text in SCRIPT_TEXTS:
        script = script.replace(json.dumps(text), json.dumps(say(text), ensure_ascii=False))
    return script


def add_style() -> str:
    """Give what the language spoken now adds to the style of pages; English adds nothing."""
    name = f"page.{get_language()}.css"
    return _read_template(name) if (TEMPLATES / name).is_file() else ""


def say_html(text: str, **values: Any) -> Markup:
    """Say a text in a page: it and the values are escaped, but for values that are markup already.

    >>> say_html("{count:,} of {name}", count=1200, name="<b>")
    Markup('1,200 of &lt;b&gt;')
    """
    said = escape(say(text))
    return said.format(**values) if values else said


def say_tag(language: str) -> str:
    """Name a language as HTML does.

    >>> say_tag("zh"), say_tag("en")
    ('zh-CN', 'en')
    """
    return TAGS.get(language, language)


def make_policy(scripts: Iterable[str]) -> str:
    """Write the content security policy of a page that holds these scripts and needs nothing from anywhere.

    >>> make_policy([]).startswith("default-src 'none'; ")
    True
    """
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    parts = ["default-src 'none'", "style-src 'unsafe-inline'", "img-src data:", "font-src data:"]
    if hashes:
        # Vega compiles the expressions in a chart's specification, which is ours: hence 'unsafe-eval'.
        allowed = " ".join(f"'sha256-{h}'" for h in hashes)
        parts.append(f"script-src {allowed}" + (" 'unsafe-eval'" if len(hashes) > 1 else ""))
    return "; ".join([*parts, "base-uri 'none'", "form-action 'none'"])


def format_value(value: Any, name: str = "") -> str:
    """Show one value of a table: thousands apart, rates as percent, nothing for what is missing.

    >>> format_value(1234567), format_value(0.12345, "d1_rate"), format_value("2026-06-01T00:00:00")
    ('1,234,567', '12.3%', '2026-06-01')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return say("yes") if value else say("no")
    if isinstance(value, int):
        return f"{value:,}" if not re.search(r"year$", name) else str(value)
    if isinstance(value, float):
        if re.search(r"(^|_)rate$", name):
            return f"{value:.1%}"
        if value.is_integer() and abs(value) < 1e15:
            return f"{int(value):,}"
        digits = 0 if abs(value) >= 1000 else 2 if abs(value) >= 0.1 else 4
        return f"{value:,.{digits}f}"
    return re.sub(r"[T ]00:00:00(\.0+)?(Z|\+00:00)?$", "", str(value))


@lru_cache(maxsize=8)
def _read_template(name: str) -> str:
    return (TEMPLATES / name).read_text("utf-8")
