"""Starting a session: under an id that nobody else has, and together with what maps to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bridge.place import new_session_id
from bridge.session_start import SessionStart, folded
from eventlog.errors import InvalidEvent, SessionExists, VersionConflict
from eventlog.event import Event
from eventlog.ids import new_event_id
from eventlog.log import EventLog
from eventlog.vocabulary import SessionPlaced, session_entity
from projections.views.sessions import Session, Sessions


class Starter:
    """Starts sessions. What belongs together is one append: all of it, or nothing."""

    def __init__(self, log: EventLog, sessions: Sessions) -> None:
        self._log = log
        self._sessions = sessions

    def new_id(self, conversation: str | None) -> str:
        """Return an id for a session of a conversation, or for one that is its own."""
        # Before the log was ever reached nobody knows its partitions.
        if conversation is None or not self._log.was_reached:
            return new_event_id()
        return new_session_id(conversation, self._log.partition_count)

    async def start(
        self,
        start: SessionStart,
        *,
        conversation: str | None = None,
        session_id: str | None = None,
        also: Callable[[str], Sequence[Event]] | None = None,
    ) -> Session:
        """Return the session, started, together with what `also` makes of its id.

        Raises SessionExists for an id that was given away before.
        """
        if session_id == "":
            raise InvalidEvent("a session without an id.", remedy="Leave it out for a new UUID.")
        if start.status not in ("pending", "active"):
            raise InvalidEvent(
                f"a session that starts {start.status}.", remedy="It starts pending or active."
            )
        session = session_id or self.new_id(conversation)
        home = session if conversation is None else conversation
        if session_id is not None:
            await self.claim(session_id, home)
        event = start.event(home, session, self._log.clock.now_us())
        return await self.append(event, also(session) if also else ())

    async def append(
        self,
        start: Event,
        also: Sequence[Event] = (),
        expected: Mapping[str, int] | None = None,
    ) -> Session:
        """Return the session after its first event, appended with others of its conversation.

        Raises SessionExists, and VersionConflict for an entity of `expected`.
        """
        assert start.session is not None
        entity = session_entity(start.session)
        try:
            result, *_ = await self._log.append(
                [start, *also], expected_version={entity: 0, **(expected or {})}
            )
        except VersionConflict as conflict:
            if conflict.entity != entity:
                raise
            raise SessionExists(start.session, start.conversation) from None
        return folded(Session(start.session), start, result)

    async def claim(self, session: str, home: str) -> None:
        """Ensure that a caller's id is nobody else's, and can be found by itself.

        A claim that was not followed by its start, because its program died, is taken up again.
        """
        if (known := await self._sessions.get(session)) is not None:
            raise SessionExists(session, known.conversation)
        if self._log.partition_of(session) == self._log.partition_of(home):
            return
        placed = SessionPlaced(
            conversation=session,
            session=session,
            home=home,
            occurred_at=self._log.clock.now_us(),
        )
        try:
            await self._log.append(placed, expected_version=0)
        except VersionConflict:
            if await self._sessions.home(session) != home:
                raise SessionExists(session) from None
