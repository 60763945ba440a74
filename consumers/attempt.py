"""One attempt at an entry: from the handler's call to what follows of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from consumers.calling import call
from consumers.context import Context, Result
from consumers.handler import Failure, Handler
from consumers.letters import BRIEF_ERROR, not_replayed, parked, resolved
from consumers.ordering import Item
from consumers.patience import insist
from consumers.record import NO_RECORD, Record
from consumers.retry import Verdict, reason_of
from consumers.telling import told
from consumers.time_limit import TimeLimits
from eventlog.errors import AttemptFailed, InvalidEvent
from eventlog.event import Event
from eventlog.ids import START, EntryId
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.vocabulary import DeadLetterParked, DeadLetterReplayRequested, FailedAttempt

WORKER_DIED = "worker_died"
"""The reason of a letter whose handler was begun too often without an end."""


_log = get_logger("worker")


class Subject(NamedTuple):
    """What a handler is called with; of a replayed letter, its origin."""

    event: Event
    id: EntryId
    handler: Handler
    replay: DeadLetterReplayRequested | None = None
    """What asked for it; None for an entry that is handled in its turn."""


class Done(NamedTuple):
    """The entry is done with, for good or as a dead letter."""

    results: Sequence[Result] = ()
    expected: Sequence[tuple[str, int]] = ()
    """Entities and the versions that they must have when this is written."""
    subject: Subject | None = None
    """What was handled, where a version is expected."""


class Again(NamedTuple):
    """The entry is to be tried again."""

    wait_ms: int
    record: Record
    results: Sequence[Result] = ()


Outcome = Done | Again

NOTHING_FOLLOWS = Done()
"""The entry was handled without results."""


class Attempts:
    """Makes the attempts of one group in one partition."""

    def __init__(
        self,
        log: EventLog,
        group: str,
        partition: int,
        *,
        max_strikes: int,
        limits: TimeLimits,
        rnd: random.Random,
    ) -> None:
        self._log = log
        self._group = group
        self._partition = partition
        self._max_strikes = max_strikes
        self._limits = limits
        self._rnd = rnd

    def subject_of(self, item: Item) -> Subject:
        """Return what an entry's own handler is called with."""
        assert item.handler is not None
        return Subject(item.event, item.id, item.handler)

    async def make(self, item: Item, subject: Subject) -> Outcome:
        """Return what follows of an attempt. Raises nothing but a cancellation from outside."""
        record = item.record or NO_RECORD
        if record.strikes > self._max_strikes:
            begun = record.strikes - 1
            died = AttemptFailed(
                f"its handler was begun {begun} times after it was taken over, and no end of that could "
                "be settled: it killed its process, or was paused with it.",
                permanent=True,
            )
            return await self.fail(item, subject, died, WORKER_DIED)
        context = self._context(item, subject)
        try:
            await call(subject.handler, context, self._limits)
            context.end()
            if subject.replay is not None:
                context.add(resolved(subject.replay, self._log.clock.now_us()))
        except Exception as error:  # noqa: BLE001 - foreign code: its error is the attempt's failure
            return await self.fail(item, subject, error)
        results = await self._written_elsewhere(context.results)
        expected = [*context.expected, *self._expected(subject)]
        if not results and not expected:
            return NOTHING_FOLLOWS
        return Done(results, expected, subject)

    async def fail(
        self, item: Item, subject: Subject, error: Exception, reason: str | None = None
    ) -> Outcome:
        """Return what follows of a failed attempt: another one, or a dead letter."""
        outcome = self._fail(item, subject, error, reason)
        return outcome._replace(results=await self._written_elsewhere(outcome.results))

    def _context(self, item: Item, subject: Subject) -> Context:
        before = subject.replay.attempts if subject.replay else 0
        attempt = before + (item.record.attempts if item.record else 0) + 1
        return Context(self._log, self._group, self._partition, subject.id, subject.event, attempt)

    def _fail(self, item: Item, subject: Subject, error: Exception, reason: str | None) -> Outcome:
        context = self._context(item, subject)
        context.name_results(f"attempt-{context.attempt}")
        now_us = self._log.clock.now_us()
        failure = FailedAttempt(
            attempt=context.attempt,
            failed_at=now_us,
            error=told(error),
            code=reason or reason_of(error),
        )
        before = item.record or NO_RECORD
        retry = subject.handler.retry
        verdict = _judged(retry.judge, error)
        delay_s = retry.delay_s(before.attempts + 1, verdict, self._rnd)
        record = before.failed(failure)
        _record(subject.handler, Failure(context, error, verdict.permanent, delay_s is None))
        said = {"group": self._group, "entry": f"{self._partition}/{item.id}"}
        measures = self._log.measures.group(self._group)
        if delay_s is None:
            measures.parked_count += 1
            _log.warning("entry_parked", **said, error=failure.error)
            if not self._is_own_letter(subject.event):
                self._park(context, subject, record, error)
            return Done(context.results, self._expected(subject), subject)
        measures.retried_count += 1
        _log.info("attempt_failed", **said, attempt=context.attempt, error=failure.error)
        return Again(round(delay_s * 1000), record, context.results)

    @staticmethod
    def _expected(subject: Subject) -> Sequence[tuple[str, int]]:
        replay = subject.replay
        return () if replay is None else [(str(replay.entity), replay.version)]

    def _is_own_letter(self, event: Event) -> bool:
        """Return whether the event is a letter of this group: failing on it writes no further one."""
        return isinstance(event, DeadLetterParked) and event.group == self._group

    def _park(self, context: Context, subject: Subject, record: Record, error: Exception) -> None:
        origin = f"{self._partition}/{subject.id}"
        letter = parked(
            subject.event, record, error, group=self._group, origin=origin, replay=subject.replay
        )
        try:
            context.append(letter)
        except InvalidEvent:  # too large: the origin has the text
            brief = (letter.error or "")[:BRIEF_ERROR]
            context.append(
                msgspec.structs.replace(letter, text=None, traceback=None, failures=[], error=brief)
            )

    def not_replayed(self, request: DeadLetterReplayRequested, error: Exception) -> Outcome:
        """Return what follows of a replay that could not be tried: the letter stays parked."""
        place = START  # that of the origin, which was not found
        context = Context(self._log, self._group, self._partition, place, request, request.attempts)
        context.append(not_replayed(request, error, self._log.clock.now_us()))
        return Done(context.results, [(str(request.entity), request.version)])

    async def _written_elsewhere(self, results: Sequence[Result]) -> Sequence[Result]:
        """Return the results of this partition, having appended those of others."""
        elsewhere = [each.event for each in results if each.partition != self._partition]
        if not elsewhere:
            return results
        await insist(
            self._log,
            lambda: self._log.append(elsewhere),
            lambda error: _log.warning("results_wait", group=self._group, error=str(error)),
        )
        return [each for each in results if each.partition == self._partition]


def _record(handler: Handler, failure: Failure) -> None:
    """Let the handler record its failure in events of its own."""
    if handler.record is None:
        return
    try:
        for event in handler.record(failure):
            failure.context.append(event)
    except Exception as error:  # noqa: BLE001 - foreign code
        # It must not keep the failure from being settled.
        _log.exception("record_failed", group=failure.context.group, error=told(error))


def _judged(judge: Callable[[Exception], Verdict], error: Exception) -> Verdict:
    try:
        verdict = judge(error)
        if isinstance(verdict, Verdict):
            return verdict
        raise TypeError(f"a judge returns a Verdict, not {verdict!r}")
    except Exception as fault:  # noqa: BLE001 - foreign code: what cannot be judged may pass
        _log.exception("judge_failed", error=told(fault))
        return Verdict()
