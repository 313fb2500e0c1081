"""Events packed into numbers of 64 bits, so that a sort lays them out on one line of time.

A number holds user, time since the first moment, which steps the event can fill, and, for a breakdown, which value it
has. Users lie one after another on the line, more than a window apart, so that a search in one sorted array never
needs to ask whose event it found. Times are kept in the coarsest unit that is exact for all of them; where the numbers
do not fit, users are split into parts with a line each, by the lowest bits of their number.
See docs/adr/0005-funnels-on-packed-keys.md.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np

from opslib.data.engines.capabilities import find_capabilities
from opslib.data.periods import DAY
from opslib.measure.funnel.steps import Exclusion, Funnel, Step, make_mask, pick_near

WORD = 64
# More than one part is only made where the numbers would not fit.
FEWEST_PARTS_BITS = 0
MOST_PARTS_BITS = 8
# Small enough that the same memory serves every batch, and every piece of a line: fresh memory is what costs most.
BATCH = 40_000
PIECE = 400_000
BUFFER = "64MB"
THREADS = 2
MOST_VALUES = 60
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
        tick_bits, code_bits, value_bits, part_bits: sizes; from the top: unit without its part's bits, tick, code,
            value.
    """

    resolution: int
    origin: int
    tick_bits: int
    code_bits: int
    value_bits: int
    part_bits: int

    @property
    def unit_bits(self) -> int:
        """Bits of a user's number, those of the part included."""
        return WORD - 1 - self.tick_bits - self.code_bits - self.value_bits + self.part_bits


@dataclass(frozen=True)
class Line:
    """The events of some users, in order.

    Attributes:
        at: user and tick in one number, ascending: `unit << tick_bits | tick`, unit without the part's bits.
        code: which of the masks the event has.
        value: which of the values, the last one for none; None where no values are carried.
        part: the number of the users' part.
    """

    at: np.ndarray
    code: np.ndarray
    value: np.ndarray | None
    part: int


@dataclass(frozen=True)
class Packed:
    """All events that matter to a funnel.

    Attributes:
        lines: all users, no user on two lines.
        layout: how they are packed.
        masks: the mask of each code, in the order in which events of one moment are taken.
        low_unit: what is added to a unit's number, up to a multiple of the numbers there are.
        codes: for keys that are no single small integer: the keys, _unit; None: the unit is the key itself.
        inner_bits: the lowest bits of a unit's number, which tell a user's keys apart.
        values: the values that the events carry, in alphabetical order; None: they carry none.
    """

    lines: list[Line]
    layout: Layout
    masks: list[int]
    low_unit: int
    codes: ir.Table | None
    inner_bits: int
    values: list[str] | None

    def count_masks(self) -> list[tuple[int, int]]:
        """Events of each mask."""
        counts = [sum(int(np.count_nonzero(line.code == c)) for line in self.lines) for c in range(len(self.masks))]
        return [(mask, n) for mask, n in zip(self.masks, counts, strict=True) if n]

    def name_units(self, line: Line, units: np.ndarray) -> np.ndarray:
        """The units' own numbers, from those on a line."""
        inner, part_bits = self.inner_bits, self.layout.part_bits
        number = ((units >> inner << part_bits | line.part) << inner) | units & ((1 << inner) - 1)
        return self.low_unit + ((number - self.low_unit) & ((1 << self.layout.unit_bits) - 1))


def pack_events(events: ir.Table, funnel: Funnel, carried: str = "") -> Packed:
    """Read the events that matter, once, and sort them.

    Args:
        events, funnel: what is read and what for.
        carried: a column whose values come along, if there are few enough and the bits suffice.

    Raises:
        DoesNotFitError: users, times and steps need more bits than there are, or the events have too many masks.
    """
    near = pick_near(events, funnel)
    values = _list_values(events, carried) if carried else None
    masks, code = _make_code(near, funnel)
    columns = {"ts": near.ts, "code": code}
    if values is not None:
        found = near[carried].cast("string").find_in_set(values) if values else ibis.literal(-1)
        columns["value"] = found.fill_null(-1).cast("int8")
    if len(funnel.keys) == 1 and near["user_id"].type().is_integer():
        try:
            return _read(near.select(unit=near["user_id"].cast("int64"), **columns), funnel, masks, values, None, 0)
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
    own = near.select(*funnel.keys, **{f"_{name}": column for name, column in columns.items()})
    joined = own.inner_join(codes, list(funnel.keys))
    wanted = joined.select(unit="_unit", **{name: f"_{name}" for name in columns})
    try:
        return _read(wanted, funnel, masks, values, codes, inner_bits)
    except DoesNotFitError:
        if values is None:
            raise
        return pack_events(events, funnel)


