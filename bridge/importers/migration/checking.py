"""Was everything imported, and as it was? Counts for all, transcripts for some.

Each source is read once more and compared with the log, archive and live tail together: how many
records each table and each conversation has, then record by record the conversations whose counts
differ and a sample of the others. What was appended since by others does not count.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from analytics.warehouse import Warehouse
from bridge.importers.items import Imported, Item, Rejected, Unit
from bridge.importers.known_sources import require_name
from bridge.importers.migration.differences import COLUMNS, FIELDS, Difference, Told, differences
from bridge.importers.migration.sessions import Known, known_sessions, read_sessions
from bridge.importers.migration.standing import Standing, map_current, settle
from bridge.importers.source import Source
from eventlog.event import Event
from eventlog.log import EventLog

SAMPLE = 20
"""Conversations of a table that are compared record by record, unless told otherwise."""
DIFFERING = 20
"""Conversations whose counts differ that are looked into, of a table."""
SHOWN_DIFFERENCES = 100
"""Differences kept of a table; the count goes on."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the archive has naive UTC
_MICROSECOND = timedelta(microseconds=1)

Parser = Callable[[Source], Iterator[Item]]


class Checked(msgspec.Struct):
    """What came of comparing one table, or one file of JSON lines; encodes to JSON as it is."""

    label: str
    record_count: int = 0
    """Records of the source, refused and repeated ones too."""
    refused_count: int = 0
    repeated_count: int = 0
    """Records that add nothing: a line that came before, a session's second record."""
    source_count: int = 0
    """Events that the source gives."""
    log_count: int = 0
    """Of these, events that the log has."""
    conversation_count: int = 0
    differing_count: int = 0
    """Conversations whose counts differ."""
    compared_count: int = 0
    """Events that were compared field by field."""
    difference_count: int = 0
    differences: list[Difference] = []

    @property
    def agrees(self) -> bool:
        """Whether nothing was found to differ."""
        return not self.difference_count and self.source_count == self.log_count

    def note(self, found: Iterable[Difference]) -> None:
        """Count differences, and keep the first."""
        for each in found:
            self.difference_count += 1
            if len(self.differences) < SHOWN_DIFFERENCES:
                self.differences.append(each)


class _Part(NamedTuple):
    """What one reading of the source found of a unit."""

    checked: Checked
    names: tuple[str, ...]
    counts: Counter[str]


async def check_source(
    log: EventLog,
    warehouse: Warehouse,
    source: Source,
    parse: Parser,
    *,
    sample: int = SAMPLE,
    seed: int = 0,
) -> list[Checked]:
    """Return what came of comparing a source with the log, by table.

    `sample` conversations are chosen by `seed`, the same ones each time. Raises ImportFailed,
    HistoryGap where entries are neither in the log nor in the archive, LogUnavailable.
    """
    parts = await asyncio.to_thread(_count, source, parse)
    if source.database_name is not None:
        await require_name(log, source, source.database_name)
    chosen: dict[str, set[str]] = {}
    for part in parts.values():
        actual = await _log_counts(warehouse, part)
        differing = sorted(c for c in part.counts | actual if part.counts[c] != actual[c])
        checked = part.checked
        checked.log_count = actual.total()
        checked.conversation_count = len(part.counts)
        checked.differing_count = len(differing)
        known = sorted(part.counts)
        drawn = random.Random(seed).sample(known, min(sample, len(known)))  # noqa: S311 - no secret
        chosen[part.names[0]] = {*drawn, *differing[:DIFFERING]}
        if len(differing) > DIFFERING:
            checked.difference_count += len(differing) - DIFFERING
    told = await asyncio.to_thread(_transcripts, source, parse, chosen)
    for name, part in parts.items():
        in_log = await _log_transcripts(warehouse, part, chosen[name])
        for conversation in sorted(chosen[name]):
            theirs = told.get((name, conversation), [])
            part.checked.compared_count += len(theirs)
            part.checked.note(differences(conversation, theirs, in_log.get(conversation, [])))
    if source.format_name == "sqlite":
        await _check_sessions(log, source, {p.checked.label: p.checked for p in parts.values()})
    return [part.checked for part in parts.values()]


