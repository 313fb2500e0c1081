"""How well, and how fast, the search for causes names real labelled incidents, and how often it names one in noise.

The incidents are RobustSpot's, where `../shared` (or `$OPSLIB_SHARED`) has them. A hit is the exact combination that
engineers labelled, among the first 1, 3 or 5 of `answers`. In null versions nothing that has a name moved: rows are
dealt to other periods within their combination, users to other periods within theirs, and the names are taken from the
counts: by row within each minute, by row within each period, column by column, or from whole combinations. Where a
single combination did fail, it still did under its new name, and naming it is counted as false all the same.
"""

from __future__ import annotations

import ast
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from opslib.explain.change import ChangeExplanation, explain_change

ROOT = Path(__file__).resolve().parent.parent
AIMS = {1: 0.75, 3: 0.92, 5: 0.95}
MOST_FALSE = 0.05
MOST_SECONDS = 0.5
NULL_SEED = 20240229
NULLS = int(os.environ.get("OPSLIB_BENCH_NULLS", "200"))


@dataclass(frozen=True)
class Incident:
    """One case: rows of the minutes before and of the minute in question, and the labelled combinations."""

    before: pd.DataFrame
    after: pd.DataFrame
    dimensions: list[str]
    labels: list[frozenset[tuple[str, str]]]


def run() -> int:
    """Measure and print; 0 when all aims hold, else 1."""
    folder = Path(os.environ.get("OPSLIB_SHARED", ROOT.parent / "shared")) / "real" / "robustspot"
    if not folder.is_dir():
        print("explain: RobustSpot's incidents are not here (no ../shared); nothing measured")
        return 0
    incidents = read_incidents(folder)
    answers, seconds, named = [], [], 0
    explain(incidents[0])
    for incident in incidents:
        started = time.perf_counter()
        result = explain(incident)
        seconds.append(time.perf_counter() - started)
        answers.append(find_rank(result.answers, incident))
        named += result.localised
    good = [_tell(f"{len(incidents)} incidents, seconds a case", np.mean(seconds), MOST_SECONDS, at_most=True)]
    print(f"  the slowest {max(seconds):.2f} s; a cause beyond chance in {named} cases")
    ranks = np.array(answers)
    good += [_tell(f"hits among the first {k} answers", np.mean(ranks <= k), aim) for k, aim in AIMS.items()]
    print(f"  first of the two halves: {np.mean(ranks[::2] == 1):.1%} and {np.mean(ranks[1::2] == 1):.1%}")
    for number, (name, shuffle) in enumerate(SHUFFLES.items()):
        rng = np.random.default_rng([NULL_SEED, number])
        found = [explain(shuffle(incidents[i % len(incidents)], rng)).causes for i in range(NULLS)]
        kinds = [set(c["kind"]) for c in found]
        good.append(
            _tell(f"{NULLS} nulls, {name}: any cause", np.mean([bool(k) for k in kinds]), MOST_FALSE, at_most=True)
        )
        print(f"    a rate in {np.mean([bool(k - {'mix'}) for k in kinds]):.1%}")
    return 0 if all(good) else 1


def _tell(what: str, value: float, aim: float, *, at_most: bool = False) -> bool:
    holds = bool(value <= aim if at_most else value >= aim)
    aimed = f"{'at most' if at_most else 'at least'} {aim}: {'holds' if holds else 'MISSED'}"
    print(f"explain: {what}: {value:.3f} (aim {aimed})")
    return holds


def explain(incident: Incident) -> ChangeExplanation:
    """Explain one case at the defaults."""
    tables = [incident.before, incident.after]
    return explain_change(*tables, dimensions=incident.dimensions, numerator="good", denominator="cnt")


def find_rank(frame: pd.DataFrame, incident: Incident) -> int:
    """The place of the first labelled combination; a large number where none is there."""
    named = [frozenset(tuple(part.split("=", 1)) for part in s.split(" & ")) for s in frame["segment"]]
    return next((rank for rank, items in enumerate(named, 1) if items in incident.labels), 10**6)


