from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from analytics.past import ArchivedPast
from bridge.erasing import ERASURES_CONVERSATION, erase, erase_again, ledger_of
from eventlog import ErasureCompleted, EventLog
from eventlog.errors import ConfigurationError, InvalidQuery
from projections.building.verifying import verify
from projections.builtin import DEFAULT_PROJECTIONS
from projections.views.dead_letters import DeadLetters
from projections.views.history import History
from projections.views.sessions import Sessions
from tests.erasing import (
    CHAT,
    NEIGHBOUR,
    SECRET,
    USER,
    archive,
    in_files,
    in_sql,
    is_nowhere,
    life_of,
    on_server,
    opened,
    places,
    project,
    storage_of,
)


@pytest.fixture
async def log(server_url: str, tmp_path: Path) -> AsyncIterator[EventLog]:
    async with opened(server_url, tmp_path) as log:
        yield log


async def lived(log: EventLog) -> None:
    """Fill a log: the chat and its neighbour, twice, the first time archived."""
    await log.append([*life_of(CHAT, USER, SECRET), *life_of(NEIGHBOUR, "8", "badger")])
    await archive(log)
    await log.append(life_of(CHAT, USER, SECRET)[2:5] + life_of(NEIGHBOUR, "8", "badger")[2:5])
    await project(log)


@pytest.mark.parametrize(
    "whose",
    [
        pytest.param({"chat": CHAT}, marks=pytest.mark.soak),
        {"user": USER, "platform": "telegram"},
    ],
)
async def test_the_content_is_gone_from_everywhere(log, whose):
    await lived(log)
    before = await places(log)
    assert len(await on_server(log.client)) >= 4  # the search would find it
    assert in_files(log.settings.data_path)
    assert await in_sql(log)

    report = await erase(log, **whose, reason="asked", operator="Ann")

    await is_nowhere(log)
    after = await places(log)
    own = log.partition_of(ERASURES_CONVERSATION)
    [(_, told)] = after[own][len(before[own]) :]
    assert told == "erasure.completed"
    assert {p: after[p][: len(before[p])] for p in after} == before  # no entry is lost or moved
    assert report.is_complete
    assert report.event_count >= 11
    for projection in DEFAULT_PROJECTIONS:
        async for each in verify(log, projection, past=ArchivedPast(storage_of(log))):
            assert each.difference is None


async def test_the_neighbour_is_intact_and_counts_hold(log):
    await lived(log)
    letters, sessions = DeadLetters(log), Sessions(log)
    before = await sessions.get(f"session-of-{CHAT}")

    await erase(log, chat=CHAT)

    page = await History(log, past=ArchivedPast(storage_of(log))).last(NEIGHBOUR)
    assert [entry.event.text for entry in page.entries] == ["badger"] * 3
    after = await sessions.get(f"session-of-{CHAT}")
    assert (after.user, after.text) == (None, None)
    for name in ("status", "version", "message_count", "tool_call_count", "started_at", "project"):
        assert getattr(after, name) == getattr(before, name), name
    letter = await letters.get(f"letter-of-{CHAT}")
    assert (letter.reason, letter.attempts, letter.text) == ("timeout", 3, None)
    assert (await letters.get(f"letter-of-{NEIGHBOUR}")).text == "badger"


async def test_the_log_says_that_it_was_done_and_not_whose_it_was(log):
    await lived(log)
    report = await erase(log, user=USER, reason="asked", operator="Ann")
    [entry] = await log.read(conversation=ERASURES_CONVERSATION)
    event = entry.event
    assert isinstance(event, ErasureCompleted)
    assert (event.scope, event.reason, event.operator) == ("user", "asked", "Ann")
    assert (event.entry_count, event.segment_count) == (report.entry_count, report.segment_count)
    assert event.erasure == report.erasures[0]
    ledger = ledger_of(log).path
    assert ledger.stat().st_mode & 0o777 == 0o600
    assert f'"{USER}"' not in ledger.read_text()


async def test_a_dry_run_counts_and_changes_nothing(log):
    await lived(log)
    found = await on_server(log.client)
    dry = await erase(log, chat=CHAT, dry_run=True)
    assert await on_server(log.client) == found
    assert not ledger_of(log).path.exists()
    real = await erase(log, chat=CHAT)
    assert (dry.event_count, dry.row_count) == (real.event_count, real.row_count)


async def test_erasing_again_changes_nothing(log):
    await lived(log)
    await erase(log, chat=CHAT)
    ledger = ledger_of(log).path.read_bytes()
    for again in (await erase(log, chat=CHAT), await erase_again(log)):
        assert (again.event_count, again.model_count) == (0, 0)
    assert ledger_of(log).path.read_bytes() == ledger
    assert len(await log.read(conversation=ERASURES_CONVERSATION)) == 1


async def test_who_is_meant_is_checked(log):
    for wrong in ({}, {"chat": "a", "user": "b"}, {"chat": "a", "platform": "b"}, {"user": ""},
                  {"chat": ERASURES_CONVERSATION}):  # fmt: skip
        with pytest.raises(InvalidQuery):
            await erase(log, **wrong)
    async with EventLog.in_memory() as other:
        with pytest.raises(ConfigurationError):
            await erase(other, chat=CHAT)
