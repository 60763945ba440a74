"""What a server keeps on its disk beside its memory, and having it written anew without what is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from eventlog.cluster import nodes_of
from eventlog.connection import in_our_words
from eventlog.log import EventLog

POLL_S = 0.1
WAIT_S = 60.0
"""Longer than most servers take; one that takes longer goes on by itself."""

FileState = Literal["none", "rewritten", "started", "refused"]
"""There is no such file; it was written anew; that was still going on; the server did not allow it."""


class ServerFiles(NamedTuple):
    """The server's own files."""

    append_only: FileState
    snapshot: FileState

    @property
    def is_clean(self) -> bool:
        """Whether neither can hold what was deleted before."""
        return {self.append_only, self.snapshot} <= {"none", "rewritten"}


async def rewrite_files(log: EventLog) -> ServerFiles:
    """Return what became of the append-only file and the snapshot, written anew where there is one.

    Of a cluster's primaries the worst that became of any. Replicas have files of their own, which this
    does not reach.
    """
    with in_our_words(log.settings):
        nodes = await nodes_of(log.client)
        done = await asyncio.gather(*(_rewrite(log, node) for node in nodes))
    return ServerFiles(
        max((each.append_only for each in done), key=_WORSE.index),
        max((each.snapshot for each in done), key=_WORSE.index),
    )


_WORSE: list[FileState] = ["none", "rewritten", "started", "refused"]


async def _rewrite(log: EventLog, node: Redis) -> ServerFiles:
    if not (await _facts(node))["aof_enabled"]:
        append_only: FileState = "none"
    else:
        append_only = await _write_anew(log, node, "BGREWRITEAOF", "aof_last_bgrewrite_status")
    if await _has_snapshots(node):
        snapshot = await _write_anew(log, node, "BGSAVE", "rdb_last_bgsave_status")
        return ServerFiles(append_only, snapshot)
    return ServerFiles(append_only, "none")


async def _write_anew(log: EventLog, node: Redis, command: str, status: str) -> FileState:
    # One under way may have begun before what is gone was gone.
    if not await _wait(log, lambda: _is_idle(node)):
        return "started"
    try:
        await node.execute_command(command)
    except ResponseError:
        return "refused"
    if not await _wait(log, lambda: _is_idle(node)):
        return "started"
    return "rewritten" if (await _facts(node))[status] == "ok" else "refused"


async def _has_snapshots(node: Redis) -> bool:
    try:
        return bool((await node.config_get("save")).get("save"))
    except ResponseError:  # a server that does not say
        return bool((await _facts(node)).get("rdb_saves"))


async def _is_idle(node: Redis) -> bool:
    facts = await _facts(node)
    busy = ("rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled")
    return not any(facts[name] for name in busy)


async def _facts(node: Redis) -> dict[str, Any]:
    return dict(await node.info("persistence"))


async def _wait(log: EventLog, is_so: Callable[[], Awaitable[bool]]) -> bool:
    """Return whether it came to be so in time."""
    deadline_s = log.clock.monotonic_s() + WAIT_S
    while not await is_so():
        if log.clock.monotonic_s() >= deadline_s:
            return False
        await log.clock.sleep(POLL_S)
    return True
