"""How many partitions the log of an archive had: where its conversations lie tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from analytics.catalogue import Catalogue
from analytics.segment import Coverage
from eventlog.errors import ConfigurationError, PartitionMismatch, RestoreRefused
from eventlog.partition import partition_of

MOST = 1024
SAMPLE_ROWS = 1000
"""Of the first and the last segment of a partition."""


def find_partition_count(catalogue: Catalogue, wanted: int | None) -> int:
    """Return the partition count that the archive's log had. Synchronous.

    Raises PartitionMismatch where that is not `wanted`, ConfigurationError where several are possible
    and none is wanted, RestoreRefused for an archive without segments.
    """
    there = catalogue.scan()
    if not any(coverage.chosen for coverage in there.values()):
        raise RestoreRefused(
            "the archive holds no segment.", remedy="Name the right one: `--archive-dir`."
        )
    seen = {p: _conversations(catalogue, coverage) for p, coverage in there.items()}
    possible = possible_counts(seen)
    if wanted is not None and wanted not in possible:
        raise PartitionMismatch(
            f"the archive's log did not have {wanted} partitions, but {_listed(possible)}.",
            remedy="Leave partition_count out.",
        )
    if wanted is None and len(possible) != 1:
        raise ConfigurationError(
            f"the archive's log may have had {_listed(possible)} partitions.",
            remedy="Say which: EVENTLOG_PARTITION_COUNT (8 where none was ever set).",
        )
    return wanted or possible[0]


def possible_counts(seen: Mapping[int, Iterable[str]]) -> list[int]:
    """Return which counts put each conversation where it was seen. Pure.

    >>> possible_counts({5: ["telegram:42"], 3: ["telegram:43"], 2: ["irc:#a"]})[:1]
    [8]
    """
    pairs = [(partition, name) for partition, names in seen.items() for name in names]
    return [
        count
        for count in range(max(seen) + 1, MOST + 1)
        if all(partition_of(name, count) == partition for partition, name in pairs)
    ]


def _conversations(catalogue: Catalogue, coverage: Coverage) -> set[str]:
    found: set[str] = set()
    for segment in {*coverage.chosen[:1], *coverage.chosen[-1:]}:
        with catalogue.open(segment) as reader:
            until = min(segment.last, segment.first - 1 + SAMPLE_ROWS)
            for table in reader.pieces(segment.first - 1, until):
                if "conversation" in table.column_names:
                    names: pa.ChunkedArray = table["conversation"]
                    found |= set(names.unique().drop_null().to_pylist())
    return found


def _listed(counts: list[int]) -> str:
    if not counts:
        return "a number that cannot be told"
    shown = ", ".join(map(str, counts[:3]))
    return shown if len(counts) <= 3 else f"{shown} or more"
