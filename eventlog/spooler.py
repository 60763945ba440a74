"""Appends that survive the server's absence: into the spool, and from there into the log, in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from eventlog.batch import Appended, Batch, Outcome, ProducerStamp, Spooled
from eventlog.entity import Advance
from eventlog.errors import AuthenticationFailed, LogUnavailable
from eventlog.logs import get_logger
from eventlog.outage import Outage
from eventlog.partition import partition_of
from eventlog.settings import Durability
from eventlog.spool import Spool
from eventlog.spool_file import Routed, SpoolFile, SpoolLine
from eventlog.store import Store

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
"""Between two attempts to reach the server."""
ADOPT_EVERY_S = 15.0
"""How often a log with nothing to do looks for the spools of processes that died."""

_LEVELS: tuple[Durability, ...] = ("memory", "fsync", "replicated")

_log = get_logger("spool")


class Spooler:
    """A sink whose appends go to the spool where the server is away, and behind what is there.

    A background task drains the spool. Each event carries its id, and each batch the spool's
    position as a producer's: the log knows for good what it has of a spool, so that a crash between
    append and removal doubles nothing, however late the next attempt comes (docs/adr/0013).
    """

    def __init__(
        self,
        inner: Store,
        spool: Spool,
        outage: Outage,
        partition_count: int,
        reach: Callable[[], Awaitable[tuple[Store, int]]] | None = None,
        *,
        attempt_s: float,
    ) -> None:
        """`reach` is awaited until it returns the store and its count, where `inner` is none yet.

        An append that takes longer than `attempt_s` goes to the spool.
        """
        self._attempt_s = attempt_s
        self._inner = inner
        self._spool = spool
        self._outage = outage
        self._partition_count = partition_count
        self._reach = reach
        self._drained_count = 0
        self._closing = asyncio.Event()
        self._work = asyncio.Event()
        self._gate = asyncio.Event()
        self._gate.set()
        self._is_behind = not spool.is_empty or reach is not None
        self._outage.is_held = self._is_behind
        self._idle = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    @property
    def is_behind(self) -> bool:
        """Whether appends go to the spool, because the server is away or not all is drained."""
        return self._is_behind

    async def caught_up(self) -> None:
        """Return when what dead processes left is in the log, or the server is away."""
        await self._idle.wait()

    # --- appending

    async def append(
        self, partition: int, batch: Batch, durability: Durability
    ) -> Outcome | Spooled:
        """Return what became of the batch; a conditional one or a producer's never spools."""
        if batch.producer:
            return await self._inner.append(partition, batch, durability)
        if batch.is_conditional:
            self._refuse_to_overtake()
            return await self._inner.append(partition, batch, durability)
        await self._gate.wait()
        if not self._is_behind and not self._outage.is_away:
            try:
                # A server that hangs costs one time-out, not one for each time the store tries.
                async with asyncio.timeout(self._attempt_s):
                    return await self._inner.append(partition, batch, durability)
            except TimeoutError:
                self._outage.failed("append", LogUnavailable("the server does not answer."))
            except LogUnavailable as error:
                if isinstance(error, AuthenticationFailed):
                    raise
        return await self.append_behind(batch, durability)

    async def append_behind(self, batch: Batch, durability: Durability) -> Spooled:
        """Put the batch into the spool."""
        self._is_behind = self._outage.is_held = True
        self._work.set()
        return await self._spool.append(batch, durability)

    def _refuse_to_overtake(self) -> None:
        if self._is_behind:
            raise LogUnavailable(
                "events from before still wait in the spool, and what depends on a version cannot.",
                remedy="Try again in a moment: `log.is_degraded` says when all is as before.",
            )

    # --- draining

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._drain()
                pause_s = FIRST_PAUSE_S
                self._idle.set()
                if self._closing.is_set():
                    return
                await self._until(self._work, ADOPT_EVERY_S)
                self._work.clear()
                await asyncio.to_thread(self._spool.adopt)
                continue
            except LogUnavailable as error:
                await self._pause(pause_s, error, is_news=False)
            except Exception as error:  # noqa: BLE001 - without this task nothing leaves the spool
                await self._pause(pause_s, error, is_news=True)
            if self._closing.is_set():
                return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _pause(self, pause_s: float, error: Exception, *, is_news: bool) -> None:
        if is_news:  # not the server's absence, of which its store tells itself
            _log.error("spool_stuck", error=str(error), folder=str(self._spool.folder))
        self._idle.set()
        if not self._closing.is_set():
            await self._until(self._closing, pause_s)

    async def _until(self, event: asyncio.Event, limit_s: float) -> None:
        """Return when the event is set or the time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await event.wait()

    async def _drain(self) -> None:
        """Return when all that was spooled is in the log and appends go there again."""
        if self._reach is not None:
            self._inner, self._partition_count = await self._reach()
            self._reach = None
        try:
            while True:
                found = await self._spool.next_page()
                if found is not None:
                    file, page = found
                    await self._send(file, page.lines)
                    file.drained(page)
                    self._drained_count += len(page.lines)
                elif self._spool.is_written_to:
                    # Newcomers are held back for one page, or this would not end under load.
                    self._gate.clear()
                    await self._spool.settled()
                else:
                    self._hand_over()
                    return
        finally:
            self._gate.set()

    def _hand_over(self) -> None:
        self._spool.clear()
        self._is_behind = False
        drained_count, self._drained_count = self._drained_count, 0
        if drained_count:
            _log.info("spool_drained", event_count=drained_count)
        self._outage.is_held = False
        if not self._outage.is_away or drained_count:
            self._outage.ended(drained_count)

    async def _send(self, file: SpoolFile, lines: list[SpoolLine]) -> None:
        """Append a page, each partition's share in one step. Raises where one failed."""
        shares = deal_lines(lines, self._partition_count)
        sends = [self._send_share(file, partition, share) for partition, share in shares.items()]
        for outcome in await asyncio.gather(*sends, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _send_share(self, file: SpoolFile, partition: int, share: Share) -> None:
        outcome = await self._inner.append(partition, share.batch(file.name), share.durability)
        assert isinstance(outcome, Appended)

    def abandon(self) -> None:
        """Leave all to the next owner: the loop that this ran in has ended, or is another process's."""
        with contextlib.suppress(RuntimeError):  # who waits there cannot be woken any more
            self._closing.set()
            self._work.set()
        self._spool.abandon()

    async def close(self) -> None:
        """Drain what can be drained now, leave the rest on the disk."""
        self._closing.set()
        self._work.set()
        await asyncio.wait([self._task])
        await self._spool.settled()
        left_count = await asyncio.to_thread(self._spool.close)
        if left_count:
            _log.warning("spool_left", event_count=left_count, folder=str(self._spool.folder))


class Share(NamedTuple):
    """One partition's lines of a page, with their event ids."""

    lines: list[SpoolLine]
    ids: list[str]

    @property
    def durability(self) -> Durability:
        """The most that one of them was promised."""
        return max((line.durability for line in self.lines), key=_LEVELS.index)

    def batch(self, name: str) -> Batch:
        """Return them as one step, numbered by the spool of that name. An id is in it once."""
        kept: dict[str, SpoolLine] = {}
        for event_id, line in zip(self.ids, self.lines, strict=True):
            kept.setdefault(event_id, line)
        positions = [line.n for line in kept.values()]
        entities = [
            Advance(i, line.entity, line.mark)
            for i, line in enumerate(kept.values())
            if line.entity
        ]
        return Batch(
            [bytes(line.event).decode() for line in kept.values()],
            list(kept),
            entities,
            # Equal range of one spool, equal batch; 0 since what came before has been confirmed.
            producer=ProducerStamp(name, f"{positions[0]}-{positions[-1]}", 0, positions),
        )


def deal_lines(lines: list[SpoolLine], partition_count: int) -> dict[int, Share]:
    """Return the lines by partition, each in order."""
    dealt: defaultdict[int, Share] = defaultdict(lambda: Share([], []))
    for line in lines:
        routed = msgspec.json.decode(line.event, type=Routed)
        share = dealt[partition_of(routed.conversation, partition_count)]
        share.lines.append(line)
        share.ids.append(routed.id)
    return dict(dealt)