def read_incidents(folder: Path) -> list[Incident]:
    """Read the cases whose file is there."""
    text = (folder / "anomaly.yaml").read_text(encoding="utf-8")
    found = []
    for name, minute, cause in re.findall(r"data: (.+)\n\s+timestamp: (\d+)\n\s+cause: (.+)", text):
        file = folder / f"{name.strip()}.csv"
        if not file.exists():
            continue
        frame = pd.read_csv(file, dtype=str)
        dimensions = [c for c in frame.columns if c not in ("min", "value", "cnt")]
        frame["cnt"] = frame["cnt"].astype(int)
        frame["good"] = frame["cnt"] - frame["value"].astype(int)
        at, labels = frame["min"].astype(int), ast.literal_eval(cause)
        labels = [labels] if isinstance(labels, dict) else labels
        wanted = [frozenset((k, str(v)) for k, v in label.items()) for label in labels]
        found.append(Incident(frame[at < int(minute)], frame[at == int(minute)], dimensions, wanted))
    return found


def redraw(incident: Incident, rng: np.random.Generator) -> Incident:
    """Deal each combination's users, with their outcomes, to the two periods anew."""
    parts = [f.groupby(incident.dimensions)[["good", "cnt"]].sum() for f in (incident.before, incident.after)]
    index = parts[0].index.union(parts[1].index)
    (x0, n0), (x1, n1) = (p.reindex(index, fill_value=0).to_numpy().T for p in parts)
    later = rng.binomial(n0 + n1, n1.sum() / (n0 + n1).sum())
    drawn = rng.hypergeometric(x0 + x1, n0 + n1 - x0 - x1, later)
    names = index.to_frame(index=False)
    before, after = names.assign(good=x0 + x1 - drawn, cnt=n0 + n1 - later), names.assign(good=drawn, cnt=later)
    return Incident(before[before["cnt"] > 0], after[after["cnt"] > 0], incident.dimensions, [])


def deal(incident: Incident, rng: np.random.Generator) -> Incident:
    """Deal each combination's rows anew, as many to each period as before."""
    frame = pd.concat([incident.before.assign(later=False), incident.after.assign(later=True)], ignore_index=True)
    cell = frame.groupby(incident.dimensions).ngroup().to_numpy()
    later = np.empty(len(frame), dtype=bool)
    later[np.lexsort((np.arange(len(frame)), cell))] = frame["later"].to_numpy()[
        np.lexsort((rng.random(len(frame)), cell))
    ]
    return Incident(frame[~later], frame[later], incident.dimensions, [])


def deal_names(incident: Incident, rng: np.random.Generator) -> Incident:
    """Deal whole combinations, with all their rows, to other names."""
    frame = pd.concat([incident.before.assign(later=False), incident.after.assign(later=True)], ignore_index=True)
    number = frame.groupby(incident.dimensions).ngroup().to_numpy()
    names = frame.groupby(incident.dimensions).size().index.to_frame(index=False)
    frame[incident.dimensions] = names.iloc[rng.permutation(len(names))[number]].to_numpy()
    return Incident(frame[~frame["later"]], frame[frame["later"]], incident.dimensions, [])


def deal_counts(incident: Incident, rng: np.random.Generator) -> Incident:
    """Deal the counts to other rows of the same minute."""
    return _shuffle(incident, rng, by="min", together=True)


def deal_columns(incident: Incident, rng: np.random.Generator) -> Incident:
    """Deal each dimension's values apart to other rows of the same minute."""
    return _shuffle(incident, rng, by="min", together=False)


def deal_within_period(incident: Incident, rng: np.random.Generator) -> Incident:
    """Deal the counts to other rows of the same period."""
    return _shuffle(incident, rng, by="", together=True)


def _shuffle(incident: Incident, rng: np.random.Generator, *, by: str, together: bool) -> Incident:
    dealt = []
    for frame in (incident.before, incident.after):
        group = frame.groupby(by).ngroup().to_numpy() if by else np.zeros(len(frame), dtype=int)
        home = np.argsort(group, kind="stable")
        shuffled = frame.copy()
        for columns in [incident.dimensions] if together else [[d] for d in incident.dimensions]:
            values = np.empty((len(frame), len(columns)), dtype=object)
            values[home] = frame[columns].to_numpy(dtype=object)[np.lexsort((rng.random(len(frame)), group))]
            shuffled[columns] = values
        dealt.append(shuffled)
    return Incident(*dealt, incident.dimensions, [])


SHUFFLES: dict[str, Callable[[Incident, np.random.Generator], Incident]] = {
    "users dealt to the periods": redraw,
    "rows dealt to the periods": deal,
    "combinations dealt to names": deal_names,
    "counts dealt within a minute": deal_counts,
    "counts dealt within a period": deal_within_period,
    "columns dealt within a minute": deal_columns,
}