def _list_values(events: ir.Table, column: str) -> list[str] | None:
    """A column's values in alphabetical order; None where there are too many to carry."""
    # Of all events: to read the times of those in reach takes longer than to carry a value in vain.
    text = events.select(value=events[column].cast("string"))
    found = text.filter(text.value.notnull()).distinct().limit(MOST_VALUES + 1).to_pandas()["value"].tolist()
    # By bytes, as the engine compares.
    return sorted(found, key=lambda value: value.encode()) if len(found) <= MOST_VALUES else None


def _read(
    columns: ir.Table,
    funnel: Funnel,
    masks: list[int],
    values: list[str] | None,
    codes: ir.Table | None,
    inner_bits: int,
) -> Packed:
    coarsest, part_bits = 0, FEWEST_PARTS_BITS
    value_bits = 0 if values is None else len(values).bit_length() or 1
    with _read_ahead(columns):
        while True:
            reader = _Reader(funnel, len(masks), value_bits, RESOLUTIONS[coarsest], part_bits, inner_bits)
            if not all(reader.take(*batch) for batch in _fetch(columns)):
                coarsest += 1
            elif reader.missing_bits > 0:
                part_bits += reader.missing_bits
            else:
                return Packed(reader.lay_out(), reader.layout, masks, reader.lowest, codes, inner_bits, values)


@contextmanager
def _read_ahead(table: ir.Table) -> Iterator[None]:
    """Let DuckDB work on the next batches while one is packed: with the megabyte that it has for this, it waits."""
    backend = ibis.get_backend(table)
    if not find_capabilities(table).packed_events:
        yield
        return
    before = backend.raw_sql("SELECT current_setting('streaming_buffer_size')").fetchone()[0]
    backend.raw_sql(f"SET streaming_buffer_size = '{BUFFER}'")
    try:
        yield
    finally:
        backend.raw_sql(f"SET streaming_buffer_size = '{before}'")


def _fetch(columns: ir.Table) -> Iterator[Sequence[np.ndarray]]:
    """Units, microseconds, codes and, if there are any, values of the events that matter, batch by batch."""
    with warnings.catch_warnings():
        # Ibis 12 calls it when the first batch is asked for.
        warnings.filterwarnings("ignore", "fetch_record_batch", DeprecationWarning)
        batches = columns.to_pyarrow_batches(chunk_size=BATCH)
        batch = next(batches, None)
    while batch is not None:
        units, moments, *rest = batch.columns
        scale = moments.type.unit
        ticks = moments.cast("int64").to_numpy()
        if scale != "us":
            ticks = ticks // 1000 if scale == "ns" else ticks * _MICROSECONDS[scale]
        arrays = [units.to_numpy(), ticks, *(column.to_numpy() for column in rest)]
        matters = np.flatnonzero(arrays[2] != NOTHING)
        if len(matters):
            yield [array[matters] for array in arrays]
        batch = next(batches, None)


