"""Copying a planned range of the log into a segment file.

Synchronous and self-contained, so that it can run in a thread or in a process of its own
(`copiers.py`). The server prepares the next page while this one is turned into columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from redis.connection import AbstractConnection

from analytics.pages import Page, PageSize
from analytics.segment import Segment
from analytics.segment_writer import SegmentWriter
from analytics.steps import Reached, go_on
from eventlog.codec import Codec
from eventlog.connection import connect_in_bulk, in_our_words
from eventlog.errors import HistoryGap
from eventlog.ids import EntryId
from eventlog.settings import Settings


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """What to copy and where to; it can be sent to another process."""

    settings: Settings
    server_url: str
    stream: str
    """The partition's key."""
    after: EntryId
    """The last entry before the segment."""
    draft: Segment
    """The segment; the time of its last entry is not known yet."""
    path: str
    """The file to write."""

    def __repr__(self) -> str:
        return f"Copy({self.draft.name!r})"  # the address may hold a password


class Copied(msgspec.Struct, frozen=True, tag=True):
    """The file is whole, synced and checked."""

    end: EntryId


class Failed(msgspec.Struct, frozen=True, tag=True):
    """There is no file."""

    message: str
    code: str = ""
    """Of the error tree; empty for an error of the operating system."""
    remedy: str = ""
    errno: int = 0


def copy_segment(
    copy: Copy,
    codec: Codec,
    reached: Reached = go_on,
    is_wanted: Callable[[], bool] = lambda: True,
) -> EntryId | None:
    """Return the id of the last entry; the file is whole, synced and checked.

    None where it was no longer wanted; then, and where it fails, nothing is left of it. Raises
    HistoryGap, LogUnavailable and its kin, OSError.
    """
    end = copy.after
    writer = SegmentWriter(Path(copy.path), copy.draft, codec, reached)
    try:
        with _connected(copy) as connection:
            for page in _pages(connection, copy):
                if not is_wanted():
                    writer.abandon()
                    return None
                writer.add(page)
                end = page.end
        writer.finish()
    except Exception:
        writer.abandon()
        raise
    return end


@contextmanager
def _connected(copy: Copy) -> Iterator[AbstractConnection]:
    connection = connect_in_bulk(copy.settings, copy.server_url)
    try:
        yield connection
    finally:
        connection.disconnect()


def _pages(connection: AbstractConnection, copy: Copy) -> Iterator[Page]:
    """Give the pages of the range in order; the next one is asked for before this one is given."""
    size = PageSize()
    last = copy.draft.last

    # Only what the server says is put in our words: a full disk is not a server out of reach.
    def ask(after: EntryId) -> None:
        count = min(size.entries, last - after.n)
        with in_our_words(copy.settings):
            connection.send_command("XRANGE", copy.stream, f"({after}", "+", "COUNT", count)

    def answer() -> Page:
        with in_our_words(copy.settings):
            return Page.of_reply(connection.read_response())

    ask(copy.after)
    end = copy.after
    while end.n < last:
        page = answer()
        if not page.raws:
            raise HistoryGap(
                f"partition {copy.draft.partition} ends at {end.n}, but a segment up to {last} "
                "was planned.",
                remedy="Entries were removed from the log: restore the server's data.",
            )
        size.learn(page)
        end = page.end
        if end.n < last:
            ask(end)
        yield page
