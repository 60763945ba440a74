"""What groups remember of entries that are erased: errors may quote them; some may be in hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from consumers.record import decode_record, encode_record
from consumers.registration import registrations
from eventlog.connection import in_our_words
from eventlog.erasure import without_errors
from eventlog.ids import EntryId
from eventlog.log import EventLog
from eventlog.scripts import load_script

PAGE = 500

IsErased = Callable[[EntryId], bool]


async def blank_records(log: EventLog, partition: int, is_erased: IsErased) -> int:
    """Take the texts of errors out of the records of erased entries; return how many had any.

    Attempts, strikes and times stay, so that retrying goes on as it would have.
    """
    replace = load_script("consumers", "replace_records")
    count = 0
    for group in await _groups(log, partition):
        key = log.keys.attempts(partition, group)
        with in_our_words(log.settings):
            async for field, raw in log.client.hscan_iter(key, count=PAGE):
                blank = _blanked(raw) if is_erased(EntryId.parse(field)) else None
                if blank is not None:
                    count += await replace(log.client, [key], [field, raw, blank])
    return count


async def in_hand_count(log: EventLog, partition: int, is_erased: IsErased) -> int:
    """Return how many erased entries groups have pending: a handler may hold them as they were."""
    stream, count = log.keys.stream(partition), 0
    for group in await _groups(log, partition):
        start = "-"
        while True:
            with in_our_words(log.settings):
                try:
                    page: Any = await log.client.xpending_range(stream, group, start, "+", PAGE)
                except ResponseError as error:
                    if not str(error).startswith("NOGROUP"):
                        raise
                    break  # registered, and not made here yet
            count += sum(is_erased(EntryId.parse(item["message_id"])) for item in page)
            if len(page) < PAGE:
                break
            start = "(" + page[-1]["message_id"].decode()
    return count


def _blanked(raw: bytes) -> str | None:
    """Return the record without the texts of its errors; None where it has none."""
    record = decode_record(raw)
    blank = msgspec.structs.replace(record, failures=without_errors(record.failures))
    return None if blank == record else encode_record(blank)


async def _groups(log: EventLog, partition: int) -> set[str]:
    """Return the groups that are registered, and those that the server has besides."""
    names = {each.name for each in await registrations(log)}
    with in_our_words(log.settings):
        try:
            found = await _ask(log, "XINFO GROUPS", log.keys.stream(partition))
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return names
    return names | {each["name"].decode() for each in found}


async def _ask(log: EventLog, *command: Any) -> Any:
    return await log.client.execute_command(*command)
