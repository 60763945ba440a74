"""Everything that a run starts: the server, the way to it, the processes; and how they are struck."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from redis import Redis
from redis.exceptions import RedisError

from eventlog import Settings
from tests.fault.processes import StruckProcess
from tests.fault.whole import disk
from tests.fault.whole.job import Job, set_offset
from tests.fault.whole.plan import LINK_FAULTS, Fault, Plan, Role, Strike, schedule
from tests.proxy import FaultyProxy
from tests.support import RawServer, eventually

TELL_EVERY_S = 30
ROOM_BYTES = 3000
"""What the server may still write when its disk is filling."""
FILERS: frozenset[Role] = frozenset({"archiver", "compactor"})
"""Who writes the archive's files."""
TINY_BYTES = 2048
"""Smaller than any segment."""


class Slot:
    """A place of the fleet: one process after the other has its role and name."""

    def __init__(self, job: Job, *, is_linked: bool) -> None:
        self.job = job
        self.is_linked = is_linked
        """Whether it reaches the server over the faulty link."""
        self.processes: list[StruckProcess] = []
        set_offset(Path(job.folder), job.name, 0)

    @property
    def process(self) -> StruckProcess:
        return self.processes[-1]

    def start(self) -> None:
        text, folder = msgspec.json.encode(self.job), Path(self.job.folder)
        module = "tests.fault.whole.process"
        self.processes.append(StruckProcess(module, self.job.name, folder, text))