class _Heap:
    """Numbers that grow in place, so that their memory is taken once."""

    def __init__(self) -> None:
        self.numbers = np.empty(0, dtype=np.int64)
        self.size = 0

    def add(self, more: np.ndarray) -> None:
        """Append numbers."""
        end = self.size + len(more)
        if end > len(self.numbers):
            self.numbers.resize(end + max(BATCH, end // 8), refcheck=False)
        self.numbers[self.size : end] = more
        self.size = end

    def sort(self) -> np.ndarray:
        """All numbers, ascending; the heap is empty afterwards."""
        numbers, self.numbers = self.numbers, np.empty(0, dtype=np.int64)
        numbers.resize(self.size, refcheck=False)
        numbers.sort()
        return numbers


class _Reader:
    """Takes events batch by batch, and packs them."""

    def __init__(
        self, funnel: Funnel, masks: int, value_bits: int, resolution: int, part_bits: int, inner: int
    ) -> None:
        origin = funnel.calendar.day_start(funnel.period.start)
        first = (origin - _UNIX) // dt.timedelta(microseconds=1) // resolution * resolution
        # The same again and a window: what the time line needs between users.
        reach = (funnel.near_until - origin + funnel.window + DAY) // dt.timedelta(microseconds=1)
        code_bits = max(masks - 1, 1).bit_length()
        tick_bits = max(reach // resolution, 1).bit_length()
        self.layout = Layout(resolution, first, tick_bits, code_bits, value_bits, part_bits)
        self.inner_bits = inner
        self.lowest, self.highest = 0, 0
        self.parts = [_Heap() for _ in range(1 << part_bits)]
        if part_bits > MOST_PARTS_BITS or self.layout.unit_bits - part_bits < 1:
            raise DoesNotFitError

    @property
    def missing_bits(self) -> int:
        """How many bits more the users need."""
        return (self.highest - self.lowest).bit_length() - self.layout.unit_bits

    def take(self, units: np.ndarray, moments: np.ndarray, codes: np.ndarray, values: np.ndarray | None = None) -> bool:
        """Pack a batch; False where its times are finer than the layout's."""
        layout = self.layout
        moments -= layout.origin
        ticks = moments // layout.resolution
        if layout.resolution > 1 and not np.array_equal(ticks * layout.resolution, moments):
            return False
        low, high = int(units.min()), int(units.max())
        empty = not any(heap.size for heap in self.parts)
        self.lowest, self.highest = (low, high) if empty else (min(low, self.lowest), max(high, self.highest))
        kept, last = units >> layout.part_bits, len(self.parts) - 1
        part = units & last if last else None
        if self.inner_bits:
            # What tells a user's keys apart must not part the user.
            inner = units & ((1 << self.inner_bits) - 1)
            kept = (units >> self.inner_bits + layout.part_bits << self.inner_bits) | inner
            part = units >> self.inner_bits & last if last else None
        kept &= (1 << (layout.unit_bits - layout.part_bits)) - 1
        kept <<= layout.tick_bits
        kept |= ticks
        kept <<= layout.code_bits
        kept |= codes
        if values is not None:
            kept <<= layout.value_bits
            # None is -1 in the engine, and comes last here.
            kept |= np.minimum(values.astype(np.uint8), (1 << layout.value_bits) - 1)
        if part is None:
            self.parts[0].add(kept)
            return True
        part = part.astype(np.uint8)
        kept = kept[np.argsort(part, kind="stable")]
        ends = np.bincount(part, minlength=len(self.parts)).cumsum()[:-1]
        for heap, mine in zip(self.parts, np.split(kept, ends), strict=True):
            heap.add(mine)
        return True

    def lay_out(self) -> list[Line]:
        """Sort each part, and cut it between users into pieces."""
        with ThreadPoolExecutor(THREADS) as pool:
            pieces = [(one, i) for i, whole in enumerate(pool.map(_Heap.sort, self.parts)) for one in self._cut(whole)]
            return list(pool.map(lambda piece: self._unpack(*piece), pieces))

    def _cut(self, numbers: np.ndarray) -> list[np.ndarray]:
        shift = self.layout.tick_bits + self.layout.code_bits + self.layout.value_bits + self.inner_bits
        inside = numbers[PIECE::PIECE] >> shift << shift
        return np.split(numbers, np.unique(np.searchsorted(numbers, inside)))

    def _unpack(self, numbers: np.ndarray, part: int) -> Line:
        layout, value = self.layout, None
        if layout.value_bits:
            value = (numbers & ((1 << layout.value_bits) - 1)).astype(np.uint8)
            numbers >>= layout.value_bits
        code = (numbers & ((1 << layout.code_bits) - 1)).astype(np.uint8)
        numbers >>= layout.code_bits
        return Line(numbers, code, value, part)


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
