"""Which consumer groups a log has: what is registered is waited for, and found again."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from eventlog.connection import in_our_words
from eventlog.errors import ConfigurationError
from eventlog.group import GroupReader
from eventlog.ids import START, EntryId
from eventlog.log import EventLog

Start = Literal["beginning", "now"]

RESERVED = frozenset({"projector", "archiver"})
"""Groups of the product's own."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Registration(msgspec.Struct, frozen=True):
    """A registered group."""

    name: str
    registered_at: int
    """µs UTC."""
    start: Start


def check_name(group: str) -> None:
    """Return if a group of yours may have that name. Raises ConfigurationError."""
    if not _NAME.fullmatch(group) or group in RESERVED:
        raise ConfigurationError(
            f"{group!r} is no name for a consumer group.",
            remedy="Take 1 to 64 letters, digits, `_`, `.` and `-`; not "
            f"{' or '.join(sorted(RESERVED))}.",
        )


async def register(log: EventLog, group: str, start: Start = "beginning") -> None:
    """Make sure that the log has the group, in every partition; one that it has stays as it is.

    A new group begins with the first entry there is, or with what is appended from now on. From then
    on nothing that it has not handled may be trimmed. Raises ConfigurationError, LogUnavailable.
    """
    check_name(group)
    with in_our_words(log.settings):
        if await log.client.hexists(log.keys.groups(), group):
            return
    heads = await log.heads() if start == "now" else [START] * log.partition_count
    for partition, head in enumerate(heads):
        # Who comes second finds the first one's position, so that both mean the same.
        with in_our_words(log.settings):
            work = log.keys.work(partition, group)
            for field in ("delivered", "hand"):  # nothing is in hand up to there
                await log.client.hsetnx(work, field, str(head))
            stored = await log.client.hget(work, "delivered")
        position = EntryId.parse(stored or str(head))
        await GroupReader(log, group, partition).create(position)
    registration = Registration(group, log.clock.now_us(), start)
    with in_our_words(log.settings):
        text = msgspec.json.encode(registration).decode()
        await log.client.hsetnx(log.keys.groups(), group, text)


async def registrations(log: EventLog) -> list[Registration]:
    """Return the registered groups, by name."""
    with in_our_words(log.settings):
        found = await log.client.hvals(log.keys.groups())
    decoded = (msgspec.json.decode(text, type=Registration) for text in found)
    return sorted(decoded, key=lambda each: each.name)
