"""The log for scripts without an event loop: the same names, through a portal thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar, overload

from anyio.from_thread import BlockingPortal, start_blocking_portal

from eventlog.cursor import Cursor
from eventlog.entry import Entry
from eventlog.errors import LogNotOpen
from eventlog.event import Event
from eventlog.ids import EntryId
from eventlog.log import EventLog
from eventlog.settings import Durability
from eventlog.tail import Tail
from eventlog.writer import AppendResult

P = ParamSpec("P")
T = TypeVar("T")


class BlockingEventLog:
    """An `EventLog` whose methods block. Safe to share between threads.

    >>> with BlockingEventLog.open() as log:
    ...     log.append(MessageReceived(conversation="telegram:42", text="hello"))
    """

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self._portal: BlockingPortal | None = None
        self._stack = ExitStack()

    @classmethod
    def open(cls, url: str | None = None, **arguments: Any) -> Self:
        """Return the log, to be entered with `with`. Arguments as for `EventLog.open`."""
        return cls(EventLog.open(url, **arguments))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            portal.call(self.log.__aenter__)
            stack.callback(portal.call, self.log.close)
            self._portal = portal
            self._stack = stack.pop_all()
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
        self._portal = None
        self._stack.close()

    def _call(self, method: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._portal is None:
            raise LogNotOpen("the log is not open.", remedy="Use `with BlockingEventLog.open()`.")
        return self._portal.call(partial(method, *args, **kwargs))

    @overload
    def append(
        self,
        events: Event,
        *,
        expected_version: int | None = None,
        durability: Durability | None = None,
    ) -> AppendResult: ...

    @overload
    def append(
        self,
        events: Sequence[Event],
        *,
        expected_version: int | None = None,
        durability: Durability | None = None,
    ) -> list[AppendResult]: ...

    def append(
        self,
        events: Any,
        *,
        expected_version: int | None = None,
        durability: Durability | None = None,
    ) -> Any:
        """Return where the event, or each event of the list, stands: `EventLog.append`."""
        append: Any = self.log.append
        return self._call(append, events, expected_version=expected_version, durability=durability)

    def read(
        self,
        *,
        conversation: str | None = None,
        partition: int | None = None,
        after: EntryId | None = None,
        before: EntryId | None = None,
        limit: int = 100,
        reverse: bool = False,
    ) -> list[Entry]:
        """Return up to `limit` entries of a conversation or partition: `EventLog.read`."""
        return self._call(
            self.log.read,
            conversation=conversation,
            partition=partition,
            after=after,
            before=before,
            limit=limit,
            reverse=reverse,
        )

    def tail(self, after: Cursor | str | Literal["start"] | None = None) -> BlockingTail:
        """Return an endless iterator over the entries after a cursor: `EventLog.tail`."""
        return BlockingTail(self._call(self.log.tail, after), self._call)

    def ping(self) -> bool:
        """Return whether the server answers; never raises."""
        return self._portal is not None and self._call(self.log.ping)


class BlockingTail:
    """A `Tail` for plain `for` loops; `cursor` resumes it."""

    def __init__(self, tail: Tail, call: Callable[[Callable[[], Awaitable[Entry]]], Entry]) -> None:
        self._tail = tail
        self._call = call

    @property
    def cursor(self) -> Cursor:
        """The place after the last entry given out."""
        return self._tail.cursor

    def __iter__(self) -> Iterator[Entry]:
        return self

    def __next__(self) -> Entry:
        return self._call(self._tail.__anext__)