class World:
    """A server and its fleet, and the faults of a plan."""

    def __init__(self, plan: Plan, folder: Path, server: RawServer, link: FaultyProxy) -> None:
        self.plan = plan
        self.folder = folder
        self.server = server
        self.link = link
        self.counts: Counter[Fault] = Counter()
        self._server_turn = asyncio.Lock()
        """One fault of the server at a time; a start may take longer than was planned for."""
        self.settings: Settings = msgspec.structs.replace(
            plan.settings, archive_dir=str(folder / "archive")
        )
        self._link_kinds: Counter[str] = Counter()
        numbers: Counter[Role] = Counter()
        self.slots: list[Slot] = []
        for place, role in enumerate(plan.roles):
            numbers[role] += 1
            is_linked = (place + plan.seed) % 2 == 0 and any(
                fault in LINK_FAULTS for fault in plan.faults
            )
            job = Job(
                role=role,
                name=f"{role}-{numbers[role]}",
                url=link.url if is_linked else server.url,
                folder=str(folder),
                settings=self.settings,
                seed=plan.seed,
                events_per_s=plan.events_per_s,
                round_s=plan.round_s,
                rest_s=plan.rest_s,
                broken=plan.broken,
            )
            self.slots.append(Slot(job, is_linked=is_linked))

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Start everybody; nothing of them is left afterwards."""
        try:
            for slot in self.slots:
                slot.start()
            yield
        finally:
            for slot in self.slots:
                for process in slot.processes:
                    process.bury()

    # --- faults -----------------------------------------------------------------------------------

    async def suffer(self, tell: Callable[[str], None]) -> None:
        """Return when all faults of the plan have come, and are over; tell of it every half a minute."""
        started_s = time.monotonic()
        tell_at_s = TELL_EVERY_S
        async with asyncio.TaskGroup() as faults:
            for strike in schedule(self.plan):
                await asyncio.sleep(max(0, started_s + strike.at_s - time.monotonic()))
                self.counts[strike.kind] += 1
                if strike.at_s >= tell_at_s:
                    tell(
                        f"{strike.at_s:.0f} of {self.plan.seconds:.0f} s, {self.counts.total()} faults"
                    )
                    tell_at_s += TELL_EVERY_S
                faults.create_task(self._strike(strike))
        await asyncio.sleep(max(0, started_s + self.plan.seconds - time.monotonic()))

    async def _strike(self, strike: Strike) -> None:
        match strike.kind:
            case "drop" | "delay" | "duplicate" | "cut":
                await self._disturb(strike)
            case "kill" | "pause":
                await self._strike_process(strike)
            case "disk-archive":
                await self._fill_archive(strike)
            case "clock":
                await self._shift_clock(strike)
            case _:
                async with self._server_turn:
                    await self._strike_server(strike)

    async def _strike_server(self, strike: Strike) -> None:
        match strike.kind:
            case "server-always":
                await self._restart_server(strike, "always")
            case "server-everysec":
                await self._restart_server(strike, "everysec")
            case "disk-server":
                await self._fill_server(strike)
            case "memory":
                await self._exhaust_memory(strike)

    async def _disturb(self, strike: Strike) -> None:
        kinds = LINK_FAULTS[strike.kind]
        self._link_kinds.update(kinds)
        self.link.arm([kind for kind in self._link_kinds if self._link_kinds[kind]])
        await asyncio.sleep(strike.lasts_s)
        self._link_kinds.subtract(kinds)
        self.link.arm([kind for kind in self._link_kinds if self._link_kinds[kind]])

    async def _strike_process(self, strike: Strike) -> None:
        sound = [slot for slot in self.slots if not slot.process.struck]
        if not sound:
            return
        slot = sound[strike.draw % len(sound)]
        process = slot.process
        if strike.kind == "kill":
            process.strike("kill")
            slot.start()
            return
        process.strike("pause")
        await asyncio.sleep(strike.lasts_s)
        process.wake()

    async def _restart_server(self, strike: Strike, policy: str) -> None:
        await asyncio.to_thread(self._configure, appendfsync=policy)
        if policy == "everysec":
            await asyncio.sleep(1.1)  # a server that syncs each second has begun to
            await eventually(self._holds_nothing_back)
        await asyncio.to_thread(self.server.kill)
        await asyncio.sleep(strike.lasts_s)
        await asyncio.to_thread(self.server.start)

    async def _fill_archive(self, strike: Strike) -> None:
        pids = [slot.process.pid for slot in self.slots if slot.job.role in FILERS]
        for pid in pids:
            disk.fill(pid, TINY_BYTES)
        await asyncio.sleep(strike.lasts_s)
        for pid in pids:
            with suppress(ProcessLookupError):  # it was killed meanwhile
                disk.free(pid)

    async def _fill_server(self, strike: Strike) -> None:
        """Fill the server's disk. One that syncs always ends by itself then, and is started again."""
        disk.fill(self.server.pid, disk.appended_bytes(self.folder) + ROOM_BYTES)
        await asyncio.sleep(strike.lasts_s)
        if self.server.is_running:
            disk.free(self.server.pid)
            await eventually(self._writes, timeout_s=20)
        else:
            await asyncio.to_thread(self.server.start)

    async def _exhaust_memory(self, strike: Strike) -> None:
        used = (await asyncio.to_thread(self._info, "memory"))["used_memory"]
        await asyncio.to_thread(self._configure, maxmemory=used)
        await asyncio.sleep(strike.lasts_s)
        await asyncio.to_thread(self._configure, maxmemory=0)

    async def _shift_clock(self, strike: Strike) -> None:
        slot = self.slots[strike.draw % len(self.slots)]
        set_offset(self.folder, slot.job.name, strike.jump_s * 1_000_000)
        await asyncio.sleep(strike.lasts_s)
        set_offset(self.folder, slot.job.name, 0)

    # --- the server -------------------------------------------------------------------------------

    def _client(self) -> Redis:
        return Redis.from_url(self.server.url, socket_timeout=5)

    def _configure(self, **options: Any) -> None:
        with contextlib.closing(self._client()) as client:
            for name, value in options.items():
                client.config_set(name, value)

    def _info(self, section: str) -> dict[str, Any]:
        with contextlib.closing(self._client()) as client:
            found: dict[str, Any] = client.info(section)
            return found

    def _holds_nothing_back(self) -> bool:
        """Return whether no sync is under way, behind which a server would hold writes back."""
        return not self._info("persistence")["aof_pending_bio_fsync"]

    def _writes(self) -> bool:
        try:
            return bool(self._info("persistence")["aof_last_write_status"] == "ok")
        except RedisError:
            return False

    # --- the end ----------------------------------------------------------------------------------

    def calm(self) -> None:
        """End every fault; have nobody append any more."""
        self.link.arm([])
        for slot in self.slots:
            slot.process.wake()
            set_offset(self.folder, slot.job.name, 0)
        (self.folder / "done").touch()

    def crashes(self) -> list[str]:
        """Return what was said by processes that ended without being told to."""
        found = []
        for slot in self.slots:
            for process in slot.processes:
                try:
                    process.has_ended()
                except AssertionError as error:
                    found.append(str(error)[-3000:])
        return found

    async def release_all(self) -> list[str]:
        """Return when everybody has ended; what is wrong with how they did, in words.

        They take their leave of the server over the link, which this loop keeps going.
        """
        for slot in self.slots:
            slot.process.strike("release")
        try:
            await eventually(self._have_ended, timeout_s=30)
        except AssertionError as error:
            late = [slot for slot in self.slots if slot.process.is_running]
            return [
                f"did not end in order: {str(error)[-3000:]}",
                *(
                    f"{slot.job.name} is still there: {slot.process.said()[-1500:]}"
                    for slot in late
                ),
            ]
        return []

    def _have_ended(self) -> bool:
        return all(process.has_ended() for slot in self.slots for process in slot.processes)
