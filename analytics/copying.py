"""Copying a planned range of the log into a segment file.

Synchronous and self-contained, so that it can run in a thread or in a process of its own
(`copiers.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from analytics.bulk_pages import Stream, bulk_pages
from analytics.segment import Segment
from analytics.segment_writer import SegmentWriter
from analytics.steps import Reached, go_on
from eventlog.codec import Codec
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
        stream = Stream(copy.settings, copy.server_url, copy.draft.partition, copy.stream)
        for page in bulk_pages(stream, copy.after, copy.draft.last):
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
