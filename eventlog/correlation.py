"""Which request the events of a task come from, where they do not say so themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from msgspec.structs import replace

from eventlog.event import Event

E = TypeVar("E", bound=Event)

_current: ContextVar[str | None] = ContextVar("correlation_id", default=None)


@contextmanager
def correlated(correlation_id: str) -> Iterator[None]:
    """Give events that are appended within the block, in this task, a correlation id.

    >>> with correlated("request-7"):
    ...     await log.append(MessageReceived(conversation="telegram:42", text="hello"))
    """
    token = _current.set(correlation_id)
    try:
        yield
    finally:
        _current.reset(token)


def current_correlation() -> str | None:
    """Return the id that `correlated` gave, None outside of it."""
    return _current.get()


def with_correlation(event: E) -> E:
    """Return the event with the id of the block it is appended in; one that has one keeps it."""
    correlation_id = _current.get()
    if correlation_id is None or event.correlation_id is not None:
        return event
    return replace(event, correlation_id=correlation_id)
