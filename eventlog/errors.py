"""Every error the product raises, as one tree.

    EventLogError                     code
    ├── ConfigurationError            configuration
    │   ├── PartitionMismatch         partition_mismatch
    │   ├── UnsupportedServer         unsupported_server
    │   ├── UnsafeEviction            unsafe_eviction
    │   ├── UnsupportedDurability     unsupported_durability
    │   └── UpcasterGap               upcaster_gap
    ├── LogUnavailable                log_unavailable
    │   ├── AuthenticationFailed      authentication_failed
    │   ├── OutOfMemory               out_of_memory
    │   ├── LogRestoring              log_restoring
    │   └── EmbeddedServerFailed      embedded_server_failed
    ├── ArchiveUnavailable            archive_unavailable
    ├── InvalidEvent                  invalid_event
    │   ├── EventTooLarge             event_too_large
    │   ├── EmptyConversation         empty_conversation
    │   └── UndecodablePayload        undecodable_payload
    ├── VersionConflict               version_conflict
    ├── ProducerGap                   producer_gap
    ├── IllegalTransition             illegal_transition
    ├── SessionExists                 session_exists
    ├── SessionMissing                session_missing
    ├── UnknownPlatform               unknown_platform
    ├── UserNotAllowed                user_not_allowed
    ├── AttemptFailed                 attempt_failed
    │   └── SendFailed                send_failed
    ├── GroupInUse                    group_in_use
    ├── GroupMissing                  group_missing
    ├── HistoryGap                    history_gap
    ├── Fenced                        fenced
    ├── ProjectionStopped             projection_stopped
    ├── BuildMissing                  build_missing
    ├── InvalidQuery                  invalid_query
    │   └── InvalidCursor             invalid_cursor
    ├── LogNotOpen                    log_not_open
    │   └── WrongEventLoop            wrong_event_loop
    ├── BackupDamaged                 backup_damaged
    ├── RestoreRefused                restore_refused
    ├── ImportFailed                  import_failed
    └── QueryFailed                   query_failed
        ├── QueryRefused              query_refused
        ├── QueryTooLarge             query_too_large
        └── QueryTimeout              query_timeout

Catch `EventLogError` to catch them all. `code` is stable and safe to switch on; the text ends with
what to do about it. Credentials never appear in either. Expected outcomes (a duplicate, an applied
batch) are return values, not errors. The shape follows httpx's exception tree.
"""

from __future__ import annotations

from typing import Literal, Self


class EventLogError(Exception):
    """The root: `code` names the kind, `remedy` says what to do."""

    code = "eventlog"

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.message = message
        self.remedy = remedy


class ConfigurationError(EventLogError):
    """A setting, a server or a registry that cannot work as it is."""

    code = "configuration"


class PartitionMismatch(ConfigurationError):
    """The log was created with another partition count."""

    code = "partition_mismatch"


class UnsupportedServer(ConfigurationError):
    """The server is too old or lacks a command the log needs."""

    code = "unsupported_server"


class UnsafeEviction(ConfigurationError):
    """The server may evict keys under memory pressure, which loses events."""

    code = "unsafe_eviction"


class UnsupportedDurability(ConfigurationError):
    """The server cannot give the durability that was asked for."""

    code = "unsupported_durability"


class UpcasterGap(ConfigurationError):
    """An old schema has no chain of upcasters to the current one."""

    code = "upcaster_gap"


class LogUnavailable(EventLogError):
    """The server did not answer; whether the last write happened is unknown but a retry is safe."""

    code = "log_unavailable"


class AuthenticationFailed(LogUnavailable):
    """The server refused the credentials."""

    code = "authentication_failed"


class OutOfMemory(LogUnavailable):
    """The server is at `maxmemory` and takes no more writes."""

    code = "out_of_memory"


class LogRestoring(LogUnavailable):
    """The log is being restored, or a restore was cut short: it is not whole yet."""

    code = "log_restoring"

    @classmethod
    def of(cls, log: str) -> Self:
        """Return the error for a log of that name."""
        return cls(
            f"log {log!r} is being restored, or a restore of it was cut short.",
            remedy="Wait for it, or run the same `eventlog restore` again: it goes on from there.",
        )


class EmbeddedServerFailed(LogUnavailable):
    """The private server could not be started."""

    code = "embedded_server_failed"


class ArchiveUnavailable(EventLogError):
    """The archive's bucket, or this machine's copies of it, cannot be used now; try again later."""

    code = "archive_unavailable"


class InvalidEvent(EventLogError):
    """An event that cannot be appended or read; nothing of its batch was written."""

    code = "invalid_event"


class EventTooLarge(InvalidEvent):
    """An encoded event is over the size limit."""

    code = "event_too_large"


class EmptyConversation(InvalidEvent):
    """An event without a conversation has no partition."""

    code = "empty_conversation"


class UndecodablePayload(InvalidEvent):
    """Bytes that are not an event."""

    code = "undecodable_payload"


class VersionConflict(EventLogError):
    """The entity changed since it was read: read again, decide again."""

    code = "version_conflict"

    def __init__(
        self, entity: str, expected_version: int | Literal["free"], actual_version: int
    ) -> None:
        super().__init__(
            f"{entity} is at version {actual_version}, not {expected_version}.",
            remedy="Read it again and decide anew.",
        )
        self.entity = entity
        self.expected_version = expected_version
        self.actual_version = actual_version


