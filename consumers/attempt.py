"""One attempt at an entry: from the handler's call to what follows of it."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import random
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from consumers.context import Context, Result
from consumers.dead_letters import letter_event_id
from consumers.handler import Failure, Handler
from consumers.ordering import Item
from consumers.patience import insist
from consumers.record import LONGEST_ERROR, NO_RECORD, Record
from consumers.retry import Verdict, reason_of
from consumers.time_limit import TimeLimits
from eventlog.errors import AttemptFailed, EventLogError, InvalidEvent
from eventlog.event import Event
from eventlog.ids import START, EntryId
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.vocabulary import (
    DeadLetterParked,
    DeadLetterReplayed,
    DeadLetterReplayRequested,
    DeadLetterResolved,
    FailedAttempt,
)

LONGEST_TRACEBACK = 8000
"""Characters of a traceback that are kept, from its end."""

LONGEST_TEXT = 100_000
"""Characters of a message that a letter repeats; a longer one is found at its origin."""

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

    due_ms: int
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
                f"its handler was begun {begun} times, and no end of it could be settled: it killed its "
                "process, or was paused with it.",
                permanent=True,
            )
            return await self.fail(item, subject, died, WORKER_DIED)
        context = self._context(item, subject)
        try:
            await call(subject.handler, context, self._limits)
            if subject.replay is not None:
                context.append(self._resolved(subject.replay))
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
        if delay_s is None:
            _log.warning("entry_parked", **said, error=failure.error)
            if not self._is_own_letter(subject.event):
                self._park(context, subject, record, error)
            return Done(context.results, self._expected(subject), subject)
        _log.info("attempt_failed", **said, attempt=context.attempt, error=failure.error)
        return Again(now_us // 1000 + round(delay_s * 1000), record, context.results)

    @staticmethod
    def _expected(subject: Subject) -> Sequence[tuple[str, int]]:
        replay = subject.replay
        return () if replay is None else [(str(replay.entity), replay.version)]

    def _is_own_letter(self, event: Event) -> bool:
        """Return whether the event is a letter of this group: failing on it writes no further one."""
        return isinstance(event, DeadLetterParked) and event.group == self._group

    def _park(self, context: Context, subject: Subject, record: Record, error: Exception) -> None:
        """Append the letter. Its id derives from the entry, and from the replay that failed."""
        event, failure, replay = subject.event, record.failures[-1], subject.replay
        home = replay or event  # where a letter lives stays the same
        origin = replay.origin if replay else f"{self._partition}/{subject.id}"
        name = replay.letter if replay else f"{self._group}:{origin}"
        text = getattr(event, "text", None)
        letter = DeadLetterParked(
            id=letter_event_id("parked", name, replay.version if replay else 0),
            letter=name,
            conversation=home.conversation,
            session=home.session,
            occurred_at=failure.failed_at,
            group=self._group,
            reason=failure.code or "failed",
            attempts=failure.attempt,
            error=failure.error,
            traceback=_traceback(error),
            origin=origin,
            recipient=getattr(event, "recipient", None),
            text=text if isinstance(text, str) and len(text) <= LONGEST_TEXT else None,
            reply_to=getattr(event, "reply_to", None),
            failures=list(record.failures),
        )
        try:
            context.append(letter)
        except InvalidEvent:  # too large: the origin has the text
            brief = failure.error[:100]
            context.append(
                msgspec.structs.replace(letter, text=None, traceback=None, failures=[], error=brief)
            )

    def _resolved(self, replay: DeadLetterReplayRequested) -> DeadLetterResolved:
        return DeadLetterResolved(
            id=letter_event_id("resolved", replay.letter, replay.version),
            letter=replay.letter,
            conversation=replay.conversation,
            session=replay.session,
            occurred_at=self._log.clock.now_us(),
            group=self._group,
        )

    def not_replayed(self, request: DeadLetterReplayRequested, error: Exception) -> Outcome:
        """Return what follows of a replay that could not be tried: the letter stays parked."""
        place = START  # that of the origin, which was not found
        context = Context(self._log, self._group, self._partition, place, request, request.attempts)
        context.append(
            DeadLetterReplayed(
                id=letter_event_id("replayed", request.letter, request.version),
                letter=request.letter,
                conversation=request.conversation,
                session=request.session,
                occurred_at=self._log.clock.now_us(),
                group=self._group,
                attempt=request.attempts,
                error=told(error),
            )
        )
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


async def call(handler: Handler, context: Context, limits: TimeLimits) -> None:
    """Call the handler and wait for its end. Raises what it raises, and AttemptTimedOut."""
    task = asyncio.current_task()
    assert task is not None
    limits.begin(task, handler.timeout_s)
    try:
        if handler.is_async:
            await handler.call(context.event, context)
        else:
            returned = await _in_thread(handler.call, context.event, context)
            if inspect.isawaitable(returned):  # a plain function round an async one
                await returned
    except asyncio.CancelledError as error:
        if limits.end(task) and not task.cancelling():
            raise AttemptTimedOut(handler.timeout_s) from error
        if task.cancelling():
            raise
        raise AttemptFailed("the handler was cancelled from within.") from error
    except BaseException:
        limits.end(task)
        raise
    limits.end(task)


class AttemptTimedOut(AttemptFailed):
    """The handler took longer than it may."""

    code = "timeout"

    def __init__(self, timeout_s: float) -> None:
        super().__init__(
            f"the handler did not end within {timeout_s:g} s.",
            remedy="Give it a longer timeout_s, or what it calls a shorter one.",
        )


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a thread of its own, which ends with the process even if it hangs."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()

    def end(returned: Any, error: BaseException | None) -> None:
        if ended.done():
            return
        if isinstance(error, StopIteration):  # which no future can hold
            error = AttemptFailed("the handler raised StopIteration.")
        if error is None:
            ended.set_result(returned)
        else:
            ended.set_exception(error)

    def run() -> None:
        returned, error = None, None
        try:
            returned = function(*arguments)
        except BaseException as raised:  # noqa: BLE001 - it is raised where the thread is awaited
            error = raised
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            loop.call_soon_threadsafe(end, returned, error)

    in_context = contextvars.copy_context()
    threading.Thread(target=in_context.run, args=(run,), daemon=True, name="handler").start()
    return await ended


def told(error: BaseException) -> str:
    """Return an error as a person wants to read it, bounded."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - foreign code: an error that cannot be shown is still one
        text = "(no text)"
    if not isinstance(error, EventLogError):
        text = f"{type(error).__name__}: {text}"
    return _readable(text.rstrip(": "))[:LONGEST_ERROR]


def _traceback(error: BaseException) -> str | None:
    """Return where the error was raised; None where it was not raised by code."""
    if error.__traceback__ is None:
        return None
    return _readable("".join(traceback.format_exception(error)))[-LONGEST_TRACEBACK:]


def _readable(text: str) -> str:
    """Return the text as valid Unicode: an error may quote bytes that are not."""
    return text.encode(errors="replace").decode()
