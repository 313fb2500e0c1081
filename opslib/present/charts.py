"""What all charts share; the charts themselves are in a folder for each notebook, one function a chart."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from opslib.language import say
from opslib.present import theme
from opslib.present.display import ChartView


def base_chart(frame: pd.DataFrame, *, height: int = theme.HEIGHT) -> alt.Chart:
    """A chart of the common size, before its marks."""
    return alt.Chart(frame, width=theme.WIDTH, height=height)


def view_chart(chart: Any, title: str, text: str, frame: pd.DataFrame, labels: dict[str, str]) -> ChartView:
    """Finish a chart in the common look; `labels` name the columns of the table behind it, others are left out."""
    described = chart.properties(title=title, description=say("{title}. {text}", title=title, text=text))
    finished = described.configure(**theme.theme_config())
    return ChartView(finished, title, text, frame, labels)
