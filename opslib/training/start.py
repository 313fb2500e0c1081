"""Beginning a lesson, or going on with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from opslib.language import set_language

if TYPE_CHECKING:
    from opslib.training.lesson import Lesson
    from opslib.training.overview import ProgressPage
    from opslib.training.progress import Progress


def start(name: str, *, lang: str = "", solve: bool = False, playbook: str = "playbook.toml") -> Lesson:
    """Begin a lesson, or go on with it.

    Args:
        name: the lesson, such as `read_a_funnel`.
        lang: `en` or `zh`; empty: as the playbook says.
        solve: answer every question with its solution; nothing is kept.
        playbook: the company to learn on; the lessons are written for the sample company.

    Returns:
        The lesson. Somebody at a JupyterLab goes on where they were: progress is kept in `training_progress.json`
        beside the playbook. Nobody's is kept in a run without anybody there.

    Raises:
        InputError: an unknown lesson or language, or a progress file that cannot be read.
    """
    from opslib.data.source import open_data
    from opslib.training.curriculum import find_lesson
    from opslib.training.lesson import Lesson
    from opslib.training.progress import Progress

    write_lesson = find_lesson(name)
    data = open_data(playbook)
    set_language(lang or data.playbook.company.lang)
    progress = Progress() if solve else load_progress(data.playbook.path)
    return Lesson(write_lesson(data), progress, solve=solve)


def load_progress(playbook: Path) -> Progress:
    """The progress of whoever is at the JupyterLab, from the file beside the playbook; empty where nobody is."""
    from opslib.training.form import is_attended
    from opslib.training.progress import FILE, Progress

    return Progress.load(playbook.parent / FILE) if is_attended() else Progress()


def show_progress(*, lang: str = "", playbook: str = "playbook.toml") -> ProgressPage:
    """Show the three tracks, and how far the learner is in each lesson.

    Raises:
        InputError: an unknown language, or a progress file that cannot be read.
    """
    from opslib.data.playbook import load_playbook
    from opslib.training.overview import ProgressPage

    loaded = load_playbook(playbook)
    set_language(lang or loaded.company.lang)
    return ProgressPage(load_progress(loaded.path))
