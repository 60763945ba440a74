"""How far projecting is: what status shows of each partition."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from eventlog.ids import EntryId

RATE_WINDOW_S = 10.0


class PartitionStatus(NamedTuple):
    """One partition's projecting, as of now."""

    partition: int
    head: EntryId
    checkpoints: dict[str, EntryId]
    """By model."""
    lag_count: int
    """Entries that the model furthest behind has not folded."""
    oldest_age_ms: int
    """How long ago the first of them was appended; 0 where there is none."""
    owner: str | None
    """Who holds the lease, in whatever process; None where nobody does."""
    rate_per_s: float
    """Entries committed by this process, over the last ten seconds."""
    last_error: str | None
    """Why this process is not projecting the partition, if it should."""


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
