"""How far projecting is: what status shows of each partition."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from eventlog.ids import START, EntryId
from projections.storing.build import Shelf

RATE_WINDOW_S = 10.0


class ModelStatus(NamedTuple):
    """One projection's read model in one partition."""

    name: str
    version: int | None
    """Of the build that serves; None where none does yet."""
    position: EntryId
    """How far that build is."""
    lag_count: int
    """Entries it has not folded."""
    previous_version: int | None
    """Of the build that can be rolled back to, if any."""
    building_version: int | None
    """Of the build that is being made, if any."""
    building_position: EntryId | None


class PartitionStatus(NamedTuple):
    """One partition's projecting, as of now."""

    partition: int
    head: EntryId
    models: list[ModelStatus]
    lag_count: int
    """Entries that the serving model furthest behind has not folded."""
    oldest_age_ms: int
    """How long ago the first of them was appended; 0 where there is none."""
    owner: str | None
    """Who holds the lease, in whatever process; None where nobody does."""
    rate_per_s: float
    """Entries that its owner committed, over the last ten seconds."""
    last_error: str | None
    """Why its owner is not projecting it, or not all of its models."""


def models_on(shelf: Shelf, head: EntryId, names: Iterable[str] = ()) -> list[ModelStatus]:
    """Return how each projection on a shelf is, and each of `names` whether it is there or not."""
    return [_model(shelf, head, name) for name in sorted({*shelf.names(), *names})]


def _model(shelf: Shelf, head: EntryId, name: str) -> ModelStatus:
    serving, previous, building = (
        shelf.get(name, role) for role in ("serving", "previous", "building")
    )
    position = shelf.checkpoint(serving) if serving else START
    return ModelStatus(
        name=name,
        version=serving.version if serving else None,
        position=position,
        lag_count=max(0, head.n - position.n),
        previous_version=previous.version if previous else None,
        building_version=building.version if building else None,
        building_position=shelf.checkpoint(building) if building else None,
    )


def lowest_position(shelf: Shelf) -> EntryId:
    """Return how far the serving build furthest behind is, START where none serves."""
    serving = [build for (_, role), build in shelf.builds.items() if role == "serving"]
    return min(map(shelf.checkpoint, serving), default=START)


class RateMeter:
    """Counts per second over the last ten seconds, or since the first count where that is less."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, int]] = deque()
        self._started_s: float | None = None

    def add(self, now_s: float, count: int) -> None:
        """Take a count at a monotonic time."""
        if self._started_s is None:
            self._started_s = now_s
        second = float(int(now_s))
        if self._counts and self._counts[-1][0] == second:
            count += self._counts.pop()[1]
        self._counts.append((second, count))

    def per_second(self, now_s: float) -> float:
        """Return the rate."""
        while self._counts and self._counts[0][0] < now_s - RATE_WINDOW_S:
            self._counts.popleft()
        if self._started_s is None:
            return 0.0
        elapsed_s = min(max(now_s - self._started_s, 1.0), RATE_WINDOW_S)
        return sum(count for _, count in self._counts) / elapsed_s
