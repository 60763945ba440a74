"""Peers: other programs doing the same work on the same server, in turn with the log.

Whoever is not installed, or fails, is named with the reason. The work gets an empty server and an
empty folder each time; connecting and preparing is not timed.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from redis.asyncio import Redis

from bench.about import version_of
from bench.events import endless_chat_events
from bench.peers.ours import OURS
from bench.peers.peer import Kind, Peer, Place, Stopwatch, Way
from bench.row import Row, row_of
from eventlog import EventLog, MessageReceived
from eventlog.collector import spared_collector

MODULES = (
    "redis_py",
    "json_lines",
    "popoto_models",
    "walrus_streams",
    "eventsourcing_sqlite",
    "protean_broker",
    "streaq_worker",
    "taskiq_stream",
    "agents_session",
)
ROUNDS = 3
LIMIT_S = 60.0
"""What a peer may take for a round; one that waits for ever is named, too."""
EQUAL_AIM = 5.0
"""Beside a peer that promises the same."""
BATCH_AIM = 1.0
"""In batches, beside one that promises less."""
AIMS = {
    ("redis-py", Kind.BATCH): 1.5,
    ("redis-py", Kind.TASKS): 20.0,
}
"""Where another aim was set."""


ON_DISK = (Kind.ONE_SYNCED, Kind.BATCH_SYNCED)
"""Kinds of work whose every answer says that it is on disk."""


class Absent(NamedTuple):
    """A peer that cannot take part."""

    name: str
    reason: str


def peers(modules: Sequence[str] = MODULES) -> tuple[list[Peer], list[Absent]]:
    """Return who takes part, and who cannot and why."""
    present: list[Peer] = []
    absent: list[Absent] = []
    for module in modules:
        try:
            present.append(import_module(f"bench.peers.{module}").PEER)
        except ImportError as error:
            absent.append(Absent(module, f"{error} (uv run --group peers …)"))
    return present, absent


def aim_of(peer: Peer, kind: Kind) -> float | None:
    """Return the least ratio that we want."""
    if (peer.name, kind) in AIMS:
        return AIMS[peer.name, kind]
    if peer.is_equal:
        return EQUAL_AIM
    return BATCH_AIM if kind in (Kind.BATCH, Kind.BATCH_SYNCED) else None


class Ground:
    """The server and the folder that they share."""

    def __init__(self, client: Redis, place: Place, messages: Sequence[MessageReceived]) -> None:
        self._client = client
        self._place = place
        self._messages = messages

    async def rate_per_s(self, way: Way) -> float:
        """Return messages per second of doing the work once."""
        await self._client.flushdb()
        shutil.rmtree(self._place.folder, ignore_errors=True)
        self._place.folder.mkdir(parents=True)
        count = max(int(len(self._messages) * way.share), min(way.least, len(self._messages)))
        watch = Stopwatch()
        await way.work(self._place, self._messages[:count], watch)
        return count / watch.elapsed_s


async def rows_of(ground: Ground, kind: Kind, present: Sequence[Peer]) -> list[Row]:
    """Return a row for each of our ways beside each peer's; all take turns."""
    theirs = [(peer, peer.ways[kind]) for peer in present if kind in peer.ways]
    ours = OURS[kind]
    our_rates: list[list[float]] = [[] for _ in ours]
    peer_rates: list[list[float]] = [[] for _ in theirs]
    failed: dict[int, Exception] = {}
    for _ in range(ROUNDS):
        for way, rates in zip(ours, our_rates, strict=True):
            rates.append(await ground.rate_per_s(way))
        for index, (_, way) in enumerate(theirs):
            if index in failed:
                continue
            try:
                async with asyncio.timeout(LIMIT_S):
                    peer_rates[index].append(await ground.rate_per_s(way))
            except Exception as error:  # noqa: BLE001 - it is another program's, and is named
                failed[index] = error
    for index, reason in failed.items():
        tell(Absent(theirs[index][0].name, f"{kind}: {reason!r}"))
    return [
        row_of(
            f"{kind}: {way.call}",
            rates,
            f"{peer.name}: {peer_way.call}",
            peer_rates[index],
            aim_of(peer, kind),
        )
        for way, rates in zip(ours, our_rates, strict=True)
        for index, (peer, peer_way) in enumerate(theirs)
        if index not in failed
    ]


def tell(absent: Absent) -> None:
    """Name who does not take part."""
    print(f"  without {absent.name}: {absent.reason}", file=sys.stderr)


async def measure(
    message_count: int, folder: Path, modules: Sequence[str], kinds: Sequence[Kind]
) -> list[Row]:
    """Return the rows of all kinds of work."""
    present, absent = peers(modules)
    for one in absent:
        tell(one)
    for peer in present:
        versions = [f"{each} {version_of(each)}" for each in peer.distributions]
        print(f"  {', '.join(versions) or peer.name}; lacks: {peer.lacks}", file=sys.stderr)
    messages = list(islice(endless_messages(), message_count))
    rows: list[Row] = []
    async with EventLog.open(data_dir=str(folder / "data")) as log:
        socket_path = log.client.connection_pool.connection_kwargs["path"]
        ground = Ground(log.client, Place(socket_path, folder / "theirs"), messages)
        for kind in kinds:
            # Nothing less is a confirmed fsync, and the rest would pay for it.
            syncs = "always" if kind in ON_DISK else "everysec"
            await log.client.config_set("appendfsync", syncs)
            rows += await rows_of(ground, kind, present)
    return rows


def endless_messages() -> Iterator[MessageReceived]:
    """Yield the messages that chats send, and nothing else."""
    return (each for each in endless_chat_events() if isinstance(each, MessageReceived))


def run(
    message_count: int, modules: Sequence[str] = MODULES, kinds: Sequence[Kind] = tuple(Kind)
) -> list[Row]:
    """Return the rows, measured on a server of their own."""
    with spared_collector(), tempfile.TemporaryDirectory(prefix="eventlog-bench-") as folder:
        return asyncio.run(measure(message_count, Path(folder), modules, kinds))
