"""Events packed into numbers of 64 bits, so that a sort lays them out on one line of time.

A number holds user, time since the first moment, and which steps the event can fill. Users lie one after another on
the line, more than a window apart, so that a search in one sorted array never needs to ask whose event it found.
Times are kept in the coarsest unit that is exact for all of them; where the numbers do not fit, users are split into
parts with a line each, by the lowest bits of their number. See docs/adr/0005-funnels-on-packed-keys.md.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np

from opslib.data.periods import DAY
from opslib.measure.funnel_steps import Exclusion, Funnel, Step, make_mask, pick_near

WORD = 64
# Two parts keep two processors busy; more are only made where the numbers would not fit.
FEWEST_PARTS_BITS = 1
MOST_PARTS_BITS = 5
BATCH = 300_000
RESOLUTIONS = (1_000_000, 1_000, 1)
NOTHING = 255
_UNIX = dt.datetime(1970, 1, 1)
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}


class DoesNotFitError(Exception):
    """The events cannot be packed: another plan must do."""


@dataclass(frozen=True)
class Layout:
    """Where in a number what is kept.

    Attributes:
        resolution: microseconds in a tick.
        origin: microseconds since 1970 of tick 0.
        tick_bits, code_bits, part_bits: sizes; from the top: unit without its part's bits, tick, code.
    """

    resolution: int
    origin: int
    tick_bits: int
    code_bits: int
    part_bits: int

    @property
    def unit_bits(self) -> int:
        """Bits of a user's number, those of the part included."""
        return WORD - 1 - self.tick_bits - self.code_bits + self.part_bits


@dataclass(frozen=True)
class Line:
    """The events of a part of the users, in order.

    Attributes:
        at: user and tick in one number, ascending: `unit << tick_bits | tick`, unit without the part's bits.
        code: which of the masks the event has.
        part: the part's number.
    """

    at: np.ndarray
    code: np.ndarray
    part: int


@dataclass(frozen=True)
class Packed:
    """All events that matter to a funnel.

    Attributes:
        lines: a line for each part of the users.
        layout: how they are packed.
        masks: the mask of each code, in the order in which events of one moment are taken.
        low_unit: what is added to a unit's number, up to a multiple of the numbers there are.
        codes: for keys that are no single small integer: the keys, _unit; None: the unit is the key itself.
        inner_bits: the lowest bits of a unit's number, which tell a user's keys apart.
    """

    lines: list[Line]
    layout: Layout
    masks: list[int]
    low_unit: int
    codes: ir.Table | None
    inner_bits: int

    def count_masks(self) -> list[tuple[int, int]]:
        """Events of each mask."""
        counts = [sum(int(np.count_nonzero(line.code == c)) for line in self.lines) for c in range(len(self.masks))]
        return [(mask, n) for mask, n in zip(self.masks, counts, strict=True) if n]

    def name_units(self, line: Line, units: np.ndarray) -> np.ndarray:
        """The units' own numbers, from those on a line."""
        inner, part_bits = self.inner_bits, self.layout.part_bits
        number = ((units >> inner << part_bits | line.part) << inner) | units & ((1 << inner) - 1)
        return self.low_unit + ((number - self.low_unit) & ((1 << self.layout.unit_bits) - 1))


def pack_events(events: ir.Table, funnel: Funnel) -> Packed:
    """Read the events that matter, once, and sort them.

    Raises:
        DoesNotFitError: users, times and steps need more bits than there are, or the events have too many masks.
    """
    near = pick_near(events, funnel)
    masks, code = _make_code(near, funnel)
    if len(funnel.keys) == 1 and near["user_id"].type().is_integer():
        try:
            plain = near.select(unit=near["user_id"].cast("int64"), ts=near.ts, code=code)
            return _read(plain, funnel, masks, None, 0)
        except DoesNotFitError:
            pass
    keys = near.select(*funnel.keys).distinct()
    user = ibis.dense_rank().over(order_by="user_id")
    inner = ibis.row_number().over(group_by="user_id", order_by=list(funnel.keys[1:]) or ["user_id"])
    numbered = keys.mutate(_user=user.cast("int64"), _inner=inner.cast("int64")).cache()
    most = numbered.aggregate(n=numbered["_inner"].max().fill_null(0)).to_pandas()["n"].iloc[0]
    inner_bits = int(most).bit_length()
    unit = numbered["_user"] * (1 << inner_bits) + numbered["_inner"]
    codes = numbered.select(*funnel.keys, _unit=unit).cache()
    joined = near.mutate(_code=code).inner_join(codes, list(funnel.keys))
    return _read(joined.select(unit="_unit", ts="ts", code="_code"), funnel, masks, codes, inner_bits)


def _read(columns: ir.Table, funnel: Funnel, masks: list[int], codes: ir.Table | None, inner_bits: int) -> Packed:
    coarsest, part_bits = 0, FEWEST_PARTS_BITS
    while True:
        reader = _Reader(funnel, len(masks), RESOLUTIONS[coarsest], part_bits, inner_bits)
        if not all(reader.take(*batch) for batch in _fetch(columns)):
            coarsest += 1
        elif reader.missing_bits > 0:
            part_bits += reader.missing_bits
        else:
            return Packed(reader.lay_out(), reader.layout, masks, reader.lowest, codes, inner_bits)


