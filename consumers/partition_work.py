"""One partition's handling, for as long as its lease is held: fetch, handle, settle."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from consumers.attempt import NOTHING_FOLLOWS, Again, Done, Outcome
from consumers.calling import CancelledFromWithin
from consumers.group_partition import GroupPartition
from consumers.hand_over import line_up_hand, recover
from consumers.intake import Intake
from consumers.line_loading import LineLoader
from consumers.ordering import Item, Order
from consumers.record import NO_RECORD
from consumers.settlement import Settlement
from consumers.special import REPLAY, NothingToReplay, OriginGone
from consumers.work import Work
from eventlog.errors import HistoryGap, VersionConflict
from eventlog.logs import get_logger
from eventlog.tasks import end
from eventlog.vocabulary import DeadLetterReplayRequested

STALE_POLL_S = 0.02
"""How often an owner that may have lost its lease looks whether it still has it."""

HAND_OVER_S = 3.0
"""How long an owner that leaves tries to return what it has in hand; what is left is handed over
as if it had died."""

_log = get_logger("worker")

T = TypeVar("T")


class PartitionWork:
    """The work on one partition.

    Three parts run beside each other: fetching keeps the window filled, runners handle what is
    ready, and settling writes what became of it, one step at a time.
    """

    def __init__(self, work: Work, place: GroupPartition, leaving: asyncio.Event) -> None:
        self._work = work
        self._clock = work.log.clock
        self._partition = place.lease.partition
        self._place = place
        self._leaving = leaving
        self._attempts = work.attempts(self._partition)
        self._order = Order()
        self._outcomes: deque[tuple[Item, Outcome]] = deque()
        self._intake = Intake(work, place, self._order, self._on_arrival)
        self._beginning: list[tuple[Item, asyncio.Future[None]]] = []
        """Entries of lines that are to begin, and who waits for that to be written down."""
        self._lines = LineLoader(work, place, self._order)
        self._runners: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._unwritten: tuple[Settlement, list[Item]] | None = None
        """Sent, but not known to be written: to be sent again before any other."""
        self._expecting: Done | None = None
        """Whose version is checked by what is unwritten."""
        self._fault: BaseException | None = None
        """What a runner did not expect."""
        self._is_calling_off = False
        self._is_over = False

    async def run(self) -> None:
        """Handle entries until told to leave; then let what runs come to its end, and return the rest.

        Raises Fenced, HistoryGap, LogUnavailable; whoever calls again continues exactly there.
        """
        if not await self._has_taken_over():
            return
        settling = asyncio.create_task(self._settle_on())
        fetching = asyncio.create_task(self._intake.run())
        leaving = asyncio.create_task(self._leaving.wait())
        try:
            await asyncio.wait({settling, fetching, leaving}, return_when=asyncio.FIRST_COMPLETED)
            for task in (settling, fetching):
                if task.done():
                    task.result()
            await end(fetching)
            await self._let_runners_end()
            await end(settling)
            async with asyncio.timeout(HAND_OVER_S):  # the server may be away
                await self._return_the_rest()
        except TimeoutError:
            _log.warning("not_handed_over", group=self._work.group, partition=self._partition)
        finally:
            self._is_over = True
            await end(settling, fetching, leaving, *self._runners)
            self._lines.let_go()

    async def _has_taken_over(self) -> bool:
        """Take in what a former owner left; return False where it is time to leave before that is done.

        The server may be away for long, and whoever comes next takes in the same.
        """
        taking_over = asyncio.create_task(self._take_over())
        leaving = asyncio.create_task(self._leaving.wait())
        try:
            await asyncio.wait({taking_over, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if taking_over.done():
                taking_over.result()
                return True
            return False
        finally:
            await end(taking_over, leaving)

    async def _take_over(self) -> None:
        await recover(self._work, self._place)
        for conversation, wait_ms, length in await self._insist(self._place.lines):
            self._order.found(conversation, self._work.now_ms() + wait_ms, length)

    # --- handling ------------------------------------------------------------------------------

    def _start(self) -> None:
        """Start runners for what is ready, as many more as there are now in each turn of the loop.

        A handler that never waits then has one runner do it all, and one that does soon has many.
        """
        if self._leaving.is_set() or self._is_over:
            return
        room = self._work.partition_concurrency - len(self._runners)
        wanted = min(self._order.ready_count, max(1, len(self._runners)), room)
        for _ in range(wanted):
            if not self._work.slots.take(self._place_given):
                return
            self._new_runner()
        if 0 < wanted < min(self._order.ready_count, room):
            asyncio.get_running_loop().call_soon(self._start)

    def _on_arrival(self) -> None:
        self._wake.set()
        self._start()

    def _place_given(self) -> None:
        """A place among the running handlers became ours."""
        has_room = len(self._runners) < self._work.partition_concurrency
        if has_room and self._order.ready_count and not (self._leaving.is_set() or self._is_over):
            self._new_runner()
        else:
            self._work.slots.give_back()

    def _new_runner(self) -> None:
        runner = asyncio.create_task(self._run_entries())
        self._runners.add(runner)
        runner.add_done_callback(self._runner_ended)

    def _runner_ended(self, runner: asyncio.Task[None]) -> None:
        self._runners.discard(runner)
        if not runner.cancelled() and (error := runner.exception()) is not None:
            self._fault = error
        self._work.slots.give_back()
        self._wake.set()

    async def _run_entries(self) -> None:
        """Handle entries while there are any that may begin."""
        while not (self._leaving.is_set() or self._is_over):
            item = self._order.take()
            if item is None:
                return
            if not await self._is_owner():
                return
            outcome = await self._handled(item)
            self._lines.ended(item)
            self._outcomes.append((item, outcome))
            if outcome is NOTHING_FOLLOWS:
                self._order.pass_on(item)
            self._wake.set()
            if self._work.slots.is_wanted:
                return

    async def _is_owner(self) -> bool:
        """Return True while the lease was renewed in time; wait for that, up to the end of the work.

        A process that was paused for longer must not begin anything before it knows that it is not
        fenced.
        """
        while not self._work.is_fresh():
            if self._leaving.is_set() or self._is_over:
                return False
            await self._clock.sleep(STALE_POLL_S)
        return True

    async def _handled(self, item: Item) -> Outcome:
        """Return what follows of an entry, also where the program cancels the handler's task."""
        try:
            if item.in_line and not item.is_begun:
                await self._begin(item)
            return await self._handle(item)
        except asyncio.CancelledError:
            runner = asyncio.current_task()
            if runner is None or self._is_over or self._is_calling_off:
                raise
            while runner.uncancel():
                pass
            if item.handler is REPLAY:
                assert isinstance(item.event, DeadLetterReplayRequested)
                return self._attempts.not_replayed(item.event, CancelledFromWithin())
            subject = self._attempts.subject_of(item)
            return await self._attempts.fail(item, subject, CancelledFromWithin())

    async def _begin(self, item: Item) -> None:
        """Return when it is written down that an attempt at an entry of a line begins."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._beginning.append((item, written))
        self._wake.set()
        await written

    async def _handle(self, item: Item) -> Outcome:
        if item.handler is None:  # it waited in a line, and the program has changed meanwhile
            return NOTHING_FOLLOWS
        if item.handler is REPLAY:
            return await self._replay(item)
        return await self._attempts.make(item, self._attempts.subject_of(item))

    async def _replay(self, item: Item) -> Outcome:
        request = item.event
        assert isinstance(request, DeadLetterReplayRequested)
        try:
            subject = await self._insist(
                lambda: self._work.origins.subject_of(request, self._partition)
            )
        except NothingToReplay:
            _log.info("replay_skipped", letter=request.letter, group=request.group)
            return Done()
        except (OriginGone, HistoryGap) as error:
            return self._attempts.not_replayed(request, error)
        return await self._attempts.make(item, subject)

    # --- settling ------------------------------------------------------------------------------

    async def _settle_on(self) -> None:
        """Write what became of entries, and load lines that are due, as it comes."""
        while True:
            has_written = await self._settle()
            has_loaded = not self._leaving.is_set() and await self._lines.read_due()
            if not (has_written or has_loaded):
                await self._until_woken()

    async def _until_woken(self) -> None:
        """Return when there is something to settle, or when a line is due."""
        due_ms = self._order.next_due_ms()
        if due_ms is None or not self._lines.has_room:
            await self._wake.wait()
        else:
            pause_s = max(0, due_ms - self._work.now_ms()) / 1000
            pause = asyncio.create_task(self._clock.sleep(pause_s))
            waking = asyncio.create_task(self._wake.wait())
            try:
                await asyncio.wait({pause, waking}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await end(pause, waking)
        self._wake.clear()

    async def _settle(self) -> bool:
        """Write one settlement; return whether there was anything to write."""
        if self._fault is not None:
            raise self._fault
        if self._unwritten is None:
            settlement = Settlement(self._work.next_number())
            finished = self._gather(settlement)
            if settlement.is_empty:
                return self._load(settlement)
            self._unwritten = settlement, finished
        settlement, finished = self._unwritten
        unlike = await self._insist(partial(self._place.settle, settlement))
        self._unwritten = None
        if unlike is not None:
            assert self._expecting is not None
            await self._conflict(finished[0], self._expecting, *unlike)
            return True
        for item in finished:
            self._order.finish(item)
        for written in settlement.begun:
            if not written.done():
                written.set_result(None)
        self._load(settlement)
        self._work.on_settled(self._partition, settlement.ack_count)
        self._intake.made_room()
        self._start()
        return True

    def _load(self, settlement: Settlement) -> bool:
        """Take in the lines that were read for it; return whether there were any."""
        for conversation, items in settlement.loads:
            self._order.load(conversation, items)
        if settlement.loads:
            self._start()
        return bool(settlement.loads)

    def _gather(self, settlement: Settlement) -> list[Item]:
        """Fill the settlement; return the entries that are finished when it is written."""
        hand = self._place.hand
        finished: list[Item] = []
        while self._outcomes and not settlement.is_full:
            item, outcome = self._outcomes[0]
            expected = outcome.expected if isinstance(outcome, Done) else ()
            if not settlement.has_room_for(outcome.results, expected):
                return finished
            self._outcomes.popleft()
            if isinstance(outcome, Again):
                self._put_off(settlement, item, outcome)
                continue
            settlement.acknowledge(item, outcome.results)
            hand.pop(item.id, None)
            finished.append(item)
            if expected:
                settlement.expected, self._expecting = expected, outcome
                return finished
        for item, written in self._beginning:
            if not written.done():  # whoever wanted to begin may have been called off
                item.is_begun, item.record = True, (item.record or NO_RECORD).begun()
                settlement.remember(item.id, item.record)
                settlement.begun.append(written)
        self._beginning.clear()
        self._intake.settle_into(settlement)
        self._lines.settle_into(settlement)
        return finished

    def _put_off(self, settlement: Settlement, item: Item, outcome: Again) -> None:
        """Have the conversation wait for another attempt at its first entry."""
        self._line_up(settlement, item, outcome.wait_ms)
        settlement.remember(item.id, outcome.record)
        settlement.append(outcome.results)

    def _line_up(self, settlement: Settlement, first: Item, wait_ms: int) -> None:
        """Put a conversation's entries here into its line; what was to begin has not."""
        fresh = []
        for item in self._order.block(first, self._work.now_ms() + wait_ms):
            if not item.in_line:
                fresh.append(item.id)
                self._place.hand.pop(item.id, None)
            elif item.is_begun and item.record is not None:
                settlement.remember(item.id, item.record.returned())
        settlement.line_up(first.conversation, front=fresh, wait_ms=wait_ms)

    async def _conflict(self, item: Item, outcome: Done, entity: str, version: int) -> None:
        """Make a version that was not as expected the failure of the attempt."""
        if not item.in_line:
            self._place.hand.put_back(item.id)
        following: Outcome = Done()
        if entity == item.event.entity and item.handler is REPLAY:
            # Somebody settled the letter while it was replayed: theirs is the last word.
            _log.warning("replay_overtaken", letter=entity, group=self._work.group)
        else:
            assert outcome.subject is not None
            error = VersionConflict(entity, dict(outcome.expected)[entity], version)
            following = await self._attempts.fail(item, outcome.subject, error)
        self._outcomes.appendleft((item, following))

    # --- the end -------------------------------------------------------------------------------

    async def _let_runners_end(self) -> None:
        """Wait for what runs, and call off what takes too long."""
        if self._runners:
            await asyncio.wait(self._runners, timeout=self._work.stop_timeout_s)
        if self._runners:
            _log.warning(
                "handlers_called_off",
                group=self._work.group,
                partition=self._partition,
                count=len(self._runners),
            )
        self._is_calling_off = True
        await end(*self._runners)

    async def _return_the_rest(self) -> None:
        """Write what is to be written, and put what did not begin into lines, without a strike."""
        while await self._settle():
            pass
        settlement = Settlement(self._work.next_number())
        for item in self._order.firsts():
            self._line_up(settlement, item, 0)
        if not settlement.is_empty:
            await self._insist(partial(self._place.settle, settlement))
        await line_up_hand(self._work, self._place, is_doubtful=False)

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        return await self._work.insist(self._partition, call)
