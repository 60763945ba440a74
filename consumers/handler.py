"""Handlers: functions of yours, by the event type they are for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from consumers.context import Context
from consumers.retry import Retry
from eventlog.errors import ConfigurationError
from eventlog.event import Event
from eventlog.vocabulary import VOCABULARY

TIMEOUT_S = 60.0
"""How long an attempt may take, where the handler does not say."""

ANY = "*"
"""Stands for every event type that has no handler of its own."""

Call = Callable[[Any, Context], Any]
C = TypeVar("C", bound=Call)


class Failure(NamedTuple):
    """A failed attempt, for whoever wants to record it."""

    context: Context
    error: Exception
    permanent: bool
    is_last: bool
    """The entry is parked with it."""


Record = Callable[[Failure], Iterable[Event]]
"""Returns the events that record a failed attempt; they are written together with what follows of it.
It must not raise."""


class Handler(NamedTuple):
    """A function and how it is to be called."""

    call: Call
    is_async: bool
    timeout_s: float
    retry: Retry
    record: Record | None = None


class Handlers:
    """Functions by event type; each is called with the event and its Context.

    An async function runs in the worker's loop, a plain one in a thread, which nobody can interrupt:
    after its time-out the attempt counts as failed, and what the thread still does is ignored.

    >>> handlers = Handlers()
    >>> @handlers.on("message.received", timeout_s=30)
    ... async def greet(event, context):
    ...     context.append(MessageQueued(conversation=event.conversation, text="hello"))
    """

    def __init__(self, *, timeout_s: float = TIMEOUT_S, retry: Retry | None = None) -> None:
        self._timeout_s = timeout_s
        self._retry = retry or Retry()
        self._handlers: dict[str, Handler] = {}
        self._own_types: dict[type[Event], None] = {}

    @property
    def event_types(self) -> Sequence[type[Event]]:
        """The event types of yours among those handled: what `EventLog.open(types=…)` wants."""
        return tuple(self._own_types)

    @property
    def by_type(self) -> Mapping[str, Handler]:
        """The handlers by event type."""
        return self._handlers

    def on(
        self,
        *types: str | type[Event],
        timeout_s: float | None = None,
        retry: Retry | None = None,
        record: Record | None = None,
    ) -> Callable[[C], C]:
        """Return a decorator that makes a function the handler of these event types.

        `"*"` is for every type that has none. Raises ConfigurationError where a type has one already.
        """
        if not types:
            raise ConfigurationError(
                "a handler is for no event type.", remedy='Name one: `@on("message.received")`.'
            )
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        if timeout_s <= 0:
            raise ConfigurationError(
                f"a time-out of {timeout_s} s leaves no time to handle anything."
            )

        def register(call: C) -> C:
            _check_shape(call)
            is_async = inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(
                getattr(call, "__call__", None)  # noqa: B004 - an object may be called as well
            )
            handler = Handler(call, is_async, timeout_s, retry or self._retry, record)
            self._add(types, handler)
            return call

        return register

    def find(self, event_type: str) -> Handler | None:
        """Return the handler of an event type, None where nobody handles it."""
        return self._handlers.get(event_type) or self._handlers.get(ANY)

    def _add(self, types: Sequence[str | type[Event]], handler: Handler) -> None:
        names = [each if isinstance(each, str) else tag_of(each) for each in types]
        for name in names:
            if name in self._handlers:
                raise ConfigurationError(
                    f"{name} has a handler already: {_name(self._handlers[name].call)}.",
                    remedy="Give the second one a worker with a group of its own.",
                )
        self._handlers.update(dict.fromkeys(names, handler))
        own = (each for each in types if not isinstance(each, str) and each not in VOCABULARY)
        self._own_types.update(dict.fromkeys(own))


def _check_shape(call: Call) -> None:
    """Return if a function can be called with an event and its context."""
    try:
        inspect.signature(call).bind(None, None)
    except TypeError as error:
        raise ConfigurationError(
            f"{_name(call)} cannot be called with an event and its context: {error}.",
            remedy="Write it as `async def handle(event, context)`.",
        ) from None
    except ValueError:  # a function in C that does not say
        return


def tag_of(event_type: type[Event]) -> str:
    """Return the type string of a class of events."""
    return str(event_type.__struct_config__.tag)


def _name(call: Call) -> str:
    return getattr(call, "__qualname__", repr(call))
