"""What is on screen is always one set of parameters, whatever somebody does to the controls."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import altair as alt
import pandas as pd
import pytest

from opslib.data.playbook import load_playbook
from opslib.data.source import Data, open_data
from opslib.errors import InputError
from opslib.language import say, set_language
from opslib.parameters import check_parameters, parse_parameters, read_view
from opslib.present.charts import view_chart
from opslib.present.display import VEGA_MIME, ChartView, ListView
from opslib.present.widgets.exploration import Exploration, explore
from opslib.present.widgets.live import LiveExploration
from tests.present.widgets.conftest import Page

FUNNEL = "20_funnel_diagnosis"


class Computer:
    """A main function that says what it was asked, and can wait or fail."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.hold = threading.Event()
        self.hold.set()

    def __call__(self, data: Data, **options: Any) -> SimpleNamespace:
        self.calls.append(options)
        assert self.hold.wait(20)
        if options["days"] == 13:
            raise InputError("13 days: there are none.")
        if options["days"] == 14:
            raise ZeroDivisionError("<b>a bug</b>")
        return SimpleNamespace(**options, path=SimpleNamespace(labels=["a", "b", "c"]))


def say_days(result: Any) -> str:
    return f"{result.days} days"


def say_segment(result: Any) -> str:
    return f"segment {result.segment or 'all'}"


def say_answer(result: Any) -> ListView:
    return ListView([f"{result.days} days of {result.segment or 'all'}"])


@pytest.fixture
def computer() -> Computer:
    return Computer()


@pytest.fixture
def live(page: Page, data: Data, computer: Computer) -> LiveExploration:
    made = explore(computer, data, check_parameters(FUNNEL, {}))
    assert isinstance(made, LiveExploration)
    made.show_controls("segment", "days", "step")
    made.show(say_answer)
    made.show(say_days)
    made.show(say_segment)
    return made


def change(live: LiveExploration, **values: Any) -> None:
    live.change(values)
    assert live.wait(20)


def find_control(live: LiveExploration, name: str) -> Any:
    return live._panel._controls[name][0]


def read_status(live: LiveExploration) -> str:
    return live._panel._status.value


def test_nobody_there_sees_the_result_and_no_widget(data: Data, computer: Computer, monkeypatch) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    made = explore(computer, data, check_parameters(FUNNEL, {"days": 28}))
    assert type(made) is Exploration
    assert made.show(say_days) == "28 days"
    assert made.show_controls("days") is None
    assert len(computer.calls) == 1


def test_change_reaches_every_section_that_it_concerns(live: LiveExploration, page: Page) -> None:
    change(live, days=28)
    assert page.texts == ["- 28 days of all", "'28 days'", "'segment all'"]
    # What does not depend on the days was not put there again.
    assert list(page.updates.values()) == [2, 2, 1]
    change(live, segment="channel:social")
    assert page.texts == ["- 28 days of channel:social", "'28 days'", "'segment channel:social'"]
    assert live.parameters == check_parameters(FUNNEL, {"days": 28, "segment": "channel:social"})


def test_thirty_changes_end_in_the_last_with_few_computations(
    live: LiveExploration, page: Page, computer: Computer
) -> None:
    before = len(computer.calls)
    for days in range(20, 50):
        live.change({"days": days})
        time.sleep(0.02)
    assert live.wait(20)
    assert page.texts[1] == "'49 days'"
    assert len(computer.calls) - before <= 3
    assert live.parameters.to_literals()["days"] == 49


def test_changed_chart_comes_without_a_picture(live: LiveExploration, page: Page) -> None:
    def draw_days(result: Any) -> ChartView:
        frame = pd.DataFrame({"days": [result.days]})
        chart = alt.Chart(frame).mark_bar().encode(x="days:Q")
        return view_chart(chart, f"{result.days} days", "A bar.", frame, {"days": "Days"})

    live.show(draw_days)
    before = list(page.outputs.values())[-1]
    change(live, days=28)
    after = list(page.outputs.values())[-1]
    assert {VEGA_MIME, "image/png"} <= set(before)
    assert VEGA_MIME in after and "image/png" not in after
    assert after["text/plain"] == "28 days. A bar."


