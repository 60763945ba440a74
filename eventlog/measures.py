"""What one program counts of its own work with a log, in plain numbers for whoever exports them.

Counted once per batch or settlement, never per event. What all programs did together the log itself
tells: its sequences are counts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from eventlog.batch import Appended, Outcome

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends, inclusive, of the buckets that durations are counted in; one more is beyond them."""


class Durations:
    """How often something took how long."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, duration_s: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS_S, duration_s)] += 1
        self.sum_s += duration_s


class AppendMeasures:
    """Batches on their way to the server and back, the tries that were lost included."""

    __slots__ = ("added_count", "duplicate_count", "durations", "failures", "refused_count")

    def __init__(self) -> None:
        self.durations = Durations()
        self.added_count = 0
        """Events."""
        self.duplicate_count = 0
        """Events that the log had already."""
        self.refused_count = 0
        """Batches whose version, lock or place was not as expected."""
        self.failures: Counter[str] = Counter()
        """Code of the error → batches."""

    def answered(self, outcome: Outcome, duration_s: float) -> None:
        """Count a batch that the server answered."""
        self.durations.add(duration_s)
        if isinstance(outcome, Appended):
            self.added_count += outcome.added
            self.duplicate_count += len(outcome.duplicates)
        else:
            self.refused_count += 1

    def failed(self, code: str) -> None:
        """Count a batch that came to nothing."""
        self.failures[code] += 1


class GroupMeasures:
    """What this program's workers did for one consumer group."""

    __slots__ = ("acknowledged_count", "parked_count", "retried_count")

    def __init__(self) -> None:
        self.acknowledged_count = 0
        """Entries, those that nobody handles included."""
        self.retried_count = 0
        """Failed attempts that another follows."""
        self.parked_count = 0
        """Failed attempts that ended as dead letters."""


class Measures:
    """All of one log in this process; they only grow while it is open."""

    def __init__(self) -> None:
        self.appends = AppendMeasures()
        self.groups: dict[str, GroupMeasures] = {}

    def group(self, name: str) -> GroupMeasures:
        """Return what is counted of a group."""
        return self.groups.setdefault(name, GroupMeasures())
