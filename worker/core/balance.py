"""Who should carry what: seats with loads, the least loaded first, and moves from the hottest to the coldest.

Loads are integers (thousandths of a weight), so that sums do not depend on their order. A seat's *share* is its load
per unit of capacity; the fleet's *level* is the share that everybody would have if partitions could be cut. Shares
within ten per cent of the level are balanced, and so are two seats of which neither would gain by a move: extras stay
where they are. Every move leaves its target below where its source was, so a series of moves ends.

Ties are broken by spreading each logical queue, then by a hash: the outcome is a function of its inputs.
"""

from __future__ import annotations

import heapq
import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

BAND: Final = 0.10
"""How far a share may be from the level, as part of it, before anybody moves for it."""

UNIT: Final = 1000
"""Load of a partition of weight 1."""

LOOK: Final = 8
"""Equally loaded seats that are compared for the better spread: all of a small fleet, a sample of a large one."""

_EMPTY: Final[frozenset[str]] = frozenset()


def load_of(weight: float) -> int:
    """Return a weight as a load: at least one, or any number of weightless partitions would fit one seat."""
    return max(1, round(weight * UNIT))


def tie(*names: str) -> int:
    """Return a number that is the same on every machine and in no relation to the order of the names."""
    return zlib.crc32("\n".join(names).encode())


class Seat:
    """One member that may take partitions, and what it carries once all moves under way are done."""

    __slots__ = ("capacity", "counts", "filled", "id", "kind", "load", "tie")

    def __init__(self, member: str, capacity: float, kind: int) -> None:
        self.id = member
        self.capacity = capacity
        self.kind = kind  # number of the set of queues that it handles
        self.tie = tie(member)
        self.load = 0
        self.filled = UNIT / capacity  # its share if it took one more partition of weight 1
        self.counts: dict[str, int] = {}  # partitions per logical queue

    @property
    def share(self) -> float:
        """Load per unit of capacity."""
        return self.load / self.capacity

    def take(self, queue: str, load: int) -> None:
        """Add a partition."""
        self.load += load
        self.filled = (self.load + UNIT) / self.capacity
        self.counts[queue] = self.counts.get(queue, 0) + 1

    def give(self, queue: str, load: int) -> None:
        """Remove a partition."""
        self.load -= load
        self.filled = (self.load + UNIT) / self.capacity
        self.counts[queue] -= 1


_Entry = tuple[float, int, str, Seat]


def _entry(seat: Seat) -> _Entry:
    return seat.filled, seat.tie, seat.id, seat


class Pool:
    """The seats that may take the partitions of some queues, in a heap: who would be least loaded *with* one more.

    An entry may be out of date. Too low a load is put right when it comes to the top; for a load that has fallen,
    `cooled` adds a second entry, and the first is dropped in its turn.
    """

    def __init__(self, kinds: AbstractSet[int], seats: Iterable[Seat]) -> None:
        self.kinds = kinds
        self._heap = [_entry(seat) for seat in seats if seat.kind in kinds]
        self.size = len(self._heap)
        heapq.heapify(self._heap)

    def coldest(self) -> Seat | None:
        """Return the least loaded seat, or None when there is none."""
        heap = self._heap
        while heap:
            filled, order, member, seat = heap[0]
            if filled == seat.filled:
                return seat
            if filled < seat.filled:
                heapq.heapreplace(heap, (seat.filled, order, member, seat))
            else:
                heapq.heappop(heap)
        return None

    def cooled(self, seat: Seat) -> None:
        """Note that a seat's load has fallen."""
        if seat.kind in self.kinds:
            heapq.heappush(self._heap, _entry(seat))

    def choose(self, partition: str, queue: str, count: int, shunned: AbstractSet[str] = _EMPTY) -> Seat | None:
        """Return the least loaded seat that is not shunned; among equals one with few partitions of this queue.

        `count` is how many partitions the queue has. In a large pool the first seat that is not above its fair part
        of the queue will do.
        """
        first = self.coldest()
        if first is None:
            return None
        if self.size > LOOK and first.counts.get(queue, 0) * self.size < count and first.id not in shunned:
            return first
        equals: list[Seat] = []
        aside: list[Seat] = []
        while len(equals) < LOOK and (seat := self.coldest()) is not None:
            if equals and seat.filled != equals[0].filled:
                break
            aside.append(seat)
            heapq.heappop(self._heap)
            if seat.id not in shunned:
                equals.append(seat)
        for seat in aside:
            heapq.heappush(self._heap, _entry(seat))
        return min(equals, key=lambda seat: (seat.counts.get(queue, 0), tie(seat.id, partition), seat.id), default=None)


