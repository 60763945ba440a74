"""A compacted archive says the same as a plain one, by every way that it is read."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from analytics import VIEWS, Catalogue, Reports, Warehouse
from analytics.past import ArchivedPast
from analytics.reports import question
from analytics.segment import DAY_MS, Segment
from analytics.storage import Storage
from bridge.erasing import ERASURES_CONVERSATION, erase
from eventlog import EventLog
from eventlog.ids import START, EntryId
from eventlog.past import Past
from projections.building.verifying import verify
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.replay import Moment, state_at
from projections.projecting.projector import Projector
from tests.archives import ArchivedWorld
from tests.compacting import archive, compact, put_on_days, shuffled, storage_in, with_short_files
from tests.projecting import random_events

CHATS = [f"chat:{n}" for n in range(7)]
TYPES = (None, {"message.received"}, {"tool.called", "session.started"}, {"shop.sold"}, set[str]())
CUSTOM = b'{"type":"shop.sold","conversation":"chat:1","id":"sold","occurred_at":7,"cents":3}'
WRECK = b"\xff no event"


async def told(log: EventLog, storage: Storage, rnd: random.Random) -> list[Any]:
    """Return what the archive says, asked in every way."""
    past = ArchivedPast(storage)
    found: list[Any] = []
    for partition, coverage in Catalogue(storage).scan().items():
        last = coverage.position.n
        for types in TYPES:
            for _ in range(4):
                after, until = sorted((rnd.randint(0, last), rnd.randint(0, last)))
                bounds = EntryId(0, after), EntryId(0, until)
                found.append(await read(past, partition, *bounds, types))
            found.append(await read(past, partition, START, None, types))
        for chat in CHATS:
            for newest_first in (False, True):
                pages = past.of_conversation(
                    partition, chat, {"message.received", "message.sent"},
                    limit=rnd.randint(1, 20), after=rnd.randint(0, last),
                    before=rnd.choice([None, last]), newest_first=newest_first,
                )  # fmt: skip
                found.append(await pages)
    async with Warehouse.open(
        log, storage.path(next(iter(storage.segments()))).parents[1]
    ) as asked:
        for view in VIEWS:
            table = await asked.query(f"FROM {view}")
            texts = sorted(map(repr, table.to_pylist()))
            found.append([text for text in texts if ERASURES_CONVERSATION not in text])
        asking = [question(report, {}, 0) for report in Reports().all()]
        found += [(await asked.query(*each)).to_pylist() for each in asking]
    return found


async def read(
    past: Past, partition: int, after: EntryId, until: EntryId | None, types: set[str] | None
) -> list[Any]:
    stretches = [stretch async for stretch in past.read(partition, after, until, types)]
    entries = [entry for stretch in stretches for entry in stretch.entries]
    assert [e.id.n for e in entries] == sorted(e.id.n for e in entries)
    return [entries, stretches[-1].end.n if stretches else None]


def is_todays(log: EventLog, segment: Segment) -> bool:
    return segment.last_ms // DAY_MS == log.clock.now_us() // 1000 // DAY_MS


async def folded(log: EventLog, past: Past, moment: Moment) -> list[Any]:
    """Return all read models as they were then; which lists are empty depends on the batches."""
    found: list[Any] = []
    for projection in DEFAULT_PROJECTIONS:
        models = await state_at(log, projection, moment, past=past)
        for place, model in sorted(models._models.items()):
            lists = {name: dict(sorted(each.items())) for name, each in model.indexes.items()}
            parts = model.documents, model.feeds, model.totals, lists
            found.append((place, [sorted(item for item in p.items() if item[1]) for p in parts]))
    return found


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.soak)])
async def test_every_way_of_reading_gives_what_it_gave_before(
    server_url: str, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rnd = random.Random(seed)
    with_short_files(monkeypatch)
    async with EventLog.open(
        server_url, key_prefix=f"compact{seed}", partition_count=2, data_dir=str(tmp_path)
    ) as log:
        storage = storage_in(tmp_path)
        events = shuffled(rnd, random_events(rnd, 250), WRECK, CUSTOM, WRECK)
        await put_on_days(log, events)
        await archive(log, storage, max_rows=rnd.randint(20, 90))
        world, past = ArchivedWorld(log, storage), ArchivedPast(storage)
        await world.trim()
        await archive(log, storage)  # the letters in which the projectors parked the wrecks
        segments = Catalogue(storage).coverage(0).chosen
        middle = segments[len(segments) // 2].end
        moments = [Moment(), Moment(sequences={0: middle.n}), Moment(time_us=middle.ms * 1000)]
        before = await told(log, storage, random.Random(seed))
        folds = [await folded(log, past, moment) for moment in moments]

        report = await compact(log, storage)
        assert report.failures == ()
        assert report.waiting == ()
        for coverage in Catalogue(storage).scan().values():
            assert all(
                segment.is_compacted for segment in coverage.chosen if not is_todays(log, segment)
            )
            assert coverage.spare == ()
        assert await told(log, storage, random.Random(seed)) == before
        assert [await folded(log, past, moment) for moment in moments] == folds
        assert await compact(log, storage) == ((), {}, (), (), ())  # there is nothing left to do

        await Projector(log, past=past).run_until_caught_up()
        for projection in DEFAULT_PROJECTIONS:
            async for outcome in verify(log, projection, past=past):
                assert outcome.agrees


async def test_erasing_takes_the_same_rows_of_compacted_files(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_short_files(monkeypatch)
    said = []
    for kind in ("plain", "compacted"):
        async with EventLog.open(
            server_url,
            key_prefix=f"compact-erase-{kind}",
            partition_count=2,
            data_dir=str(tmp_path / kind),
        ) as log:
            storage = storage_in(tmp_path / kind)
            await put_on_days(log, random_events(random.Random(1), 200), ago=9)
            await archive(log, storage)
            if kind == "compacted":
                await compact(log, storage)
            report = await erase(log, chat=CHATS[1])
            assert report.is_complete
            said.append((report.row_count, await told(log, storage, random.Random(1))))
            assert all(
                segment.is_compacted == (kind == "compacted") for segment in storage.segments()
            )
    assert said[0][0] == said[1][0]
    for plain, compacted in zip(said[0][1], said[1][1], strict=True):
        assert plain == compacted
