"""From what was found to the samples of each metric. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

from analytics.trim import Pin
from eventlog.ids import START
from eventlog.measures import BOUNDS_S, Measures
from service.metrics import families as f
from service.metrics.families import Family
from service.metrics.looking import ArchiveFacts, ServerFacts


class Found(NamedTuple):
    """Everything that a scrape is made of."""

    measures: Measures
    spool_counts: Mapping[str, int]
    server: ServerFacts | None
    """None while the server does not answer."""
    archive: ArchiveFacts | None
    """None while archive or server does not answer."""
    look_s: Mapping[str, float]
    now_ms: int


class Histogram(NamedTuple):
    """Buckets as Prometheus has them: upper end → how many were not above it."""

    buckets: list[tuple[str, float]]
    sum: float


class Samples:
    """Values by metric and by the values of its labels."""

    def __init__(self) -> None:
        self.by_family: dict[Family, dict[tuple[str, ...], float]] = defaultdict(dict)
        self.append_seconds = Histogram([], 0.0)

    def put(self, family: Family, value: float, *labels: object) -> None:
        """Set one value."""
        assert len(labels) == len(family.labels), family.name
        self.by_family[family][tuple(map(str, labels))] = float(value)


def samples_of(found: Found) -> Samples:
    """Return the samples of what was found; what is not known has none."""
    samples = Samples()
    samples.put(f.UP, found.server is not None)
    samples.put(f.ARCHIVE_UP, found.archive is not None)
    for of, duration_s in found.look_s.items():
        samples.put(f.LOOK_SECONDS, duration_s, of)
    samples.put(f.SPOOL_EVENTS, sum(found.spool_counts.values()))
    samples.put(f.SPOOL_FILES, len(found.spool_counts))
    _process(samples, found.measures)
    if found.server is not None:
        _server(samples, found.server)
        _log(samples, found.server)
        _groups(samples, found.server)
        _read_models(samples, found.server)
    if found.archive is not None:
        _archive(samples, found.archive, found.now_ms)
        _retention(samples, found.archive)
    return samples


def _process(samples: Samples, measures: Measures) -> None:
    appends = measures.appends
    ends = [*(str(bound) for bound in BOUNDS_S), "+Inf"]
    counts = accumulate(appends.durations.counts)
    buckets = [(end, float(count)) for end, count in zip(ends, counts, strict=True)]
    samples.append_seconds = Histogram(buckets, appends.durations.sum_s)
    samples.put(f.APPENDED_EVENTS, appends.added_count, "added")
    samples.put(f.APPENDED_EVENTS, appends.duplicate_count, "duplicate")
    samples.put(f.REFUSED_BATCHES, appends.refused_count)
    for code, count in appends.failures.items():
        samples.put(f.FAILED_BATCHES, count, code)
    for name, group in measures.groups.items():
        samples.put(f.ACKNOWLEDGED, group.acknowledged_count, name)
        samples.put(f.FAILED_ATTEMPTS, group.retried_count, name, "retried")
        samples.put(f.FAILED_ATTEMPTS, group.parked_count, name, "parked")


def _server(samples: Samples, facts: ServerFacts) -> None:
    server, info = facts.server, facts.info
    samples.put(f.SERVER_INFO, 1, server.name, ".".join(map(str, server.version)))
    samples.put(f.MEMORY_USED, int(info.get("used_memory", 0)))
    samples.put(f.MEMORY_MAX, server.max_memory_bytes)
    samples.put(f.SERVER_CLIENTS, int(info.get("connected_clients", 0)))
    is_written = info.get("aof_last_write_status", "ok") == "ok"
    samples.put(f.PERSISTENCE_OK, server.is_appendonly and is_written)


def _log(samples: Samples, facts: ServerFacts) -> None:
    for partition, (head, count) in enumerate(zip(facts.heads, facts.stream_counts, strict=True)):
        samples.put(f.ENTRIES, head.n, partition)
        samples.put(f.STREAM_ENTRIES, count, partition)
    for event_type, count in most(facts.events_by_type, f.MOST_TYPES).items():
        samples.put(f.EVENTS, count, event_type)


def _groups(samples: Samples, facts: ServerFacts) -> None:
    for group in facts.groups:
        samples.put(f.GROUP_MEMBERS, len(group.members), group.name)
        samples.put(f.GROUP_RETRYING, facts.retrying.get(group.name, 0), group.name)
        for each in group.partitions:
            of = group.name, each.partition
            samples.put(f.GROUP_LAG, each.lag_count, *of)
            samples.put(f.GROUP_OLDEST, each.oldest_age_ms / 1000, *of)
            samples.put(f.GROUP_PENDING, each.pending_count, *of)
            samples.put(f.GROUP_BLOCKED, each.blocked_count, *of)


def _read_models(samples: Samples, facts: ServerFacts) -> None:
    lags: Counter[str] = Counter()
    for each in facts.projecting:
        samples.put(f.PROJECTOR_POSITION, each.head.n - each.lag_count, each.partition)
        samples.put(f.PROJECTOR_LAG, each.lag_count, each.partition)
        samples.put(f.PROJECTOR_OLDEST, each.oldest_age_ms / 1000, each.partition)
        samples.put(f.PROJECTOR_FAILING, each.last_error is not None, each.partition)
        for model in each.models:
            lags[model.name] += model.lag_count
    for name, lag_count in lags.items():
        samples.put(f.PROJECTION_LAG, lag_count, name)
    owners = {each.owner for each in facts.projecting if each.owner is not None}
    samples.put(f.PROJECTORS, len(owners))
    for status in ("parked", "replaying", "resolved", "discarded"):
        samples.put(f.LETTERS, facts.letters_by_status.get(status, 0), status)
    for reason, count in most(facts.parked_by_reason, f.MOST_REASONS).items():
        samples.put(f.PARKED, count, reason)


def _archive(samples: Samples, facts: ArchiveFacts, now_ms: int) -> None:
    for each in facts.archiving:
        partition = each.partition
        samples.put(f.ARCHIVE_POSITION, each.position.n, partition)
        if each.position != START:
            age_ms = max(0, now_ms - each.position.ms)
            samples.put(f.ARCHIVE_POSITION_AGE, age_ms / 1000, partition)
        samples.put(f.ARCHIVE_LAG, each.lag_count, partition)
        samples.put(f.ARCHIVE_OLDEST, each.oldest_age_ms / 1000, partition)
        samples.put(f.ARCHIVE_SEGMENTS, each.segment_count, partition)
        samples.put(f.ARCHIVE_WHOLE, each.is_whole, partition)
        samples.put(f.ARCHIVE_LOST, each.lost_count, partition)


def _retention(samples: Samples, facts: ArchiveFacts) -> None:
    for each in facts.plan.partitions:
        partition = each.facts.partition
        samples.put(f.STREAM_BYTES, each.facts.stream_bytes, partition)
        samples.put(f.TRIM_FLOOR, each.facts.floor_n, partition)
        floor_n = each.facts.floor_n
        for pin in each.facts.pins if floor_n <= each.facts.last_n else ():
            if pin.needs.n == floor_n:
                samples.put(f.TRIM_PIN, 1, partition, pin.kind, holder_of(pin))
    for held in facts.plan.holders:
        samples.put(f.TRIM_HELD, held.entry_count, held.pin.kind, holder_of(held.pin))
        samples.put(f.TRIM_HELD_BYTES, held.stream_bytes, held.pin.kind, holder_of(held.pin))
    samples.put(f.OVER_BUDGET, facts.plan.over_bytes)


def holder_of(pin: Pin) -> str:
    """Return who pins, by a name that stays the same from one build or position to the next.

    >>> holder_of(Pin("build", "sessions@3.17 serving", START))
    'sessions serving'
    """
    if pin.kind in ("group", "lost_group"):
        return pin.name
    if pin.kind == "build":
        model, _, role = pin.name.partition(" ")
        return f"{model.partition('@')[0]} {role}"
    return pin.kind


def most(counts: Mapping[str, int], limit: int) -> dict[str, int]:
    """Return the highest counts, and what is beyond them as `other`.

    >>> most({"a": 1, "b": 3, "c": 2}, 1)
    {'b': 3, 'other': 3}
    """
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept, rest = dict(ranked[:limit]), sum(count for _, count in ranked[limit:])
    if rest:
        kept[f.OTHER] = kept.get(f.OTHER, 0) + rest
    return kept