class Table:
    """All seats, and for each logical queue of the plan the pool of those that handle it at the plan's count."""

    def __init__(self, members: Iterable[tuple[str, float, Mapping[str, int]]], queues: Mapping[str, int]) -> None:
        kinds: dict[frozenset[tuple[str, int]], int] = {}
        handled: list[Mapping[str, int]] = []
        kind = -1
        self.seats: dict[str, Seat] = {}
        for member, capacity, takes in sorted(members, key=lambda item: item[0]):
            if kind < 0 or takes != handled[kind]:  # as a rule, neighbours are of one version
                kind = kinds.setdefault(frozenset(takes.items()), len(kinds))
                if kind == len(handled):
                    handled.append(takes)
            self.seats[member] = Seat(member, capacity, kind)
        self._capacity = sum(seat.capacity for seat in self.seats.values())
        pools: dict[frozenset[int], Pool] = {}
        self.pools: dict[str, Pool] = {}
        for queue, count in queues.items():
            able = frozenset(kind for kind, takes in enumerate(handled) if takes.get(queue) == count)
            pool = pools.get(able)
            if pool is None:
                pool = pools[able] = Pool(able, self.seats.values())
            self.pools[queue] = pool
        self._distinct = list(pools.values())

    def band(self) -> tuple[float, float]:
        """Return the lowest and the highest share that count as balanced."""
        level = sum(seat.load for seat in self.seats.values()) / self._capacity if self.seats else 0.0
        return level * (1 - BAND), level * (1 + BAND)

    def uneven(self, smallest: int) -> bool:
        """Say whether a move may be due: a hot or a cold seat, and room for the smallest load between the extremes."""
        if not self.seats:
            return False
        low, high = self.band()
        shares = [seat.share for seat in self.seats.values()]
        coldest, hottest = min(shares), max(shares)
        roomiest = max(seat.capacity for seat in self.seats.values())
        return (coldest < low or hottest > high) and coldest + smallest / roomiest < hottest

    def cooled(self, seat: Seat) -> None:
        """Note that a seat's load has fallen."""
        for pool in self._distinct:
            pool.cooled(seat)


def improve(
    table: Table,
    held: Mapping[str, list[str]],
    limit: int,
    load_of_partition: Callable[[str], int],
    barred: Mapping[str, AbstractSet[str]],
) -> list[tuple[str, Seat]]:
    """Return up to `limit` moves (partition, target), each from the hottest seat that can help to the coldest.

    A move needs a hot source or a cold target: a newcomer gets its part although nobody is overloaded. `held` names
    the partitions that each seat may give away; it is used up.
    """
    low, high = table.band()
    moves: list[tuple[str, Seat]] = []
    sources = [(-seat.share, seat.tie, seat.id) for seat in table.seats.values() if held.get(seat.id)]
    heapq.heapify(sources)
    while sources and len(moves) < limit:
        share, _, member = sources[0]
        source = table.seats[member]
        if -share != source.share:
            heapq.heapreplace(sources, (-source.share, source.tie, member))
            continue
        below = math.inf if source.share > high else low
        found = _best(table, source, held[member], below, load_of_partition, barred)
        if found is None:
            heapq.heappop(sources)
            continue
        partition, target = found
        held[member].remove(partition)
        queue, load = partition.rpartition("-")[0], load_of_partition(partition)
        source.give(queue, load)
        target.take(queue, load)
        table.cooled(source)
        moves.append((partition, target))
    return moves


def _best(
    table: Table,
    source: Seat,
    partitions: list[str],
    below: float,
    load_of_partition: Callable[[str], int],
    barred: Mapping[str, AbstractSet[str]],
) -> tuple[str, Seat] | None:
    """Return the best fit: to the coldest target there is, what comes closest to making both shares equal."""
    best: tuple[str, Seat] | None = None
    fit: tuple[float, float, int] = (math.inf, math.inf, 0)
    asked: Pool | None = None
    target: Seat | None = None
    room = 0.0  # the load that would make both shares equal
    for partition in partitions:
        queue, load = partition.rpartition("-")[0], load_of_partition(partition)
        pool = table.pools[queue]
        if pool is not asked:
            asked, target = pool, pool.coldest()
            if target is not None and target.share >= below:
                target = None
            if target is not None:
                gap = source.load * target.capacity - target.load * source.capacity
                room = gap / (source.capacity + target.capacity)
        if target is None or (target.load + load) / target.capacity >= source.share:
            continue
        if partition in barred and target.id in barred[partition]:
            continue
        clumped = target.counts.get(queue, 0) - source.counts.get(queue, 0)
        mine = target.filled, abs(load - room), clumped
        if best is None or mine < fit or (mine == fit and _precedes(partition, target, *best)):
            best, fit = (partition, target), mine
    return best


def _precedes(partition: str, target: Seat, other: str, its_target: Seat) -> bool:
    return (tie(target.id, partition), partition) < (tie(its_target.id, other), other)
