"""What an acknowledged append survives: `python -m tests.fault.durability [--seconds S] [--rounds N]`.

For each level of durability and each way to lose something, a process appends, one thing is lost under
load, and what was acknowledged is looked for in what is left.

The page cache is lost like this: a library loaded into the server (synced.c, which needs a C compiler)
notes how long the append-only file was when each fdatasync() that succeeded began; the server is killed,
and its file cut to what was noted last. So everything goes that no sync had promised to keep: a real
machine may keep more, and a disk that lies about its syncs less. A busy disk is one whose syncs take
`BUSY_MS` longer.
"""

# ruff: noqa: T201 - a table for whoever runs it

from __future__ import annotations

import argparse
import asyncio
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from eventlog import EventLog, Settings
from eventlog.server_binary import find_server_binary
from eventlog.settings import Durability
from tests.fault.cable import Cable
from tests.fault.journal import records
from tests.fault.processes import StruckProcess
from tests.support import SERVER_BINARY, RawServer, eventually

Loss = Literal["producer", "server", "page cache", "primary", "primary, other replica"]
"""
producer                 `kill -9` of the process that appends
server                   `kill -9` of the server
page cache               the same, and what was not synced goes
primary                  the primary, and what was on its way to the replica, which takes its place
primary, other replica   there are two replicas; the one that lags behind takes its place
"""

BUSY_MS = 1500
"""Less than the 2 s that a server at `everysec` holds writes back for at most."""
CUT_S = 0.3
"""So long before its end the primary is cut off from its replica."""
FEWEST_ACKNOWLEDGED = 200


Policy = Literal["always", "everysec"]

LEVELS: tuple[tuple[Durability, Policy], ...] = (
    ("memory", "everysec"),
    ("memory", "always"),
    ("fsync", "always"),
    ("replicated", "everysec"),
    ("replicated", "always"),
)
"""There is no `fsync` at `everysec`: a server of your own refuses it, the embedded one syncs always
from then on."""

LOSSES: tuple[tuple[Loss, bool], ...] = (
    ("producer", False),
    ("server", False),
    ("server", True),
    ("page cache", False),
    ("primary", False),
)
"""And whether the disk is busy. Each happens to each level."""


class Case(NamedTuple):
    """A level, and what is lost."""

    level: Durability
    policy: Policy
    loss: Loss
    is_busy: bool = False

    @property
    def keeps_all(self) -> bool:
        """Whether docs/explanation.md promises that nothing of it is lost."""
        if self.loss == "primary, other replica":
            return False
        if self.loss == "primary":
            return self.level == "replicated"
        if self.loss == "page cache":
            return self.policy == "always"
        return self.loss == "producer" or self.policy == "always"


class Counts(NamedTuple):
    """What was found in the rounds of a case."""

    acknowledged: int
    lost: int
    seconds: float
    most_lost: int
    """In one round."""

    @property
    def recovered(self) -> int:
        """What was acknowledged and is there."""
        return self.acknowledged - self.lost


def cases() -> list[Case]:
    """Return the table's rows. Pure."""
    each = [Case(*level, *loss) for level in LEVELS for loss in LOSSES]
    return [*each, Case("replicated", "everysec", "primary, other replica")]


async def measure(case: Case, seconds: float, folder: Path) -> Counts:
    """Return what one round of a case found, in an empty folder."""
    settings = Settings(partition_count=2, durability=case.level, max_retries=0)
    async with AsyncExitStack() as stack:
        primary = stack.enter_context(_server(folder / "primary", case))
        cables: list[Cable] = []
        replicas: list[RawServer] = []
        if case.level == "replicated" or case.loss.startswith("primary"):
            for number in range(2 if "other" in case.loss else 1):
                cable = await stack.enter_async_context(Cable(primary.port))
                place = folder / f"replica-{number}"
                quiet = case._replace(is_busy=False)  # it is the primary's disk that is
                replica = stack.enter_context(
                    _server(place, quiet, replicaof=f"127.0.0.1 {cable.port}")
                )
                cables.append(cable)
                replicas.append(replica)
                await eventually(lambda replica=replica: _is_linked(replica), timeout_s=30)
        process = StruckProcess(
            "tests.fault.appending_process", "p", folder, primary.url, "p",
            msgspec.json.encode(settings), str(folder / "p.jsonl"),
        )  # fmt: skip
        stack.callback(process.bury)
        await eventually(lambda: _has_begun(folder), timeout_s=60)
        await asyncio.sleep(seconds)
        left = await _lose(case, primary, replicas, cables, process)
        acknowledged = _acknowledged(folder)
        there = await _found(left, settings)
        lost = len(acknowledged - there)
        return Counts(len(acknowledged), lost, seconds, lost)


