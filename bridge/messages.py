"""Messages in both directions, as a bot says what it got and what it wants to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

from bridge.deciding import MAX_DECISIONS
from bridge.given import id_text, optional_id_text, time_us
from bridge.place import message_event_id
from bridge.sessions import SessionCalls
from eventlog.batch import Fence
from eventlog.errors import IllegalTransition, InvalidEvent, LogUnavailable, VersionConflict
from eventlog.log import EventLog
from eventlog.past import Past
from eventlog.vocabulary import (
    Attachment,
    MessageQueued,
    MessageReceived,
    MessageSent,
    MessageType,
    SessionTransitioned,
    session_entity,
)
from eventlog.writer import AppendResult
from projections.views.history import History, HistoryPage
from projections.views.sessions import Session


class _Where(NamedTuple):
    """What a message takes over from where it is said."""

    conversation: str
    session: str | None
    platform: str | None
    user: str | None


class MessageCalls:
    """The calls of a bridge that carry text.

    Where a conversation is asked for, a session does as well: it says its conversation, platform and
    user, and the message is said in it.
    """

    def __init__(self, log: EventLog, sessions: SessionCalls, past: Past | None) -> None:
        self._log = log
        self._sessions = sessions
        self._history = History(log, past=past)

    async def received(
        self,
        where: str | Session,
        text: str,
        *,
        message_id: str | int | None = None,
        sender: str | int | None = None,
        session: str | None = None,
        message_type: MessageType = "text",
        reply_to: str | int | None = None,
        platform: str | None = None,
        attachments: Sequence[Attachment] = (),
        metadata: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        occurred_at: int | datetime | None = None,
        fence: Fence | None = None,
    ) -> AppendResult:
        """Record what somebody wrote, before anybody acts on it, and return where it stands.

        With the platform's `message_id` a message that is delivered twice is recorded once: the
        second result says `duplicate`. A session that was dormant is active again. `occurred_at` is
        a datetime or µs UTC. With the `fence` of the session's lock nothing is recorded once another program has
        it. Raises InvalidEvent and its kin, Fenced.
        """
        at = _where(where)
        said = self._said(at, session, platform, reply_to, attachments, metadata)
        message = optional_id_text("message", message_id)
        if message is not None:
            said["id"] = message_event_id(at.conversation, message)
        event = MessageReceived(
            **said,
            text=text,
            sender=at.user if sender is None else id_text("sender", sender),
            message_id=message,
            message_type=message_type,
            correlation_id=request_id,
            occurred_at=self._at_us(occurred_at),
        )
        if isinstance(where, Session) and where.status == "dormant":
            return await self._waking(where, event, fence)
        return await self._log.append(event, fence=fence)

    async def sent(
        self,
        where: str | Session,
        text: str,
        *,
        message_id: str | int | None = None,
        sender: str | None = None,
        session: str | None = None,
        message_type: MessageType = "text",
        reply_to: str | int | None = None,
        platform: str | None = None,
        attachments: Sequence[Attachment] = (),
        metadata: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        occurred_at: int | datetime | None = None,
        fence: Fence | None = None,
    ) -> AppendResult:
        """Record what the bot said by itself, after the platform took it.

        What `send` queues is recorded by the worker that delivers it. Arguments and result as of
        `received`.
        """
        at = _where(where)
        said = self._said(at, session, platform, reply_to, attachments, metadata)
        message = optional_id_text("message", message_id)
        if message is not None:
            said["id"] = message_event_id(at.conversation, message, is_sent=True)
        return await self._log.append(
            MessageSent(
                **said,
                text=text,
                sender=sender,
                message_id=message,
                message_type=message_type,
                correlation_id=request_id,
                occurred_at=self._at_us(occurred_at),
            ),
            fence=fence,
        )

    async def send(
        self,
        where: str | Session,
        text: str,
        *,
        idempotency_key: str | None = None,
        session: str | None = None,
        recipient: str | None = None,
        reply_to: str | int | None = None,
        platform: str | None = None,
        message_type: MessageType = "text",
        attachments: Sequence[Attachment] = (),
        metadata: Mapping[str, Any] | None = None,
        sender: str | None = None,
        request_id: str | None = None,
        fence: Fence | None = None,
    ) -> AppendResult:
        """Queue a message for delivery and return where it stands in the log.

        A worker of the delivery group sends it, after what was queued before in the conversation.
        With an `idempotency_key` of yours a repeated call queues nothing, and the platform is handed
        it. Raises InvalidEvent and its kin.
        """
        said = self._said(_where(where), session, platform, reply_to, attachments, metadata)
        if idempotency_key is not None:
            said["id"] = idempotency_key
        return await self._log.append(
            MessageQueued(
                **said,
                text=text,
                recipient=recipient,
                message_type=message_type,
                sender=sender,
                correlation_id=request_id,
                occurred_at=self._log.clock.now_us(),
            ),
            fence=fence,
        )

    async def history(
        self, where: str | Session, limit: int | None = None, *, cursor: str | None = None
    ) -> HistoryPage:
        """Return the last messages of a conversation, oldest first, or the page of a cursor.

        Pages go on into the archive. Without a limit there are as many as the settings say for a
        session's mode, `chat_history_messages` or `job_history_messages`. Raises InvalidQuery,
        InvalidCursor.
        """
        if limit is None:
            settings = self._log.settings
            is_job = isinstance(where, Session) and where.mode == "job"
            limit = settings.job_history_messages if is_job else settings.chat_history_messages
        return await self._history.last(_where(where).conversation, limit, cursor=cursor)

    def _at_us(self, given: int | datetime | None) -> int:
        return self._log.clock.now_us() if given is None else time_us(given)

    @staticmethod
    def _said(
        at: _Where,
        session: str | None,
        platform: str | None,
        reply_to: str | int | None,
        attachments: Sequence[Attachment],
        metadata: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """Return the fields that every message has."""
        return {
            "conversation": at.conversation,
            "session": session or at.session,
            "platform": platform or at.platform,
            "reply_to": optional_id_text("message", reply_to),
            "attachments": [_reference(each) for each in attachments],
            "metadata": dict(metadata or {}),
        }

    async def _waking(
        self, session: Session, event: MessageReceived, fence: Fence | None
    ) -> AppendResult:
        """Append the message together with what wakes its session; alone, where it is awake.

        A session that lives elsewhere is woken by an event of its own.
        """
        if session.home is not None:
            with suppress(IllegalTransition, LogUnavailable):  # it has ended; the server is away
                await self._sessions.resume(session.id)
            return await self._log.append(event, fence=fence)
        woken = SessionTransitioned(
            conversation=event.conversation,
            session=session.id,
            from_status="dormant",
            to_status="active",
            reason="message",
            owner=self._sessions.owner,
            occurred_at=event.occurred_at,
        )
        current: Session | None = session
        for _ in range(MAX_DECISIONS):
            if current is None or current.status != "dormant":
                break
            try:
                _, result = await self._log.append(
                    [woken, event],
                    expected_version={session_entity(session.id): current.version},
                    fence=fence,
                )
            except VersionConflict:
                current = await self._sessions.get(session.id)
            except LogUnavailable:
                if fence is not None or self._log.settings.spool_dir is None:
                    raise
                # The spool takes nothing that depends on a version; what has ended stays so.
                return (await self._log.append([woken, event], fence=fence))[1]
            else:
                return result
        return await self._log.append(event, fence=fence)


def _reference(attachment: Attachment) -> Attachment:
    """Return the attachment if it refers to a file kept elsewhere. Raises InvalidEvent."""
    is_reference = isinstance(attachment, Attachment)
    if not is_reference or attachment.url.lower().startswith("data:"):
        what = "the file itself" if is_reference else f"{type(attachment).__name__}"
        raise InvalidEvent(
            f"an attachment is no reference but {what}.",
            remedy="Put the file into object storage and give eventlog.Attachment(url='s3://…').",
        )
    return attachment


def _where(where: str | Session) -> _Where:
    if isinstance(where, Session):
        return _Where(where.conversation, where.id, where.platform, where.user)
    return _Where(where, None, None, None)