def _count(source: Source, parse: Parser) -> dict[str, _Part]:
    """Return the units of the source by name, counted."""
    parts: dict[str, _Part] = {}
    part: _Part | None = None
    for item in parse(source):
        if isinstance(item, Unit):
            label = f"{source.label}#{item.label}" if item.label else source.label
            part = _Part(Checked(label), item.names, Counter())
            parts[item.names[0]] = part
            continue
        assert part is not None, "a parser names a unit first"
        part.checked.record_count += 1
        if isinstance(item, Rejected):
            part.checked.refused_count += 1
        elif not item.events:
            part.checked.repeated_count += 1
        else:
            part.checked.source_count += len(item.events)
            part.counts.update(event.conversation for event in item.events)
    return parts


def _transcripts(
    source: Source, parse: Parser, chosen: dict[str, set[str]]
) -> dict[tuple[str, str], list[Told]]:
    """Return the chosen conversations as the source has them, by unit and conversation."""
    told: dict[tuple[str, str], list[Told]] = {}
    name, wanted = "", set[str]()
    for item in parse(source):
        if isinstance(item, Unit):
            name = item.names[0]
            wanted = chosen.get(name, set())
        elif isinstance(item, Imported):
            for event in item.events:
                if event.conversation in wanted:
                    told.setdefault((name, event.conversation), []).append(_told(event, name))
    return told


def _told(event: Event, name: str) -> Told:
    compared = FIELDS[event.type]
    fields = tuple(getattr(event, field) if field in compared else None for field in COLUMNS)
    return Told(str(event.correlation_id).removeprefix(f"{name}:"), fields)


async def _log_counts(warehouse: Warehouse, part: _Part) -> Counter[str]:
    found: Counter[str] = Counter()
    table = await warehouse.query(
        f"SELECT conversation, count(*) FROM events WHERE {_ours(part)} GROUP BY ALL",  # noqa: S608
        _prefixes(part),
    )
    for conversation, count in zip(*(column.to_pylist() for column in table.columns), strict=True):
        found[conversation] = count
    return found


async def _log_transcripts(
    warehouse: Warehouse, part: _Part, conversations: Iterable[str]
) -> dict[str, list[Told]]:
    wanted = sorted(conversations)
    if not wanted:
        return {}
    columns = ", ".join(f'"{name}"' for name in COLUMNS)
    marks = ", ".join("?" * len(wanted))
    table = await warehouse.query(
        f"SELECT conversation, correlation_id, {columns} FROM events "  # noqa: S608
        f"WHERE {_ours(part)} AND conversation IN ({marks}) ORDER BY partition, sequence",
        [*_prefixes(part), *wanted],
    )
    found: dict[str, list[Told]] = {}
    for row in table.to_pylist():
        place = row["correlation_id"]
        for name in part.names:
            place = place.removeprefix(f"{name}:")
        found.setdefault(row["conversation"], []).append(Told(place, _fields(row)))
    return found


def _fields(row: dict[str, Any]) -> tuple[Any, ...]:
    compared = FIELDS[row["type"]]
    fields = []
    for name in COLUMNS:
        value = row[name] if name in compared else None
        fields.append(_us(value) if name == "occurred_at" else value)
    return tuple(fields)


def _ours(part: _Part) -> str:
    types = ", ".join(f"'{name}'" for name in FIELDS)
    of_unit = " OR ".join("starts_with(correlation_id, ?)" for _ in part.names)
    return f"({of_unit}) AND type IN ({types})"


def _prefixes(part: _Part) -> list[str]:
    return [f"{name}:" for name in part.names]


async def _check_sessions(log: EventLog, source: Source, by_label: dict[str, Checked]) -> None:
    """Compare where sessions stand and which one each conversation is in."""
    standings, table = await asyncio.to_thread(read_sessions, source)
    if not standings:
        return
    checked = by_label[f"{source.label}#{table}"]
    for known in await known_sessions(log, standings.values()):
        checked.note(_unsettled(known))


def _unsettled(known: Known) -> Iterator[Difference]:
    for each, seen in known.pairs:
        if seen is None or seen.status is None:
            yield _off(each, "not in the log")
        elif settle(each, seen) is not None:
            yield _off(each, f"{each.record.status} in the source, {seen.status} in the log")
    for each in known.unplaced:
        yield _off(each, "not to be found by its id")
    for current, mapped in known.mapped:
        if map_current(current, mapped) is not None:
            now = mapped.session if mapped is not None else None
            yield _off(current.source, f"its conversation is mapped to {now!r}")


def _off(each: Standing, detail: str) -> Difference:
    record = each.record
    told = f"session {record.session!r}: {detail}"
    return Difference("session", record.conversation, str(each.number), told)


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // _MICROSECOND
