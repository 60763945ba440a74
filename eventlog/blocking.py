"""The log for scripts without an event loop: the same names, through a portal thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, Self, cast, overload

from eventlog.appender import ExpectedVersion
from eventlog.batch import Fence
from eventlog.cursor import Cursor
from eventlog.entry import Entry
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.measures import Measures
from eventlog.portal import Blocking, BlockingIterator, Method, Portal, blocking, opening, passing
from eventlog.settings import Durability
from eventlog.writer import AppendResult

P = ParamSpec("P")


class _Tail(Protocol):
    """An async iterator over entries that knows its place."""

    @property
    def cursor(self) -> Cursor: ...

    def __aiter__(self) -> _Tail: ...

    async def __anext__(self) -> Entry: ...


class BlockingTail(BlockingIterator[Entry]):
    """A tail for plain `for` loops; `cursor` resumes it."""

    def __init__(self, tail: _Tail, portal: Portal) -> None:
        super().__init__(tail, portal)
        self._tail = tail

    @property
    def cursor(self) -> Cursor:
        """The place after the last entry given out."""
        return self._tail.cursor


def blocking_tail(
    method: Callable[Concatenate[Any, P], Awaitable[_Tail]],
) -> Method[P, BlockingTail]:
    """Return the method of a Blocking class that gives a plain iterator for a tail."""

    @wraps(method)
    def call(self: Blocking[Any], *args: P.args, **kwargs: P.kwargs) -> BlockingTail:
        tail = self._portal.call(self._bound(method), *args, **kwargs)
        return BlockingTail(tail, self._portal)

    return cast("Method[P, BlockingTail]", call)


class BlockingEventLog(Blocking[EventLog]):
    """An `EventLog` whose methods block. Safe to share between threads and with forked children.

    >>> with BlockingEventLog.open() as log:
    ...     log.append(MessageReceived(conversation="telegram:42", text="hello"))
    """

    def __init__(self, log: EventLog, portal: Portal | None = None) -> None:
        super().__init__(log, portal or Portal("BlockingEventLog"))
        self.log = log

    open = opening(EventLog.open)

    def __enter__(self) -> Self:
        self._portal.open(self.log)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Answer what is queued, let go of the server; idempotent."""
        self._portal.close()

    @overload
    def append(
        self,
        events: Event,
        *,
        expected_version: ExpectedVersion = None,
        durability: Durability | None = None,
        fence: Fence | None = None,
    ) -> AppendResult: ...

    @overload
    def append(
        self,
        events: Sequence[Event],
        *,
        expected_version: ExpectedVersion = None,
        durability: Durability | None = None,
        fence: Fence | None = None,
    ) -> list[AppendResult]: ...

    def append(
        self,
        events: Any,
        *,
        expected_version: ExpectedVersion = None,
        durability: Durability | None = None,
        fence: Fence | None = None,
    ) -> Any:
        """Return where the event, or each event of the list, stands: `EventLog.append`."""
        append: Any = self.log.append
        return self._portal.call(
            append, events, expected_version=expected_version, durability=durability, fence=fence
        )

    read = blocking(EventLog.read)
    heads = blocking(EventLog.heads)
    reached = blocking(EventLog.reached)
    partition_of = passing(EventLog.partition_of)
    spool_counts = blocking(EventLog.spool_counts)
    tail = blocking_tail(EventLog.tail)

    @property
    def measures(self) -> Measures:
        """What this program counts of its own work with the log."""
        return self.log.measures

    @property
    def is_degraded(self) -> bool:
        """Whether the log does less than it should for want of the server: `EventLog.is_degraded`."""
        return self._portal.is_open and self._portal.call(self._is_degraded)

    async def _is_degraded(self) -> bool:
        return self.log.is_degraded

    @property
    def was_reached(self) -> bool:
        """Whether the server was there once since the log was opened: `EventLog.was_reached`."""
        return self.log.was_reached

    def ping(self) -> bool:
        """Return whether the server answers; never raises."""
        return self._portal.is_open and self._portal.call(self.log.ping)
