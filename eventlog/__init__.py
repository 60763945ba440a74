"""The log: events appended to Redis Streams, read back in order, followed as they come."""

from eventlog.blocking import BlockingEventLog
from eventlog.codec import Codec
from eventlog.cursor import Cursor
from eventlog.entry import Entry, RawEntry
from eventlog.errors import EventLogError
from eventlog.event import Event, UnknownEvent, schema_version
from eventlog.ids import START, EntryId
from eventlog.log import EventLog
from eventlog.settings import Settings, load_settings
from eventlog.vocabulary import (
    Attachment,
    BridgeEvent,
    ConversationCleared,
    ConversationCompacted,
    ConversationMapped,
    DeadLetterDiscarded,
    DeadLetterParked,
    DeadLetterReplayed,
    DeadLetterReplayRequested,
    DeadLetterResolved,
    DeliveryFailed,
    FailedAttempt,
    GroupRetired,
    JobQueued,
    MessageQueued,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTouched,
    SessionTransitioned,
    ToolCalled,
    ToolReturned,
    TranscriptAppended,
    TranscriptCleared,
    TranscriptPopped,
    ValuesChanged,
)
from eventlog.writer import AppendResult

__all__ = [
    "START",
    "AppendResult",
    "Attachment",
    "BlockingEventLog",
    "BridgeEvent",
    "Codec",
    "ConversationCleared",
    "ConversationCompacted",
    "ConversationMapped",
    "Cursor",
    "DeadLetterDiscarded",
    "DeadLetterParked",
    "DeadLetterReplayRequested",
    "DeadLetterReplayed",
    "DeadLetterResolved",
    "DeliveryFailed",
    "Entry",
    "EntryId",
    "Event",
    "EventLog",
    "EventLogError",
    "FailedAttempt",
    "GroupRetired",
    "JobQueued",
    "MessageQueued",
    "MessageReceived",
    "MessageSent",
    "RawEntry",
    "SessionStarted",
    "SessionTouched",
    "SessionTransitioned",
    "Settings",
    "ToolCalled",
    "ToolReturned",
    "TranscriptAppended",
    "TranscriptCleared",
    "TranscriptPopped",
    "UnknownEvent",
    "ValuesChanged",
    "load_settings",
    "schema_version",
]
