"""The event types every bot and bridge shares, one struct each.

Field names are the columns of the archive: one word per idea across all types.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from eventlog.entity import FREE, OVER, held_by
from eventlog.event import Event, Name
from eventlog.scoped import scoped
from eventlog.session import TERMINAL, SessionMode, SessionStatus


def member_key(conversation: str, user: str | None) -> str:
    """Return what names a conversation's mapping, or that of one user in it; never two alike.

    That of a conversation is its name; a leading null character, which begins those of users, is
    doubled there.
    """
    if user is not None:
        return f"\0{len(conversation)}:{conversation}:{user}"
    return f"\0{conversation}" if conversation.startswith("\0") else conversation


def conversation_entity(conversation: str, user: str | None = None) -> str:
    """Return the entity of a conversation's mapping, for `append(expected_version={…})`."""
    return f"conversation:{member_key(conversation, user)}"


def session_entity(session: str) -> str:
    """Return the entity of a session, for `append(expected_version={…})`."""
    return f"session:{session}"


MessageType = Literal["text", "media", "response", "acknowledgment", "action", "notice"]


class Attachment(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A reference to a file kept elsewhere; the log never holds the bytes."""

    url: str
    name: str | None = None
    media_type: str | None = None
    size_bytes: int | None = None


class FailedAttempt(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One attempt of a handler that failed."""

    attempt: int
    """From 1."""
    failed_at: int
    """µs UTC, by the worker's clock."""
    error: str
    code: str | None = None


class Message(Event, frozen=True, kw_only=True):
    """What messages in both directions carry; not a type of its own."""

    text: str
    sender: str | None = None
    message_id: str | None = None
    message_type: MessageType = "text"
    reply_to: str | None = None
    platform: str | None = None
    attachments: list[Attachment] = []
    metadata: dict[str, Any] = {}


class MessageReceived(Message, frozen=True, kw_only=True, tag="message.received"):
    """Somebody wrote to the bot or in a chat it listens to."""


class MessageQueued(Message, frozen=True, kw_only=True, tag="message.queued"):
    """The bot wants a message delivered; its `id` is the delivery's idempotency key."""

    recipient: str | None = None


class MessageSent(Message, frozen=True, kw_only=True, tag="message.sent"):
    """The bot or agent spoke and the platform took it; `delivery` is the queued event's id."""

    delivery: str | None = None
    attempt: int | None = None


class DeliveryFailed(Event, frozen=True, kw_only=True, tag="delivery.failed"):
    """One attempt to deliver failed. `permanent` says that trying again cannot help."""

    reason: str
    delivery: str | None = None
    recipient: str | None = None
    code: str | None = None
    attempt: int = 1
    permanent: bool = False
    platform: str | None = None
    error: str | None = None


class DeadLetterParked(Event, frozen=True, kw_only=True, tag="dead_letter.parked"):
    """An entry was given up on by `group` after `attempts`; `letter` names it from now on.

    `origin` is where the entry stands, `partition/ms-n`, where it has such a place. `failures` are
    the attempts, of which the last ones are kept.
    """

    VERSIONED = "letter"

    letter: Name
    group: str
    reason: str
    attempts: int = 0
    error: str | None = None
    traceback: str | None = None
    origin: str | None = None
    recipient: str | None = None
    text: str | None = None
    reply_to: str | None = None
    failures: list[FailedAttempt] = []


class DeadLetterReplayRequested(
    Event, frozen=True, kw_only=True, tag="dead_letter.replay_requested"
):
    """A dead letter is to be tried again by its group, or by `runner` where one is named.

    `version` is the letter's after this event: if it is another when the turn comes, somebody has
    settled the letter meanwhile. `origin` is where the entry stands that is handled again, `attempts`
    how often that was tried.
    """

    VERSIONED = "letter"

    letter: Name
    group: str
    version: int
    attempts: int = 0
    origin: str | None = None
    runner: str | None = None


class DeadLetterReplayed(Event, frozen=True, kw_only=True, tag="dead_letter.replayed"):
    """A dead letter was tried once more and failed again: it is parked as before."""

    VERSIONED = "letter"

    letter: Name
    group: str
    attempt: int
    error: str | None = None


class DeadLetterResolved(Event, frozen=True, kw_only=True, tag="dead_letter.resolved"):
    """A replay succeeded."""

    VERSIONED = "letter"

    letter: Name
    group: str


class DeadLetterDiscarded(Event, frozen=True, kw_only=True, tag="dead_letter.discarded"):
    """An operator gave a dead letter up, saying why."""

    VERSIONED = "letter"

    letter: Name
    group: str
    reason: str


class SessionStarted(Event, frozen=True, kw_only=True, tag="session.started"):
    """A session exists. `status` is where it starts, `pending` or `active`."""

    VERSIONED = "session"

    session: Name
    status: SessionStatus = "active"
    mode: SessionMode = "chat"
    platform: str | None = None
    project: str | None = None
    user: str | None = None
    agent: str | None = None
    branch_name: str | None = None
    text: str | None = None
    owner: str | None = None
    """Which program serves it, until another one resumes it."""
    metadata: dict[str, Any] = {}


class SessionPlaced(Event, frozen=True, kw_only=True, tag="session.placed"):
    """The session of this id lives in the conversation `home`, in another partition.

    It stands in the partition of the id, so that an id is given away once and can be found.
    """

    VERSIONED = "session"

    session: Name
    home: Name


class SessionTransitioned(Event, frozen=True, kw_only=True, tag="session.transitioned"):
    """A session changed status."""

    VERSIONED = "session"

    session: Name
    to_status: SessionStatus
    from_status: SessionStatus | None = None
    reason: str | None = None
    owner: str | None = None

    @property
    def entity_mark(self) -> str:
        """OVER where the session has ended."""
        return OVER if self.to_status in TERMINAL else ""


class SessionTouched(Event, frozen=True, kw_only=True, tag="session.touched"):
    """A session showed a sign of life; its status stays."""

    VERSIONED = "session"

    session: Name
    reason: str | None = None


class ToolCalled(Event, frozen=True, kw_only=True, tag="tool.called"):
    """The agent called a tool; `arguments` is JSON text."""

    call: str
    name: str
    arguments: str | None = None


class ToolReturned(Event, frozen=True, kw_only=True, tag="tool.returned"):
    """A tool answered the call of the same id."""

    call: str
    name: str | None = None
    result: str | None = None
    is_error: bool = False
    duration_ms: int | None = None


class ConversationChange(Event, frozen=True, kw_only=True):
    """What says which session a conversation is in; not a type of its own.

    With `user` it speaks of that member of a group alone, who has a session of their own in it.
    """

    VERSIONED = "conversation"

    user: str | None = None

    @property
    def entity(self) -> str:
        """The mapping whose version this event advances."""
        return conversation_entity(self.conversation, self.user)

    @property
    def entity_mark(self) -> str:
        """Which session holds the place from now on, or that it is free."""
        return FREE if self.session is None else held_by(session_entity(self.session))


class ConversationMapped(ConversationChange, frozen=True, kw_only=True, tag="conversation.mapped"):
    """The conversation's current session is now `session`."""


class ConversationCleared(
    ConversationChange, frozen=True, kw_only=True, tag="conversation.cleared"
):
    """The conversation has no current session any more."""

    @property
    def entity_mark(self) -> str:
        """FREE, whichever session it had."""
        return FREE


class ConversationCompacted(
    ConversationChange, frozen=True, kw_only=True, tag="conversation.compacted"
):
    """The conversation goes on in a fresh `session`, in place of `previous_session`."""

    previous_session: str | None = None


class JobQueued(Event, frozen=True, kw_only=True, tag="job.queued"):
    """Work for an agent; workers handle it with bounded attempts."""

    agent: str
    text: str
    mode: SessionMode = "job"
    metadata: dict[str, Any] = {}


class TranscriptChange(Event, frozen=True, kw_only=True):
    """What changes an agent's transcript: an ordered list of JSON items; not a type of its own.

    `transcript` names it within its conversation.
    """

    VERSIONED = "transcript"

    transcript: Name

    @property
    def entity(self) -> str:
        """The transcript: others of that name, in other conversations, are other entities."""
        return f"{self.VERSIONED}:{scoped(self.conversation, self.transcript)}"


class TranscriptAppended(TranscriptChange, frozen=True, kw_only=True, tag="transcript.appended"):
    """Items joined a transcript at its end, each as JSON text.

    `project` is a list to find it by; `metadata`, where there is any, takes the place of the former.
    """

    items: list[str]
    project: str | None = None
    metadata: dict[str, Any] = {}


class TranscriptPopped(TranscriptChange, frozen=True, kw_only=True, tag="transcript.popped"):
    """The transcript's last item was taken off."""


class TranscriptCleared(TranscriptChange, frozen=True, kw_only=True, tag="transcript.cleared"):
    """The transcript is empty, without project and metadata, as if it had never been."""


class ValuesChanged(Event, frozen=True, kw_only=True, tag="values.changed"):
    """Values kept under a name of the conversation changed; each is JSON text.

    Those given take the place of the former, others stay, or with `is_whole` go. `user` is whose
    they are.
    """

    name: str
    values: dict[str, str]
    is_whole: bool = False
    user: str | None = None


class GroupRetired(Event, frozen=True, kw_only=True, tag="group.retired"):
    """An operator removed a consumer group, leaving `unhandled_count` entries to nobody."""

    group: str
    reason: str
    unhandled_count: int = 0


class EventErased(Event, frozen=True, kw_only=True, tag="event.erased"):
    """What is left of an erased event whose fields this program could not tell from its content."""

    was: str | None = None
    """Its type, where it had one."""


class ErasureCompleted(Event, frozen=True, kw_only=True, tag="erasure.completed"):
    """What was asked to be forgotten is gone. It says how much, never whose.

    `erasure` names the record in the ledger of erasures. Counts are of what was found with content:
    of an erasure that was cut short and gone on with, what was left to do.
    """

    erasure: Name
    scope: str
    """`chat` or `user`."""
    entry_count: int = 0
    """Entries of the log that were rewritten."""
    row_count: int = 0
    """Rows of the archive that were."""
    segment_count: int = 0
    partition_count: int = 0
    """In which anything was found."""
    is_repeat: bool = False
    """Whether the ledger asked for it again, as after a restored backup."""
    reason: str | None = None
    operator: str | None = None


class BridgeEvent(Event, frozen=True, kw_only=True, tag="bridge.event"):
    """Anything else worth recording; `event_type` is open-ended, `data` free JSON."""

    event_type: str
    project: str | None = None
    data: dict[str, Any] = {}


VOCABULARY: tuple[type[Event], ...] = (
    MessageReceived,
    MessageQueued,
    MessageSent,
    DeliveryFailed,
    DeadLetterParked,
    DeadLetterReplayRequested,
    DeadLetterReplayed,
    DeadLetterResolved,
    DeadLetterDiscarded,
    SessionStarted,
    SessionPlaced,
    SessionTransitioned,
    SessionTouched,
    ToolCalled,
    ToolReturned,
    ConversationMapped,
    ConversationCleared,
    ConversationCompacted,
    JobQueued,
    TranscriptAppended,
    TranscriptPopped,
    TranscriptCleared,
    ValuesChanged,
    GroupRetired,
    EventErased,
    ErasureCompleted,
    BridgeEvent,
)
