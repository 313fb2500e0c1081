"""Making a case: the company's data, its playbook, the sealed answers and the notebook, in a folder for a learner."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from opslib.errors import InputError
from opslib.training.cases.costs import find_realised, measure_loss, price_actions
from opslib.training.cases.notebook import write_notebook
from opslib.training.cases.plan import MOVED, CasePlan, Story, plan_case
from opslib.training.cases.sealed import make_salt, seal_all

VERSION = 1
CASE_FILE = "case.json"
# A size is right when it is so near to what happened, in points of the change in per cent.
NEAR_SIZE = 12
NEAR_DAYS = 7
PLAYBOOK = """# The playbook of a training case: a company nobody has seen before.

[company]
name = "{name}"
timezone = "Asia/Shanghai"
currency = "CNY"
week_start = "monday"
lang = "{lang}"
data_until = {last_day}

[tables]
{tables}

[funnels.purchase]
steps = ["view_item", "add_to_cart", "begin_checkout", "pay"]
window_days = 7
"""


def make_case(seed: int, level: int, out: Path, *, lang: str = "en", force: bool = False) -> Path:
    """Make a case in a folder that does not hold one yet.

    Args:
        seed: another seed, another company; the same, the same one.
        level: 1 one clear cause, 2 another beside it, 3 smaller and with another beside it.
        out: the folder, made if there is none.
        lang: the language it speaks, `en` or `zh`.
        force: replace the case that is there.

    Returns:
        The folder.

    Raises:
        InputError: a level there is not, or a folder that holds something else.
    """
    plan = plan_case(seed, level)
    with _new_folder(out, force=force) as folder:
        truth = _generate(plan, folder / "data")
        sealed = seal_answers(plan, truth, order_margin_amount=_measure_margin(folder / "data"))
        write_playbook(folder, name=name_company(plan), end=plan.settings.end, lang=lang)
        case = {"version": VERSION, "level": level, "company": name_company(plan), **sealed}
        (folder / CASE_FILE).write_text(json.dumps(case, indent=1) + "\n", encoding="utf-8")
        write_notebook(folder / "case.ipynb")
    return out


def write_playbook(folder: Path, *, name: str, end: date, lang: str = "en", more: str = "") -> Path:
    """Write the playbook of a company whose tables are in `folder/data`; `end` is the day after its last."""
    tables = ['events = { source = "data/events/*.parquet" }']
    tables += [f'{p.stem} = {{ source = "data/{p.name}" }}' for p in sorted((folder / "data").glob("*.parquet"))]
    last_day, path = end - timedelta(days=1), folder / "playbook.toml"
    text = PLAYBOOK.format(name=name, last_day=last_day, lang=lang, tables="\n".join(tables))
    path.write_text(text + more, encoding="utf-8")
    return path


def seal_answers(plan: CasePlan, truth: Mapping[str, Any], *, order_margin_amount: float) -> dict[str, Any]:
    """The salt, the sealed answers of every question, and what the learner is told moved."""
    salt, story = make_salt(plan.seed, plan.level), plan.story
    loss = measure_loss(story, truth, order_margin_amount=order_margin_amount)
    prices = price_actions(story, loss)
    size = round(100 * (measure_size(story, truth) - 1))
    groups: list[tuple[Any, Any]] = [(story.group, 0)]
    if len(story.group) > 1:
        groups += [({column: value}, "wide") for column, value in story.group.items()]
    # As many as the longest, so that their number tells nothing; these are hashes of no answer.
    groups += [(f"none {i}", "wide") for i in range(3 - len(groups))]
    days = range(-NEAR_DAYS, NEAR_DAYS + 1)
    answers: dict[str, Any] = {
        "cause": [(story.cause, 0)],
        "group": groups,
        "start": [((story.start + timedelta(days=d)).isoformat(), 0) for d in days],
        "size": [(size + near, 0) for near in range(-NEAR_SIZE, NEAR_SIZE + 1)],
        "action": [(name, round(price - min(prices.values()), 2)) for name, price in prices.items()],
    }
    sealed = {name: seal_all(salt, name, pairs) for name, pairs in answers.items()}
    return {"salt": salt, "moved": MOVED[story.cause], "sealed": sealed}


def measure_size(story: Story, truth: Mapping[str, Any]) -> float:
    """What the story made of its rate, as a factor, in what was simulated: against the rest, or against before."""
    realised = find_realised(story, truth)
    if "relative_change" in realised:
        return float(realised["relative_change"])
    now, before = (realised["cells"][f"segment_{when}"]["rate"] for when in ("during", "before"))
    return float(now / before)


def name_company(plan: CasePlan) -> str:
    """A name that tells cases apart and says nothing."""
    return f"Company {make_salt(plan.seed, plan.level)[:4].upper()}"


def _generate(plan: CasePlan, folder: Path) -> dict[str, Any]:
    """Write the data without their truth, and give the truth."""
    from opslib.data.sample_company import generate_sample

    generate_sample(folder, settings=plan.settings, incidents=plan.incidents, processes=1)
    truth: dict[str, Any] = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    for name in ("truth.json", "README.md"):
        (folder / name).unlink()
    return truth


def _measure_margin(folder: Path) -> float:
    import pyarrow.parquet as pq

    orders = pq.read_table(folder / "orders.parquet", columns=["amount", "cost"]).to_pandas()
    return float((orders["amount"] - orders["cost"]).mean())


@contextmanager
def _new_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """A folder that is there whole or not at all."""
    import shutil

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (out / CASE_FILE).exists():
            raise InputError(f"{out} holds something that is no case. Name a new folder with --out.")
        if not force:
            raise InputError(f"{out} holds a case already. Name another folder with --out, or replace it with --force.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as waiting:
        made = Path(waiting) / "case"
        made.mkdir()
        yield made
        if out.exists():
            shutil.rmtree(out)
        made.replace(out)
