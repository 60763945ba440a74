"""Which consumer groups a log has: what is registered is waited for, and found again."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from eventlog.connection import in_our_words
from eventlog.errors import ConfigurationError
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.scripts import load_script

Start = Literal["beginning", "now"]

RESERVED = frozenset({"projector", "archiver"})
"""Groups of the product's own."""

_log = get_logger("groups")

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

    A new group begins with the first entry there is, or with what is appended from now on. Where
    entries before the first were trimmed, it does not get them, and a warning says how many. From then
    on nothing that it has not handled may be trimmed. Raises ConfigurationError, LogUnavailable.
    """
    check_name(group)
    with in_our_words(log.settings):
        if await log.client.hexists(log.keys.groups(), group):
            return
    begin = load_script("consumers", "begin_group")
    missing_count = 0
    for partition in range(log.partition_count):
        keys = [
            log.keys.stream(partition),
            log.keys.head(partition),
            log.keys.work(partition, group),
        ]
        with in_our_words(log.settings):
            missing_count += await begin(log.client, keys, [group, start])
    if missing_count:
        _log.warning("group_begins_late", group=group, missing=missing_count)
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
