"""opslib: an operations playbook you can run.

The public names, loaded when first used so that `import opslib` costs nothing:

>>> import opslib
>>> data = opslib.open_data("playbook.toml")  # doctest: +SKIP
>>> review = opslib.review_quarter(data, quarter="2026Q2")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from opslib import _startup as _startup

if TYPE_CHECKING:
    from opslib.data.playbook import load_playbook
    from opslib.data.source import open_data
    from opslib.decide.churn.investigation import investigate_churn
    from opslib.decide.crisis.investigation import investigate_voice
    from opslib.decide.funnel.diagnosis import diagnose_funnel
    from opslib.decide.growth.model import model_growth
    from opslib.decide.questions import survey_data
    from opslib.decide.review.review import review_quarter
    from opslib.decide.watch.watch import watch_company
    from opslib.errors import InputError, OpslibError
    from opslib.measure.acquisition import measure_acquisition
    from opslib.measure.funnel.follow import list_dropped_users
    from opslib.measure.growth import account_growth, measure_activity
    from opslib.measure.retention import measure_retention
    from opslib.measure.revenue import measure_revenue
    from opslib.parameters import check_parameters, load_parameters
    from opslib.present.answers import describe, show_answer, show_next_actions
    from opslib.present.widgets.exploration import explore

__version__ = "0.1.0"

_HOMES = {
    "InputError": "opslib.errors",
    "OpslibError": "opslib.errors",
    "account_growth": "opslib.measure.growth",
    "check_parameters": "opslib.parameters",
    "describe": "opslib.present.answers",
    "diagnose_funnel": "opslib.decide.funnel.diagnosis",
    "explore": "opslib.present.widgets.exploration",
    "investigate_churn": "opslib.decide.churn.investigation",
    "investigate_voice": "opslib.decide.crisis.investigation",
    "list_dropped_users": "opslib.measure.funnel.follow",
    "load_parameters": "opslib.parameters",
    "load_playbook": "opslib.data.playbook",
    "measure_acquisition": "opslib.measure.acquisition",
    "measure_activity": "opslib.measure.growth",
    "measure_retention": "opslib.measure.retention",
    "measure_revenue": "opslib.measure.revenue",
    "model_growth": "opslib.decide.growth.model",
    "open_data": "opslib.data.source",
    "review_quarter": "opslib.decide.review.review",
    "show_answer": "opslib.present.answers",
    "survey_data": "opslib.decide.questions",
    "show_next_actions": "opslib.present.answers",
    "watch_company": "opslib.decide.watch.watch",
}

__all__ = [
    "InputError",
    "OpslibError",
    "account_growth",
    "check_parameters",
    "describe",
    "diagnose_funnel",
    "explore",
    "investigate_churn",
    "investigate_voice",
    "list_dropped_users",
    "load_parameters",
    "load_playbook",
    "measure_acquisition",
    "measure_activity",
    "measure_retention",
    "measure_revenue",
    "model_growth",
    "open_data",
    "review_quarter",
    "show_answer",
    "show_next_actions",
    "survey_data",
    "watch_company",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'opslib' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
