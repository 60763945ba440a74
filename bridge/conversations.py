"""Which session a conversation is in: look up, set, clear, compact, get or create."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bridge.deciding import until_decided
from bridge.session_start import SessionStart
from bridge.starting import Starter
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.session import TERMINAL
from eventlog.vocabulary import (
    ConversationChange,
    ConversationCleared,
    ConversationCompacted,
    ConversationMapped,
    conversation_entity,
)
from projections.reading.paging import Page
from projections.views.conversations import Conversation, Conversations
from projections.views.sessions import Sessions

Exists = Callable[[str], Awaitable[bool]]
Create = Callable[[], Awaitable[str]]

_log = get_logger("bridge")


class ConversationCalls:
    """The calls of `bridge.conversations`. Each may raise LogUnavailable and may then be repeated.

    Names are any text; none is ever taken for another. With `user` a call speaks of that user's own
    session in a chat of many, as `sessions.resolve` gives out.
    """

    def __init__(self, log: EventLog, owner: str | None = None) -> None:
        self._log = log
        self._owner = owner
        self._view = Conversations(log)
        self._sessions = Sessions(log)
        self._starter = Starter(log, self._sessions)

    async def get(self, conversation: str, *, user: str | None = None) -> str | None:
        """Return the conversation's session, or None."""
        return (await self._mapping(conversation, user)).session

    async def exists(self, conversation: str, *, user: str | None = None) -> bool:
        """Return whether the conversation has a session."""
        return await self.get(conversation, user=user) is not None

    async def list(self, *, limit: int = 50, cursor: str | None = None) -> Page[Conversation]:
        """Return the conversations that have a session, last changed first. Raises InvalidCursor."""
        return await self._view.list(limit=limit, cursor=cursor)

    async def set(self, conversation: str, session: str, *, user: str | None = None) -> None:
        """Let the conversation go on in a session, whatever it was in before."""
        await self._log.append(
            ConversationMapped(
                conversation=conversation,
                user=user,
                session=session,
                occurred_at=self._log.clock.now_us(),
            )
        )

    async def delete(self, conversation: str, *, user: str | None = None) -> bool:
        """Leave the conversation without a session and return whether it had one."""

        async def decide() -> bool:
            mapping = await self._mapping(conversation, user)
            if mapping.session is None:
                return False
            await self._clear(mapping)
            return True

        return await until_decided(decide)

    async def clear(self, conversation: str, *, user: str | None = None) -> bool:
        """Return whether there was a session that is the conversation's no more: as `delete`."""
        return await self.delete(conversation, user=user)

    async def compact(
        self, conversation: str, session: str | None = None, *, user: str | None = None
    ) -> str:
        """Let the conversation go on in a fresh session and return its id; the old one is kept.

        Without a `session` of yours one is started that says of itself what the old one said.
        """

        async def decide() -> str:
            mapping = await self._mapping(conversation, user)
            fresh = self._starter.new_id(conversation) if session is None else session
            compacted = ConversationCompacted(
                conversation=conversation,
                user=user,
                session=fresh,
                previous_session=mapping.session,
                occurred_at=self._log.clock.now_us(),
            )
            if session is None:
                await self._start_like(mapping, compacted)
            else:
                await self._change(compacted, mapping)
            return fresh

        return await until_decided(decide)

    async def get_or_create(
        self,
        conversation: str,
        *,
        user: str | None = None,
        exists: Exists | None = None,
        create: Create | None = None,
    ) -> str:
        """Return the conversation's session, which exists for sure.

        `exists` is asked whether the mapped session is still there, an agent's own memory for
        instance; by default the log is, for one that has not ended. A stale mapping is removed, and
        the conversation goes on in what `create` gives, or in a new session. Where others created
        one meanwhile theirs is taken, and what `create` gave is nobody's.
        """

        async def decide() -> str:
            mapping = await self._mapping(conversation, user)
            if mapping.session is not None:
                if await (exists or self._is_alive)(mapping.session):
                    return mapping.session
                _log.warning(
                    "stale_mapping_removed", conversation=conversation, session=mapping.session
                )
                await self._clear(mapping)
                return await decide()
            fresh = await create() if create else self._starter.new_id(conversation)
            mapped = ConversationMapped(
                conversation=conversation,
                user=user,
                session=fresh,
                occurred_at=self._log.clock.now_us(),
            )
            if create is None:
                await self._start_like(mapping, mapped)
            else:
                await self._change(mapped, mapping)
            return fresh

        return await until_decided(decide)

    async def _mapping(self, conversation: str, user: str | None) -> Conversation:
        found = await self._view.get(conversation, user=user)
        return found or Conversation(conversation, user=user)

    async def _is_alive(self, session: str) -> bool:
        found = await self._sessions.get(session)
        return found is not None and found.status not in TERMINAL

    async def _clear(self, mapping: Conversation) -> None:
        cleared = ConversationCleared(
            conversation=mapping.conversation,
            user=mapping.user,
            occurred_at=self._log.clock.now_us(),
        )
        await self._change(cleared, mapping)

    async def _change(self, change: ConversationChange, mapping: Conversation) -> None:
        await self._log.append(change, expected_version=mapping.version)

    async def _start_like(self, mapping: Conversation, change: ConversationChange) -> None:
        """Append the change together with the start of the session that it maps to."""
        old = await self._sessions.get(mapping.session) if mapping.session else None
        start = SessionStart(user=mapping.user, owner=self._owner)
        if old is not None:
            start = SessionStart(
                mode=old.mode,
                platform=old.platform,
                project=old.project,
                user=old.user,
                agent=old.agent,
                owner=self._owner or old.owner,
                metadata=old.metadata,
            )
        assert change.session is not None
        started = start.event(mapping.conversation, change.session, self._log.clock.now_us())
        entity = conversation_entity(mapping.conversation, mapping.user)
        await self._starter.append(started, [change], {entity: mapping.version})