def _server(folder: Path, case: Case, **options: str) -> RawServer:
    """Return a server whose syncs are noted, on a port, since replicas come over one."""
    (folder / "synced").mkdir(parents=True)
    library, program = folder / "synced.so", folder / "valkey-server"
    source = Path(__file__).with_name("synced.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    delay = f"SYNCED_DELAY_MS={BUSY_MS} " if case.is_busy else ""
    program.write_text(
        f"#!/bin/sh\n{delay}SYNCED_DIR={folder / 'synced'} LD_PRELOAD={library}"
        f' exec {find_server_binary(SERVER_BINARY)} "$@"\n'
    )
    program.chmod(0o700)
    return RawServer(
        folder,
        tcp=True,
        binary=str(program),
        appendonly="yes",
        appendfsync=case.policy,
        **options,
    )


async def _lose(
    case: Case,
    primary: RawServer,
    replicas: Sequence[RawServer],
    cables: Sequence[Cable],
    process: StruckProcess,
) -> RawServer:
    """Lose what the case says; return the server that is left."""
    if case.loss == "producer":
        process.strike("kill")
        return primary
    if case.loss.startswith("primary"):
        cables[-1].cut()
        await asyncio.sleep(CUT_S)
    await asyncio.to_thread(primary.kill)
    process.strike("kill")
    if case.loss == "page cache":
        _drop_what_was_not_synced(primary.folder)
    if replicas and case.loss.startswith("primary"):
        async with _client(replicas[-1]) as log:
            await log.client.execute_command("REPLICAOF", "NO", "ONE")
        return replicas[-1]
    return await asyncio.to_thread(primary.start)


def _drop_what_was_not_synced(folder: Path) -> None:
    for path in folder.glob("appendonlydir/*.incr.aof"):
        note = folder / "synced" / str(path.stat().st_ino)
        size = struct.unpack("=q", note.read_bytes())[0] if note.exists() else 0
        with path.open("r+b") as file:
            file.truncate(size)


def _client(server: RawServer) -> EventLog:
    return EventLog.open(server.url, settings=Settings())


async def _is_linked(replica: RawServer) -> bool:
    from redis.asyncio import Redis

    async with Redis.from_url(replica.url) as client:
        return bool((await client.info("replication"))["master_link_status"] == "up")


def _has_begun(folder: Path) -> bool:
    return len(_acknowledged(folder)) >= FEWEST_ACKNOWLEDGED // 10


def _acknowledged(folder: Path) -> set[str]:
    path = folder / "p.jsonl"
    if not path.exists():
        return set()
    with path.open() as lines:
        return {record["key"] for _, record in records(lines) if record["what"] == "acknowledged"}


async def _found(server: RawServer, settings: Settings) -> set[str]:
    """Return the ids that a server has."""
    async with EventLog.open(server.url, settings=msgspec.structs.replace(settings)) as log:
        pages = [
            await log.read(partition=partition, limit=10_000_000)
            for partition in range(log.partition_count)
        ]
    return {entry.event.id for page in pages for entry in page}


def table(found: Sequence[tuple[Case, Counts]]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| level | `appendfsync` | what is lost | promised | acknowledged | recovered | lost"
        " | most in a round | per s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case, counts in found:
        loss = f"{case.loss}, on a busy disk" if case.is_busy else case.loss
        promised = "nothing is lost" if case.keeps_all else "may lose"
        lines.append(
            f"| `{case.level}` | {case.policy} | {loss} | {promised} | {counts.acknowledged:,} |"
            f" {counts.recovered:,} | {counts.lost:,} | {counts.most_lost:,} | {counts.acknowledged / counts.seconds:,.0f} |"
        )
    return "\n".join(lines)


async def rounds(case: Case, count: int, seconds: float) -> Counts:
    """Return what all rounds of a case found together."""
    each = []
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            each.append(await measure(case, seconds, Path(folder)))
    return Counts(
        sum(one.acknowledged for one in each),
        sum(one.lost for one in each),
        sum(one.seconds for one in each),
        max(one.lost for one in each),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault.durability", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.5, help="of load, in each round")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args(arguments)
    found = []
    for case in cases():
        counts = asyncio.run(rounds(case, options.rounds, options.seconds))
        found.append((case, counts))
        print(table(found[-1:]).splitlines()[-1], flush=True)
    print(table(found))
    return int(any(counts.lost for case, counts in found if case.keeps_all))


if __name__ == "__main__":
    sys.exit(main())