def _fetch(columns: ir.Table) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    for batch in columns.to_pyarrow_batches(chunk_size=BATCH):
        units, moments, codes = batch.columns
        scale = moments.type.unit
        ticks = moments.cast("int64").to_numpy()
        if scale != "us":
            ticks = ticks // 1000 if scale == "ns" else ticks * _MICROSECONDS[scale]
        codes = codes.to_numpy()
        matters = np.flatnonzero(codes != NOTHING)
        if len(matters):
            yield units.to_numpy()[matters], ticks[matters], codes[matters]


class _Reader:
    """Takes events batch by batch, and packs them."""

    def __init__(self, funnel: Funnel, masks: int, resolution: int, part_bits: int, inner: int) -> None:
        origin = funnel.calendar.day_start(funnel.period.start)
        first = (origin - _UNIX) // dt.timedelta(microseconds=1) // resolution * resolution
        # The same again and a window: what the time line needs between users.
        reach = (funnel.near_until - origin + funnel.window + DAY) // dt.timedelta(microseconds=1)
        code_bits = max(masks - 1, 1).bit_length()
        self.layout = Layout(resolution, first, max(reach // resolution, 1).bit_length(), code_bits, part_bits)
        self.inner_bits = inner
        self.lowest, self.highest = 0, 0
        self.parts: list[list[np.ndarray]] = [[] for _ in range(1 << part_bits)]
        if part_bits > MOST_PARTS_BITS or self.layout.unit_bits - part_bits < 1:
            raise DoesNotFitError

    @property
    def missing_bits(self) -> int:
        """How many bits more the users need."""
        return (self.highest - self.lowest).bit_length() - self.layout.unit_bits

    def take(self, units: np.ndarray, moments: np.ndarray, codes: np.ndarray) -> bool:
        """Pack a batch; False where its times are finer than the layout's."""
        layout = self.layout
        moments = moments - layout.origin
        ticks = moments // layout.resolution
        if layout.resolution > 1 and not np.array_equal(ticks * layout.resolution, moments):
            return False
        low, high = int(units.min()), int(units.max())
        empty = not any(self.parts)
        self.lowest, self.highest = (low, high) if empty else (min(low, self.lowest), max(high, self.highest))
        kept, part = units >> layout.part_bits, units & (len(self.parts) - 1)
        if self.inner_bits:
            # What tells a user's keys apart must not part the user.
            inner = units & ((1 << self.inner_bits) - 1)
            kept = (units >> self.inner_bits + layout.part_bits << self.inner_bits) | inner
            part = units >> self.inner_bits & (len(self.parts) - 1)
        kept &= (1 << (layout.unit_bits - layout.part_bits)) - 1
        kept <<= layout.tick_bits
        kept |= ticks
        kept <<= layout.code_bits
        kept |= codes
        for number, mine in enumerate(self.parts):
            mine.append(kept[part == number])
        return True

    def lay_out(self) -> list[Line]:
        """Sort each part."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(self._sort, range(len(self.parts))))

    def _sort(self, part: int) -> Line:
        keys = np.concatenate([np.empty(0, np.int64), *self.parts[part]])
        self.parts[part] = []
        keys.sort()
        code = (keys & ((1 << self.layout.code_bits) - 1)).astype(np.uint8)
        keys >>= self.layout.code_bits
        return Line(keys, code, part)


def _make_code(near: ir.Table, funnel: Funnel) -> tuple[list[int], Any]:
    """The masks that events can have, in the order of ties, and the number of an event's."""
    wanted: list[Step | Exclusion] = [*funnel.steps, *funnel.exclusions]
    if all(w.where is None and w.event is not None for w in wanted):
        bits: dict[str | None, int] = {}
        for i, w in enumerate(wanted):
            bits[w.event] = bits.get(w.event, 0) | 1 << i
        masks = list(bits.values())
        source: Any = [(near.event == name, mask) for name, mask in bits.items()]
        masks += [0] if funnel.order == "strict" else []
    else:
        mask = make_mask(near, wanted)
        found = near.select(mask=mask).distinct().to_pandas()["mask"].astype("int64")
        masks = [m for m in found.tolist() if m or funnel.order == "strict"]
        source = [(mask == m, m) for m in masks if m]
    own = (1 << len(funnel.steps)) - 1
    masks.sort(key=lambda m: (m & own == 0, m & own & -(m & own), m & own, m))
    if len(masks) >= NOTHING:
        raise DoesNotFitError
    rest = masks.index(0) if 0 in masks else NOTHING
    # Events that matter not are sent too: leaving them out here costs the engine more than passing them on.
    code = ibis.cases(*((test, masks.index(m)) for test, m in source), else_=rest) if source else ibis.literal(rest)
    return masks, code.cast("uint8")