class ProducerGap(EventLogError):
    """A producer's batch starts beyond what the log has of it; an earlier batch was lost."""

    code = "producer_gap"

    def __init__(self, producer: str, expected: int, actual: int) -> None:
        super().__init__(
            f"producer {producer!r} is at {actual} in the log, but its batch follows {expected}.",
            remedy="Ask the log for the producer's positions and send from there.",
        )
        self.expected = expected
        self.actual = actual


class IllegalTransition(EventLogError):
    """A session cannot go from its status to the one asked for."""

    code = "illegal_transition"

    def __init__(self, session: str, from_status: str, to_status: str) -> None:
        super().__init__(
            f"session {session!r} cannot go from {from_status} to {to_status}.",
            remedy="Terminal sessions stay so; start a new one.",
        )
        self.from_status = from_status
        self.to_status = to_status


class SessionExists(EventLogError):
    """A session of that id was started before; the log keeps the one it has."""

    code = "session_exists"

    def __init__(self, session: str, conversation: str | None = None) -> None:
        where = "" if conversation is None else f" in conversation {conversation!r}"
        super().__init__(
            f"there is a session {session!r} already{where}.",
            remedy="Get it by its id, or start one under another id.",
        )
        self.session = session


class SessionMissing(EventLogError):
    """There is no session of that id."""

    code = "session_missing"

    def __init__(self, session: str) -> None:
        super().__init__(
            f"there is no session {session!r}.", remedy="Start it, or resolve one for its user."
        )
        self.session = session


class UnknownPlatform(EventLogError, ValueError):
    """A platform that the bridge was not opened for."""

    code = "unknown_platform"


class UserNotAllowed(EventLogError):
    """Somebody may not use the bot; nothing was recorded of them."""

    code = "user_not_allowed"

    def __init__(self, platform: str, user: str) -> None:
        super().__init__(
            f"user {user!r} of {platform} may not use the bot.",
            remedy="Drop the message, or name them in `bridge.allow`.",
        )
        self.platform = platform
        self.user = user


class AttemptFailed(EventLogError):
    """Raised by a handler that knows how it failed; any other exception is worth another attempt.

    `permanent`: trying again cannot help. `retry_after_s`: not before so many seconds.
    """

    code = "attempt_failed"

    def __init__(
        self,
        message: str,
        *,
        permanent: bool = False,
        retry_after_s: float | None = None,
        remedy: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.permanent = permanent
        self.retry_after_s = retry_after_s


class SendFailed(AttemptFailed):
    """A platform did not take a message. `reason` is a word to count by, `status` the platform's."""

    code = "send_failed"

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        status: str | int | None = None,
        permanent: bool = False,
        retry_after_s: float | None = None,
        remedy: str = "",
    ) -> None:
        super().__init__(message, permanent=permanent, retry_after_s=retry_after_s, remedy=remedy)
        self.reason = reason
        self.status = None if status is None else str(status)


class GroupInUse(EventLogError):
    """A consumer group has live members."""

    code = "group_in_use"


class GroupMissing(EventLogError):
    """There is no such consumer group."""

    code = "group_missing"


class HistoryGap(EventLogError):
    """Entries that a reader needs are no longer in the log or the archive."""

    code = "history_gap"


class Fenced(EventLogError):
    """The lease went to another owner; nothing of the batch was applied."""

    code = "fenced"


class ProjectionStopped(EventLogError):
    """A projection cannot go on, or is not to; nothing after that place was folded."""

    code = "projection_stopped"

    def __init__(self, model: str, why: str, *, remedy: str) -> None:
        super().__init__(f"{model} stopped {why}.", remedy=remedy)
        self.model = model


class BuildMissing(EventLogError):
    """A read model has no such build: nothing to roll back to, nothing to verify."""

    code = "build_missing"


class InvalidQuery(EventLogError):
    """A question to a read model that cannot be answered as asked."""

    code = "invalid_query"


class InvalidCursor(InvalidQuery):
    """A page's cursor that was not given out by the same query."""

    code = "invalid_cursor"


class LogNotOpen(EventLogError):
    """The log was used before `open` or after `close`."""

    code = "log_not_open"


class WrongEventLoop(LogNotOpen):
    """The log is in use in another event loop, which is still running."""

    code = "wrong_event_loop"


class BackupDamaged(EventLogError):
    """A backup is not as it was written, or is none."""

    code = "backup_damaged"


class RestoreRefused(EventLogError):
    """Restoring would destroy what the backup does not have; nothing was changed."""

    code = "restore_refused"


class ImportFailed(EventLogError):
    """A source could not be read, or `--strict` met a bad line."""

    code = "import_failed"


class QueryFailed(EventLogError):
    """DuckDB refused a query."""

    code = "query_failed"


class QueryRefused(QueryFailed):
    """An untrusted query asked for more than to read the views."""

    code = "query_refused"


class QueryTooLarge(QueryFailed):
    """An untrusted query, or its result, is beyond its limits of memory, rows or bytes."""

    code = "query_too_large"


class QueryTimeout(QueryFailed):
    """An untrusted query was ended at its time limit."""

    code = "query_timeout"
