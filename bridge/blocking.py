"""The bridge for programs without an event loop: the same names, each call waits for its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Self

from anyio import to_thread

from bridge.bridge import Bridge
from bridge.conversations import ConversationCalls
from bridge.sessions import SessionCalls
from bridge.tickets import Tickets
from consumers.dead_letters import Letter
from consumers.delivery import DELIVERY_GROUP
from consumers.replaying import ReplayReport
from eventlog.batch import Fence
from eventlog.blocking import BlockingEventLog, blocking_tail
from eventlog.named_lock import NamedLock
from eventlog.portal import Blocking, Portal, blocking, blocking_context, opening
from projections.views.dead_letters import DeadLetters


class BlockingLock(Blocking[NamedLock]):
    """A session's lock while it is held."""

    @property
    def fence(self) -> Fence | None:
        """What a call takes that is to be refused once another has the lock."""
        return self._target.fence

    is_ours = blocking(NamedLock.is_ours)


class BlockingSessions(Blocking[SessionCalls]):
    """The calls of `bridge.sessions`."""

    @property
    def owner(self) -> str | None:
        """Who serves the sessions that are started or resumed here, where the call does not say."""
        return self._target.owner

    resolve = blocking(SessionCalls.resolve)
    start = blocking(SessionCalls.start)
    get = blocking(SessionCalls.get)
    list = blocking(SessionCalls.list)
    counts = blocking(SessionCalls.counts)
    touch = blocking(SessionCalls.touch)
    transition = blocking(SessionCalls.transition)
    complete = blocking(SessionCalls.complete)
    fail = blocking(SessionCalls.fail)
    resume = blocking(SessionCalls.resume)
    dormant_all = blocking(SessionCalls.dormant_all)
    _lock = blocking_context(SessionCalls.lock)

    @contextmanager
    def lock(self, session: str) -> Iterator[BlockingLock]:
        """Hold the session's lock: `SessionCalls.lock`.

        >>> with bridge.sessions.lock(session.id) as lock:
        ...     bridge.sent(session, agent(text), fence=lock.fence)
        """
        with self._lock(session) as lock:
            yield BlockingLock(lock, self._portal)

    tail = blocking_tail(SessionCalls.tail)


class BlockingConversations(Blocking[ConversationCalls]):
    """The calls of `bridge.conversations`."""

    get = blocking(ConversationCalls.get)
    exists = blocking(ConversationCalls.exists)
    list = blocking(ConversationCalls.list)
    set = blocking(ConversationCalls.set)
    delete = blocking(ConversationCalls.delete)
    clear = blocking(ConversationCalls.clear)
    compact = blocking(ConversationCalls.compact)
    get_or_create = blocking(ConversationCalls.get_or_create)


class BlockingTickets(Blocking[Tickets]):
    """The calls of `bridge.tickets`."""

    start = blocking(Tickets.start)
    ask = blocking(Tickets.ask)
    send = blocking(Tickets.send)
    complete = blocking(Tickets.complete)
    fail = blocking(Tickets.fail)
    active = blocking(Tickets.active)
    state = blocking(Tickets.state)
    chat = blocking(Tickets.chat)
    history = blocking(Tickets.history)


class BlockingDeadLetters(Blocking[DeadLetters]):
    """The calls of `bridge.dead_letters`."""

    get = blocking(DeadLetters.get)
    list = blocking(DeadLetters.list)
    unsettled = blocking(DeadLetters.unsettled)
    counts_by_reason = blocking(DeadLetters.counts_by_reason)
    counts_by_status = blocking(DeadLetters.counts_by_status)


class BlockingBridge(Blocking[Bridge]):
    """A `Bridge` whose calls block. Safe to share between threads.

    >>> with BlockingBridge.open() as bridge:
    ...     session = bridge.sessions.resolve("telegram", 7)
    ...     bridge.received(session, "hello", message_id=991)

    It may be called in a thread that runs an event loop, which then stands still for as long.
    """

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge, Portal("BlockingBridge"))
        self.log = BlockingEventLog(bridge.log, self._portal)
        """The log beneath: whatever has no call of its own here."""
        self.sessions = BlockingSessions(bridge.sessions, self._portal)
        self.conversations = BlockingConversations(bridge.conversations, self._portal)
        self.tickets = BlockingTickets(bridge.tickets, self._portal)
        self.dead_letters = BlockingDeadLetters(bridge.dead_letters, self._portal)
        """What was given up on: list, get, count."""
        self.log_event = bridge.log_event
        """Records a bridge event soon; never waits, never raises."""
        self.allow = bridge.allow
        """Says who may use the bot on a platform."""

    open = opening(Bridge.open)

    def __enter__(self) -> Self:
        self._portal.open(self._target)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Answer what is queued and let go of the server; idempotent."""
        self._portal.close()

    @property
    def dropped_event_count(self) -> int:
        """Bridge events that could not be recorded."""
        return self._target.dropped_event_count

    def ping(self) -> bool:
        """Return whether the server answers; False, never an error, where it does not."""
        return self._portal.is_open and self._portal.call(self._target.ping)

    receive = blocking(Bridge.receive)
    received = blocking(Bridge.received)
    send = blocking(Bridge.send)
    sent = blocking(Bridge.sent)
    history = blocking(Bridge.history)
    queue_job = blocking(Bridge.queue_job)
    erase = blocking(Bridge.erase)
    persist_failed_delivery = blocking(Bridge.persist_failed_delivery)

    def replay_dead_letters(
        self,
        send: Callable[[Letter], object],
        *,
        group: str = DELIVERY_GROUP,
        limit: int | None = None,
    ) -> ReplayReport:
        """Try a group's parked letters again with `send`, the oldest of a conversation first.

        `send` is called in threads of its own, for several conversations at once, and may call the
        bridge. Success resolves a letter, an exception counts one attempt more. Of several processes
        that replay at once, one sends a letter.
        """

        async def send_in_thread(letter: Letter) -> object:
            # Left behind when its time is over: nothing can end a thread from outside.
            return await to_thread.run_sync(send, letter, abandon_on_cancel=True)

        replay = partial(self._target.replay_dead_letters, group=group, limit=limit)
        return self._portal.call(replay, send_in_thread)
