"""A company nobody has seen: made for a lesson, the same every time, and gone with the process."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from opslib.data.sample_company.company import SampleSettings
from opslib.data.sample_company.incidents import Incident, Segment
from opslib.training.cases.folder import write_playbook

if TYPE_CHECKING:
    from opslib.data.source import Data

COMPANY = "Harbour Lane"
QUARTER = (date(2025, 10, 1), date(2026, 1, 1))
SETTINGS = SampleSettings(users=12_000, seed=77, end=QUARTER[1])
INCIDENTS = (
    Incident("ads", "spend", *QUARTER, Segment.of(channel="paid_ads"), 1.7, "Much more money for advertisements"),
    Incident("ads", "signups", *QUARTER, Segment.of(channel="paid_ads"), 1.6, "... brings more new users"),
    Incident(
        "ads", "return_rate", *QUARTER, Segment.of(channel="paid_ads", added_by_signups="yes"), 0.06,
        "... of whom hardly anybody comes back",
    ),
    Incident("groups", "spend", *QUARTER, Segment.of(channel="wecom"), 1.6, "More money for groups"),
    Incident("groups", "signups", *QUARTER, Segment.of(channel="wecom"), 1.7, "... brings users as good as before"),
    Incident(
        "price", "step_rate:view_item->add_to_cart", date(2025, 10, 13), QUARTER[1], Segment.of(platform="ios"), 0.6,
        "Dearer on iOS: fewer put items in the cart",
    ),
)  # fmt: skip
TARGETS = """
[targets]
d1_rate = { at_least = 0.35 }
d7_rate = { at_least = 0.25 }
stickiness_rate = { at_least = 0.25 }
cac_amount = { at_most = 80 }
"""


@cache
def open_company() -> Data:
    """Make the company and open it: once in a process, in a folder that goes away with it."""
    from opslib.data.sample_company import generate_sample
    from opslib.data.source import open_data

    folder = Path(tempfile.mkdtemp(prefix="opslib-lesson-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    generate_sample(folder / "data", settings=SETTINGS, incidents=INCIDENTS, processes=1)
    # No experiment ran in these quarters.
    (folder / "data" / "exposures.parquet").unlink()
    return open_data(write_playbook(folder, name=COMPANY, end=SETTINGS.end, more=TARGETS))
