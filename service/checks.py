"""What `eventlog doctor` looks at: each by itself, so that one that fails hides no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from analytics.bucket import BucketStorage
from analytics.catalogue import Catalogue
from analytics.opening import storage_of
from analytics.sealing import broken_seal
from analytics.storage import Storage
from consumers.groups import groups
from consumers.registration import RESERVED
from eventlog.cluster import nodes_of
from eventlog.connection import in_our_words, parse_server, require_fit
from eventlog.errors import EventLogError, UnsafeEviction, UnsupportedServer
from eventlog.log import EventLog
from eventlog.sentinel import SentinelClient
from eventlog.settings import Settings, mask_url
from projections.projecting.projector import Projector
from service.acl import commands_of
from service.judging import (
    Files,
    Finding,
    judge_archive,
    judge_bucket,
    judge_clock,
    judge_durability,
    judge_eviction,
    judge_groups,
    judge_memory,
    judge_persistence,
    judge_projector,
    judge_retention,
    judge_rights,
    judge_sandbox,
    judge_servers,
    judge_spool,
    worst,
)
from service.wiring import new_archiver, new_retention

T = TypeVar("T")

Look = Callable[[EventLog], Awaitable[Finding]]

SEALS_LOOKED_AT = 1000
"""The newest files: the seal of each end is read, some 50 µs."""

MOST_ARGUMENTS = 5


async def examine(log: EventLog) -> list[Finding]:
    """Return the findings on the server, the workers and the archive, in the order of `LOOKS`."""
    return list(await asyncio.gather(*(_guarded(name, look, log) for name, look in LOOKS.items())))


async def examine_without(settings: Settings, error: EventLogError) -> list[Finding]:
    """Return what can be said where the log could not be opened, for this reason."""

    async def files() -> Finding:
        there = await asyncio.to_thread(_look_at_files, storage_of(settings))
        return judge_archive([], there)

    return [
        Finding("server", "act", error.message, error.remedy),
        await _caught("archive", files()),
        judge_sandbox(),
    ]


async def _guarded(name: str, look: Look, log: EventLog) -> Finding:
    return await _caught(name, look(log))


async def _caught(name: str, looking: Awaitable[Finding]) -> Finding:
    """Return the finding, or that there could be none and why."""
    try:
        return await looking
    except EventLogError as error:
        return Finding(name, "act", f"could not be looked at: {error.message}", error.remedy)
    except Exception as error:  # noqa: BLE001 - a bug in one look must not hide what others found
        reason = mask_url(f"{type(error).__name__}: {error}")
        return Finding(name, "look", f"could not be looked at: {reason}", "Please report this.")


# --- the server


async def _each_node(log: EventLog, look: Callable[[Redis], Awaitable[T]]) -> dict[str, T]:
    """Return what a look finds on each primary, by its address; one alone has none to tell."""
    with in_our_words(log.settings):
        nodes = {_name_of(node): node for node in await nodes_of(log.client)}
        return {name: await look(node) for name, node in nodes.items()}


def _name_of(node: Redis) -> str:
    where = node.get_connection_kwargs()
    return f"{where.get('host', '')}:{where.get('port', '')}"


async def _info(log: EventLog) -> dict[str, Any]:
    with in_our_words(log.settings):
        info: dict[str, Any] = await log.client.info()
    return info


async def _replica_count(node: Redis) -> int:
    return int((await node.info("replication")).get("connected_slaves", 0))


async def _config(log: EventLog, name: str) -> str | None:
    """Return an option of the server, None where it tells us nothing: CONFIG is often forbidden."""
    with in_our_words(log.settings), suppress(ResponseError):
        value = (await log.client.config_get(name)).get(name)
        return None if value is None else str(value)
    return None


async def _look_at_server(log: EventLog) -> Finding:
    server = parse_server(await _info(log))
    version = f"{server.name} {'.'.join(map(str, server.version))}"
    try:
        require_fit(server)
    except UnsafeEviction:
        pass  # another check's
    except UnsupportedServer as error:
        return Finding("server", "act", error.message, error.remedy)
    replicas = await _each_node(log, _replica_count)
    needs_replicas = len(replicas) > 1 or isinstance(log.client, SentinelClient)
    return judge_servers(version, replicas, needs_replicas=needs_replicas)


async def _look_at_eviction(log: EventLog) -> Finding:
    policy = parse_server(await _info(log)).eviction_policy
    if policy == "unknown":
        policy = await _config(log, "maxmemory-policy") or policy
    return judge_eviction(policy)


async def _look_at_persistence(log: EventLog) -> Finding:
    async def look(node: Redis) -> Finding:
        return judge_persistence(await node.info())

    return worst(await _each_node(log, look))


async def _look_at_durability(log: EventLog) -> Finding:
    appendfsync = await _config(log, "appendfsync")

    async def look(node: Redis) -> Finding:
        info: dict[str, Any] = await node.info()
        return judge_durability(log.settings.durability, parse_server(info), info, appendfsync)

    return worst(await _each_node(log, look))


async def _look_at_memory(log: EventLog) -> Finding:
    async def look(node: Redis) -> Finding:
        info: dict[str, Any] = await node.info()
        return judge_memory(int(info.get("used_memory", 0)), int(info.get("maxmemory", 0)))

    return worst(await _each_node(log, look))


async def _look_at_clock(log: EventLog) -> Finding:
    async def look(node: Redis) -> Finding:
        await node.ping()  # connected, so that the way there counts once
        before_us = log.clock.now_us()
        seconds, microseconds = await node.time()
        after_us = log.clock.now_us()
        skew_us = seconds * 1_000_000 + microseconds - (before_us + after_us) // 2
        return judge_clock(skew_us / 1000)

    return worst(await _each_node(log, look))


async def _look_at_rights(log: EventLog) -> Finding:
    try:
        user: str | None = str(await log.client.acl_whoami())
        missing = await _missing(log, str(user))
    except NoPermissionError:
        user, missing = None, []
    except RedisError:
        with in_our_words(log.settings):
            raise
    return judge_rights(user, missing, is_guarded=_is_guarded(log.settings))


async def _missing(log: EventLog, user: str) -> list[str]:
    """Return the commands of a worker that a user may not run; [] where nobody tells us.

    Each is asked about with every number of arguments up to five, as one that has too few or too many
    is refused for that alone.
    """
    names = commands_of("worker")
    pipeline = log.client.pipeline(transaction=False)
    for name in names:
        for count in range(MOST_ARGUMENTS + 1):
            words = *name.split("|"), *[log.keys.stream(0)] * count
            pipeline.execute_command("ACL", "DRYRUN", user, *words)
    replies = await pipeline.execute(raise_on_error=False)
    each = MOST_ARGUMENTS + 1
    return [
        name
        for i, name in enumerate(names)
        if any(
            isinstance(reply, bytes) and b"permissions to run" in reply
            for reply in replies[i * each : (i + 1) * each]
        )
    ]


def _is_guarded(settings: Settings) -> bool:
    if settings.url is None or settings.password:
        return True
    address = urlsplit(settings.url)
    is_near = address.scheme == "unix" or address.hostname in ("localhost", "127.0.0.1", "::1")
    return is_near or address.password is not None or "password=" in address.query


# --- work and archive


async def _look_at_spool(log: EventLog) -> Finding:
    return judge_spool(await log.spool_counts(), has_spool=log.settings.spool_dir is not None)


async def _look_at_projector(log: EventLog) -> Finding:
    return judge_projector(await Projector(log).status())


async def _look_at_archive(log: EventLog) -> Finding:
    storage = storage_of(log.settings)
    statuses = await new_archiver(log).status()
    finding = judge_archive(statuses, await asyncio.to_thread(_look_at_files, storage))
    if not isinstance(storage, BucketStorage):
        return finding
    return judge_bucket(finding, await asyncio.to_thread(storage.enforces_absence))


def _look_at_files(storage: Storage) -> Files:
    by_partition = Catalogue(storage).scan()
    coverages = by_partition.values()
    found = Files(
        overlap_count=sum(len(coverage.overlaps) for coverage in coverages),
        gapped=[partition for partition, coverage in by_partition.items() if coverage.gaps],
        read_count=sum(len(coverage.chosen) for coverage in coverages),
    )
    if isinstance(storage, BucketStorage):  # each would be fetched whole
        return found
    chosen = sorted(
        (segment for coverage in coverages for segment in coverage.chosen),
        key=lambda segment: segment.end.ms,
        reverse=True,
    )
    damaged = []
    for segment in chosen[:SEALS_LOOKED_AT]:
        with suppress(FileNotFoundError):  # compacted meanwhile
            if broken_seal(storage.path(segment), is_whole=False):
                damaged.append(segment.name)
    return found._replace(damaged=damaged)


async def _look_at_sandbox(_log: EventLog) -> Finding:
    return judge_sandbox()


async def _look_at_groups(log: EventLog) -> Finding:
    return judge_groups([each for each in await groups(log) if each.name not in RESERVED])


async def _look_at_retention(log: EventLog) -> Finding:
    return judge_retention(await new_retention(log).plan())


LOOKS: dict[str, Look] = {
    "server": _look_at_server,
    "eviction": _look_at_eviction,
    "persistence": _look_at_persistence,
    "durability": _look_at_durability,
    "memory": _look_at_memory,
    "clock": _look_at_clock,
    "rights": _look_at_rights,
    "spool": _look_at_spool,
    "read models": _look_at_projector,
    "archive": _look_at_archive,
    "sandbox": _look_at_sandbox,
    "groups": _look_at_groups,
    "retention": _look_at_retention,
}