@pytest.mark.parametrize(("days", "said"), [(13, "13 days: there are none."), (14, "&lt;b&gt;a bug")])
def test_failure_is_said_in_words_and_nothing_on_screen_changes(
    live: LiveExploration, page: Page, days: int, said: str
) -> None:
    before = page.texts
    change(live, days=days)
    assert said in read_status(live)
    assert "<b>" not in read_status(live)
    assert page.texts == before
    assert live.parameters == check_parameters(FUNNEL, {})
    assert live._panel._bridge.commands[0][1] == "opslib report 20_funnel_diagnosis"
    change(live, days=7)
    assert page.texts[1] == "'7 days'"
    assert "up to date" in read_status(live)


def test_section_that_fails_puts_the_others_back(live: LiveExploration, page: Page) -> None:
    def fail_at_28(result: Any) -> str:
        if result.days == 28:
            raise ValueError("cannot be drawn")
        return "fine"

    live.show(fail_at_28)
    before = page.texts
    change(live, days=28)
    assert page.texts == before
    assert "cannot be drawn" in read_status(live)


def test_impossible_value_is_refused_before_computing(live: LiveExploration, computer: Computer) -> None:
    before = len(computer.calls)
    change(live, segment="nonsense")
    assert "column:value" in read_status(live)
    assert len(computer.calls) == before


def test_stop_puts_back_what_was_there(live: LiveExploration, page: Page, computer: Computer) -> None:
    before = page.texts
    computer.hold.clear()
    live.change({"days": 28})
    for _ in range(200):
        if len(computer.calls) > 1:
            break
        time.sleep(0.01)
    assert not live._panel._stop.disabled
    live.stop()
    computer.hold.set()
    assert live.wait(20)
    assert page.texts == before
    assert "Stopped" in read_status(live)
    assert live._panel._stop.disabled
    change(live, days=7)
    assert page.texts[1] == "'7 days'"


def test_old_results_wait_dimmed_until_the_new_ones_are_there(live: LiveExploration, computer: Computer) -> None:
    seen: list[list[str]] = []
    live._panel._bridge.observe(lambda change: seen.append(list(change["new"])), "waiting")
    change(live, days=28)
    assert max(map(len, seen)) == 3
    assert seen[-1] == []


def test_sections_below_the_control_come_first_and_answers_last(data: Data, page: Page, computer: Computer) -> None:
    live = explore(computer, data, check_parameters(FUNNEL, {}))
    assert isinstance(live, LiveExploration)
    live.show_controls("days")
    live.show(say_answer)
    live.show(say_days)
    live.show_controls("step")
    live.show(say_segment)
    views = [list(live._order(live._blocks[name])) for name in ("days", "step")]
    numbered = {section.key: number for number, section in enumerate(live._sections.values())}
    assert [[numbered[s.key] for s in order] for order in views] == [[1, 2, 0], [2, 1, 0]]


def test_control_changes_parameters_and_its_twin_follows(live: LiveExploration, page: Page) -> None:
    live.show_controls("days")
    first, second = live._panel._controls["days"]
    first.write(28)
    first.notice()
    assert live.wait(20)
    assert page.texts[1] == "'28 days'"
    assert second.read() == 28


def test_drill_sets_parameters_and_controls(live: LiveExploration, computer: Computer) -> None:
    live._panel._bridge.drill = {"text": '{"step": 3, "playbook": "other.toml", "nonsense": 1}', "number": 1}
    assert live.wait(20)
    assert live.parameters == check_parameters(FUNNEL, {"step": 3})
    assert find_control(live, "step").read() == 3
    # A second click on the same mark after a reset works as well.
    live.reset()
    assert live.wait(20)
    live._panel._bridge.drill = {"text": '{"step": 3}', "number": 2}
    assert live.wait(20)
    assert live.parameters.to_literals()["step"] == 3


