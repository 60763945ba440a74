"""What parent and child say to each other, over the child's standard input and output.

A frame is a kind (one byte), a length (four bytes, little-endian) and as many bytes.

    parent: REQUEST (JSON)  TABLE… END (parameters, as an Arrow stream)  TABLE… END (the live tail)
    child:  READY, once it waits for a request; then TABLE… (the result, as an Arrow stream) ANSWER

A child answers once. No pickle anywhere: either side can be read by a hostile one.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

from analytics.sandbox.limits import Limits

READY, REQUEST, TABLE, END, ANSWER = b"r", b"q", b"t", b"e", b"a"

HEADER = struct.Struct("<cI")
FRAME_BYTES = 1024 * 1024
"""The longest frame of a table."""
ANSWER_BYTES = 16 * 1024
"""The longest answer; a longer one is none."""
MESSAGE_CHARS = 2000
"""Of an error's text."""

Mode = Literal["landlock", "descriptors"]
"""What keeps the child from the file system.

landlock: the kernel lets it open the segments, for reading, and nothing else. descriptors: the
segments are open before the query is looked at, and the kernel lets it open nothing any more.
"""


class SegmentFile(msgspec.Struct, frozen=True):
    """A file to read, and what it may be called in messages to strangers."""

    path: str
    name: str


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One query, and what it may see and use."""

    sql: str
    limits: Limits
    mode: Mode
    segments: list[SegmentFile]
    views: list[str]
    """SQL that creates the views over `tail` and `archive`."""
    archive_view: str
    """SQL that creates `archive` over the files in the variable `segments`."""
    rows_view: str
    """SQL that creates `archive` over the table `segment_rows`."""
    settings: str
    """SQL that every connection starts with."""


Outcome = Literal["done", "failed", "refused", "too_large", "timeout", "segment_gone"]


class Answer(msgspec.Struct, frozen=True):
    """How a query went."""

    outcome: Outcome
    message: str = ""


def frame(kind: bytes, payload: bytes | memoryview) -> bytes:
    """Return a frame."""
    return HEADER.pack(kind, len(payload)) + payload
