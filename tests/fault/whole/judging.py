"""What is there when a run has come to rest: read as users read it, for the rules to judge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from analytics import Warehouse, storage_of
from analytics.past import ArchivedPast
from eventlog import EventLog
from eventlog.entry import RawEntry
from eventlog.errors import HistoryGap
from eventlog.event import Event
from eventlog.ids import START
from eventlog.tail import decode_entry
from eventlog.vocabulary import (
    BridgeEvent,
    DeadLetterParked,
    MessageQueued,
    MessageReceived,
    MessageSent,
)
from projections.building.verifying import verify
from projections.builtin import DEFAULT_PROJECTIONS
from tests.fault.anomaly import Anomaly
from tests.fault.whole.history import History, Logged, Place, read
from tests.fault.whole.reading import WATCHING

ALL_EVENTS = "SELECT partition, sequence FROM events ORDER BY partition, sequence"


async def history_of(log: EventLog, folder: Path) -> History:
    """Return all that is known of a run in a folder."""
    recorded = read(_journals(folder))
    events = await _events(log)
    ids = {f"{place.partition}/{entry_id}": event.id for place, (entry_id, event) in events.items()}
    async with Warehouse.open(log) as warehouse:
        rows = (await warehouse.query(ALL_EVENTS)).to_pylist()
    places = [Place(row["partition"], row["sequence"]) for row in rows]
    return History(
        writes=recorded.writes,
        log=[_logged(place, events[place][1], ids) for place in places],
        heads={partition: head.n for partition, head in enumerate(await log.heads())},
        sights=recorded.sights,
        attempts=recorded.attempts,
        looks=recorded.looks,
        positions=recorded.positions,
        needs=recorded.needs,
        whole_readers={WATCHING},
        errors=recorded.errors,
        files=recorded.files,
    )


def _journals(folder: Path) -> Iterator[tuple[str, Iterator[str]]]:
    for path in sorted(folder.glob("*.jsonl")):
        with path.open() as lines:
            yield path.name, iter(lines.readlines())


async def _events(log: EventLog) -> dict[Place, tuple[str, Event]]:
    """Return every entry's id and event, from the archive and then the log."""
    past = ArchivedPast(storage_of(log.settings))
    found: dict[Place, tuple[str, Event]] = {}

    def take(partition: int, raws: list[RawEntry]) -> None:
        for raw in raws:
            entry = decode_entry(log.codec, partition, raw)
            found[Place(partition, entry.sequence)] = str(entry.id), entry.event

    for partition in range(log.partition_count):
        async for stretch in past.read(partition, START):
            take(partition, stretch.entries)
        take(partition, await log.read_raw(partition, START, 10_000_000))
    return found


def _logged(place: Place, event: Event, ids: dict[str, str]) -> Logged:
    kept = place, event.conversation
    match event:
        case MessageReceived() | MessageQueued():
            is_queued = isinstance(event, MessageQueued)
            return Logged(kept[0], "write", event.id, kept[1], event.id, is_queued)
        case MessageSent() if event.delivery:
            return Logged(kept[0], "sent", event.delivery, kept[1], event.id)
        case DeadLetterParked():
            key = ids.get(event.origin or "", event.letter)
            return Logged(kept[0], "letter", key, kept[1], event.id)
        case BridgeEvent():
            return Logged(kept[0], "note", event.id, kept[1], event.id)
    return Logged(kept[0], "other", event.id, kept[1], event.id)


async def unequal_models(log: EventLog) -> list[Anomaly]:
    """Return which read models are not what a fresh fold of archive and log gives."""
    past = ArchivedPast(storage_of(log.settings))
    found = []
    for projection in DEFAULT_PROJECTIONS:
        try:
            async for verified in verify(log, projection, past=past):
                if not verified.agrees:
                    about = f"{verified.model} of partition {verified.partition}"
                    found.append(Anomaly("unequal model", about, (str(verified.difference),)))
        except HistoryGap as error:
            found.append(Anomaly("unequal model", projection.model, (str(error),)))
    return found
