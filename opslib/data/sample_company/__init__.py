"""The sample company: a made-up learning-and-shop app with planted incidents whose truth is known.

    generate_sample("data/samples")                            the sample that ships
    generate_sample(out, events=100_000_000)                   the same company, larger
    generate_sample(out, incidents=())                         nothing happens: for false alarms
    generate_sample(out, incidents=(*INCIDENTS, Incident(...)))

Names are loaded on first use, so that importing `opslib.data` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opslib.data.sample_company.company import SampleSettings
    from opslib.data.sample_company.generate import Summary, generate_sample
    from opslib.data.sample_company.incidents import INCIDENTS, KINDS, Incident, Segment

_HOMES = {
    "INCIDENTS": "incidents",
    "KINDS": "incidents",
    "Incident": "incidents",
    "SampleSettings": "company",
    "Segment": "incidents",
    "Summary": "generate",
    "generate_sample": "generate",
}

__all__ = ["INCIDENTS", "KINDS", "Incident", "SampleSettings", "Segment", "Summary", "generate_sample"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