def test_reset_goes_back_to_the_parameters_cell(data: Data, page: Page, computer: Computer) -> None:
    live = explore(computer, data, check_parameters(FUNNEL, {"days": 28}))
    assert isinstance(live, LiveExploration)
    live.show_controls("days")
    live.show(say_days)
    change(live, days=7)
    live.reset()
    assert live.wait(20)
    assert page.texts == ["'28 days'"]
    assert find_control(live, "days").read() == 28


def test_another_language_redraws_results_and_controls(live: LiveExploration, page: Page, computer: Computer) -> None:
    try:
        live.show(lambda result: say("{name} ({count:,})", name=say("Days"), count=result.days))
        find_control(live, "lang").widget.value = "zh"
        assert live.wait(20)
        assert page.texts[-1] == "'天数（0）'"
        assert "lang" not in computer.calls[-1]
        assert [find_control(live, name).widget.description for name in ("lang", "step")] == ["语言", "要解释的步骤"]
        assert read_status(live).endswith("全部已更新。</span>")
        assert (live._panel._stop.description, live._panel._bridge.texts["copied"]) == ("停止", "已复制")
        assert "--lang zh" in dict(live._panel._bridge.commands)["opslib report"]
        # What follows stays in the language, and so does what is said of a failure.
        find_control(live, "step").widget.value = 3
        assert live.wait(20)
        assert live.parameters == check_parameters(FUNNEL, {"lang": "zh", "step": 3})
        change(live, days=13)
        assert "下方仍是之前的结果" in read_status(live)
        live.reset()
        assert live.wait(20)
        assert page.texts[-1] == "'Days (0)'"
        assert [find_control(live, name).widget.description for name in ("lang", "step")] == [
            "Language",
            "Step to explain",
        ]
    finally:
        set_language("")


def test_commands_say_what_is_on_screen(live: LiveExploration) -> None:
    change(live, days=28, segment="channel:social")
    commands = dict(live._panel._bridge.commands)
    words = commands["opslib report"].split()
    assert words[:3] == ["opslib", "report", FUNNEL]
    texts = {w.removeprefix("--"): v for w, v in zip(words[3::2], words[4::2], strict=True)}
    assert parse_parameters(FUNNEL, texts) == live.parameters
    assert commands["papermill"].endswith("-p days 28 -r segment channel:social")


def test_running_the_cells_again_starts_over(live: LiveExploration, data: Data, page: Page, computer: Computer) -> None:
    change(live, days=28)
    again = explore(computer, data, check_parameters(FUNNEL, {}))
    again.show(say_days)
    assert page.texts[-1] == "'0 days'"
    before = page.texts
    # The old controls are dead: they must not draw into the new page.
    live.change({"days": 7})
    assert live.wait(5)
    assert page.texts == before


def test_unknown_control_is_refused(live: LiveExploration) -> None:
    with pytest.raises(InputError, match="no parameter 'weeks'"):
        live.show_controls("weeks")


def test_saved_view_opens_as_what_was_on_screen(tmp_path: Path, page: Page, computer: Computer, samples: Path) -> None:
    playbook = tmp_path / "playbook.toml"
    text = (Path(samples).parents[1] / "playbook.toml").read_text("utf-8")
    playbook.write_text(text.replace("data/samples", str(samples)), "utf-8")
    parameters = check_parameters(FUNNEL, {"playbook": str(playbook)})
    live = explore(computer, open_data(playbook), parameters)
    assert isinstance(live, LiveExploration)
    live.show_controls("days")
    change(live, days=28, segment="channel:social")
    live._panel.save("android-checkout")
    assert "saved" in read_status(live)
    view = read_view(str(playbook), "android-checkout")
    assert check_parameters(view.notebook, {**view.parameters, "playbook": str(playbook)}) == live.parameters
    assert playbook.read_text("utf-8").startswith(text.replace("data/samples", str(samples)).rstrip("\n")[:2000])
    assert load_playbook(playbook).funnels == load_playbook(Path(samples).parents[1] / "playbook.toml").funnels
    live._panel.save("two words")
    assert "cannot be named" in read_status(live)
