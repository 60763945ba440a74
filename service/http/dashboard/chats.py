"""Reading transcripts: the hot end from read models, what only the archive tells from the warehouse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from eventlog.scoped import scoped
from projections.reading.long_feeds import LongFeeds, Place
from projections.reading.paging import decode_cursor, encode_cursor
from projections.views.activity import Activity
from projections.views.history import History
from projections.views.sessions import Session
from projections.views.tickets import TICKET_FEED, ticket_of
from service.http.dashboard.transcript import COLUMNS, TYPES, Happening, of_entry, of_row
from service.http.endpoint import Shared
from service.http.place import Place as StreamPlace
from service.queries import load_query
from service.wiring import Service

PAGE_ENTRIES = 100
MOST_BETWEEN = 1000
"""Tool calls shown between the messages of one page."""

TRANSCRIPT = "transcript"
BETWEEN = "transcript_between"


class Passage(NamedTuple):
    """A page of a transcript, oldest first."""

    happened: Sequence[Happening]
    older: str | None
    """The cursor of the page before."""
    earlier_count: int | None
    """Entries before this page, None where nobody counted them."""


class _Before(NamedTuple):
    n: int


class _ChatPlace(NamedTuple):
    cursor: str
    before_n: int


async def stream_place(shared: Shared, conversation: str) -> str:
    """Return where a stream of the conversation goes on that shows what follows this moment."""
    log = shared.service.log
    partition = log.partition_of(conversation)
    head = (await log.heads())[partition]
    return str(StreamPlace(await shared.hub.log_mark(), {partition: head}))


async def of_session(service: Service, session: Session, cursor: str | None) -> Passage:
    """Return the last page of a session's transcript, or the one of a cursor. Raises InvalidCursor."""
    ticket = ticket_of(session.conversation)
    if ticket is not None:
        place = None if cursor is None else decode_cursor(cursor, Place)
        feeds = LongFeeds(service.log, TICKET_FEED, past=service.past)
        feed = scoped(session.conversation, session.id)
        page = await feeds.older(feed, place, PAGE_ENTRIES, "live")
        older = encode_cursor(page.left) if page.has_older else None
        return Passage([of_entry(each) for each in page.entries], older, page.left.before_count)
    before = None if cursor is None else decode_cursor(cursor, _Before).n
    warehouse = await service.warehouse()
    partition = service.log.partition_of(session.conversation)
    table = await warehouse.query(
        load_query(TRANSCRIPT).format(columns=_columns(), types=_types()),
        {
            "partition": partition,
            "session": session.id,
            "before": before,
            "count": PAGE_ENTRIES + 1,
        },
    )
    rows = table.to_pylist()
    older = None
    if len(rows) > PAGE_ENTRIES:
        rows.pop()
        older = encode_cursor(_Before(rows[-1]["sequence"]))
    return Passage([of_row(row) for row in reversed(rows)], older, None)


async def of_conversation(service: Service, conversation: str, cursor: str | None) -> Passage:
    """Return the last page of what was said, or the one of a cursor, and the tools used in between.

    Raises InvalidCursor.
    """
    place = None if cursor is None else decode_cursor(cursor, _ChatPlace)
    history = History(service.log, past=service.past)
    page = await history.last(
        conversation, PAGE_ENTRIES, cursor=None if place is None else place.cursor
    )
    said = [of_entry(each) for each in page.entries]
    first = said[0].n if said and page.older else 1
    older = encode_cursor(_ChatPlace(page.older, first)) if page.older else None
    between = await _between(
        service, conversation, first, None if place is None else place.before_n
    )
    happened = sorted([*said, *between], key=lambda each: each.n)
    return Passage(happened, older, page.earlier_count)


async def _between(
    service: Service, conversation: str, first: int, before: int | None
) -> list[Happening]:
    activity = await Activity(service.log).of_conversation(conversation)
    counts = {} if activity is None else activity.counts
    if not any(label.startswith(("tool.", "session.")) for label in counts):
        return []
    warehouse = await service.warehouse()
    partition = service.log.partition_of(conversation)
    table = await warehouse.query(
        load_query(BETWEEN).format(columns=_columns()),
        {"partition": partition, "conversation": conversation, "first": first, "before": before,
         "count": MOST_BETWEEN},
    )  # fmt: skip
    return [of_row(row) for row in table.to_pylist()]


def _columns() -> str:
    return ", ".join(f'"{name}"' for name in COLUMNS)


def _types() -> str:
    return ", ".join(f"'{name}'" for name in TYPES)
