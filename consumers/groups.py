"""Care of consumer groups: what there is, and taking out what nobody needs."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.exceptions import ResponseError

from consumers.group_status import GroupStatus, group_status
from consumers.registration import RESERVED, registrations
from eventlog.connection import in_our_words
from eventlog.errors import ConfigurationError, GroupInUse, GroupMissing, InvalidEvent
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.vocabulary import GroupRetired

GROUPS_CONVERSATION = "eventlog:groups"
"""Where it is recorded what became of groups."""

DELETED_AT_ONCE = 500

_log = get_logger("groups")


async def groups(log: EventLog) -> list[GroupStatus]:
    """Return every group of the log by name: those registered, and those the server has beside them."""
    names = {each.name for each in await registrations(log)}
    for partition in range(log.partition_count):
        names |= await _on_server(log, partition)
    return list(await asyncio.gather(*(group_status(log, name) for name in sorted(names))))


async def retire(log: EventLog, group: str, reason: str) -> GroupStatus:
    """Remove a group for good, and record who was left with what; return what it was.

    What it has not handled is nobody's any more: nothing of it is kept for the group's sake. A group
    of the same name that is registered later is a new one. Raises GroupMissing, GroupInUse while it
    has live workers, ConfigurationError for a group of the product's own, InvalidEvent for a blank
    reason.
    """
    if group in RESERVED:
        raise ConfigurationError(f"group {group!r} is the product's own and cannot be retired.")
    if not reason.strip():
        raise InvalidEvent("a group is retired without a reason.", remedy="Say why, for later.")
    status = await group_status(log, group)
    is_registered = any(each.name == group for each in await registrations(log))
    if not is_registered and all(each.is_missing for each in status.partitions):
        raise GroupMissing(f"there is no group {group!r}.", remedy="`eventlog groups` lists them.")
    if status.members:
        raise GroupInUse(
            f"group {group!r} has live workers: {', '.join(status.members)}.",
            remedy="Stop them first; one that was killed counts as live for a few seconds.",
        )
    await log.append(
        GroupRetired(
            conversation=GROUPS_CONVERSATION,
            occurred_at=log.clock.now_us(),
            group=group,
            reason=reason.strip(),
            unhandled_count=status.lag_count,
        )
    )
    await forget(log, group)
    _log.info("group_retired", group=group, unhandled=status.lag_count, reason=reason.strip())
    return status


async def forget(log: EventLog, group: str) -> None:
    """Delete all that the server has of a group. It may be called again where it was cut short."""
    for partition in range(log.partition_count):
        blocked = log.keys.blocked(partition, group)
        with in_our_words(log.settings):
            while names := await _ask(log, "ZRANGE", blocked, 0, DELETED_AT_ONCE - 1):
                lines = [log.keys.line(partition, group, name.decode()) for name in names]
                await _ask(log, "UNLINK", *lines)
                await _ask(log, "ZREM", blocked, *names)
            await _ask(log, "UNLINK", log.keys.work(partition, group),
                       log.keys.attempts(partition, group), log.keys.lease(partition, group))  # fmt: skip
            await _destroy(log, partition, group)
    with in_our_words(log.settings):
        await _ask(log, "UNLINK", log.keys.members(group))
        # Last, so that a retirement that was cut short can be asked for again.
        await _ask(log, "HDEL", log.keys.groups(), group)


async def _destroy(log: EventLog, partition: int, group: str) -> None:
    try:
        await _ask(log, "XGROUP", "DESTROY", log.keys.stream(partition), group)
    except ResponseError as error:
        if "requires the key to exist" not in str(error):
            raise


async def _on_server(log: EventLog, partition: int) -> set[str]:
    with in_our_words(log.settings):
        try:
            found = await _ask(log, "XINFO GROUPS", log.keys.stream(partition))
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return set()
    return {each["name"].decode() for each in found}


async def _ask(log: EventLog, *command: Any) -> Any:
    return await log.client.execute_command(*command)
