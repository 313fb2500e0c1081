"""Training for new operations staff: lessons with questions that are checked, hints, and progress.

>>> from opslib import training
>>> lesson = training.start("read_a_funnel")  # doctest: +SKIP
>>> lesson.ask("lost_most").check("C")  # doctest: +SKIP
"""

from __future__ import annotations

from opslib.training.cases.case import open_case
from opslib.training.start import show_progress, start

__all__ = ["open_case", "show_progress", "start"]
