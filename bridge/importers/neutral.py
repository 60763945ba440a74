"""Neutral JSON lines, plain or `.gz`: `{"id", "ts" (ms UTC), "kind", "chat", ...}`, one event a line.

Kinds: `msg.in`, `msg.out`, `session.pending|active|running|dormant|completed|failed`, `tool.call`,
`tool.result`, `delivery.failed`. Platforms redeliver, so an id may come again within a minute of the
file's own time: such a line is dropped and counted as `duplicates`. Memory is bounded by what
happens within two such windows, and by `WINDOW_IDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from bridge.importers.items import UNREADABLE, Imported, Item, Rejected, Unit, one_line
from bridge.importers.source import Source
from eventlog.event import Event
from eventlog.session import SessionStatus
from eventlog.vocabulary import (
    DeliveryFailed,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTransitioned,
    ToolCalled,
    ToolReturned,
)

WINDOW_MS = 60_000
"""How long after the original, in the file's time, a redelivered line is still told as one."""

WINDOW_IDS = 500_000
"""Ids kept at most per window, whatever the rate."""


class Line(msgspec.Struct, gc=False):
    """One line; which of the optional keys it has depends on its kind."""

    id: str
    ts: int
    kind: str
    chat: str
    session: str | None = None
    sender: str | None = None
    text: str | None = None
    call: str | None = None
    name: str | None = None
    args: str | None = None
    result: str | None = None
    error: bool = False
    ref: str | None = None
    reason: str | None = None
    code: str | None = None
    transient: bool = False
    attempt: int = 1


class RecentIds:
    """The ids of the last window, in two generations, so that forgetting one costs nothing."""

    def __init__(self, window_ms: int = WINDOW_MS, capacity: int = WINDOW_IDS) -> None:
        self._window_ms = window_ms
        self._capacity = capacity
        self._current: set[str] = set()
        self._previous: set[str] = set()
        self._turn_ms = 0

    def __len__(self) -> int:
        return len(self._current) + len(self._previous)

    def seen(self, event_id: str, ts_ms: int) -> bool:
        """Return whether the id came within the window; remember it if not."""
        if event_id in self._current or event_id in self._previous:
            return True
        if ts_ms >= self._turn_ms or len(self._current) >= self._capacity:
            self._previous, self._current = self._current, set()
            self._turn_ms = ts_ms + self._window_ms
        self._current.add(event_id)
        return False


def is_neutral(line: bytes) -> bool:
    """Return whether the line is one of this format, of a known kind or not."""
    try:
        _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True


def parse(source: Source) -> Iterator[Item]:
    """Yield the items of the file; positions are line numbers."""
    yield Unit(source.names("neutral", is_neutral))
    seen = RecentIds().seen
    kinds = {kind: (kind,) for kind in _BUILDERS}
    for number, raw in source.lines():
        try:
            line = _decode(raw)
            builder = _BUILDERS.get(line.kind)
            event = builder(line) if builder else None
        except UnicodeDecodeError:
            yield Rejected(number, number, UNREADABLE)
        except (msgspec.MsgspecError, _Missing) as error:
            yield Rejected(number, number, one_line(error))
        else:
            if event is None:
                yield Rejected(number, number, f"unknown kind {line.kind!r}")
            elif seen(line.id, line.ts):
                yield Imported(number, number, (), ("duplicates",))
            else:
                yield Imported(number, number, (event,), kinds[line.kind])


_decode = msgspec.json.Decoder(Line).decode


class _Missing(ValueError):
    """A key that the line's kind needs is not there."""


def _need(value: str | None, key: str, line: Line) -> str:
    if value is None:
        raise _Missing(f"{line.kind} without {key!r}")
    return value


def _message_in(line: Line) -> Event:
    return MessageReceived(
        conversation=line.chat,
        id=line.id,
        occurred_at=line.ts * 1000,
        session=line.session,
        text=_need(line.text, "text", line),
        sender=line.sender,
    )


def _message_out(line: Line) -> Event:
    return MessageSent(
        conversation=line.chat,
        id=line.id,
        occurred_at=line.ts * 1000,
        session=line.session,
        text=_need(line.text, "text", line),
        sender=line.sender,
    )


def _session_started(line: Line) -> Event:
    return SessionStarted(
        conversation=line.chat,
        id=line.id,
        occurred_at=line.ts * 1000,
        session=_need(line.session, "session", line),
        status="pending",
        user=line.sender,
    )


def _session_to(status: SessionStatus, reason: str | None = None) -> Callable[[Line], Event]:
    def transitioned(line: Line) -> Event:
        return SessionTransitioned(
            conversation=line.chat,
            id=line.id,
            occurred_at=line.ts * 1000,
            session=_need(line.session, "session", line),
            to_status=status,
            reason=reason,
        )

    return transitioned


def _tool_called(line: Line) -> Event:
    return ToolCalled(
        conversation=line.chat,
        id=line.id,
        occurred_at=line.ts * 1000,
        session=line.session,
        call=_need(line.call, "call", line),
        name=_need(line.name, "name", line),
        arguments=line.args,
    )


def _tool_returned(line: Line) -> Event:
    return ToolReturned(
        conversation=line.chat,
        id=line.id,
        occurred_at=line.ts * 1000,
        session=line.session,
        call=_need(line.call, "call", line),
        name=line.name,
        result=line.result,
        is_error=line.error,
    )


def _delivery_failed(line: Line) -> Event:
    return DeliveryFailed(
        conversation=line.chat,
        id=line.id,
        occurred_at=line.ts * 1000,
        session=line.session,
        reason=_need(line.reason, "reason", line),
        delivery=line.ref,
        code=line.code or None,
        attempt=line.attempt,
        permanent=not line.transient,
    )


_BUILDERS: dict[str, Callable[[Line], Event]] = {
    "msg.in": _message_in,
    "msg.out": _message_out,
    "session.pending": _session_started,
    "session.active": _session_to("active"),
    "session.running": _session_to("active", "running"),
    "session.dormant": _session_to("dormant"),
    "session.completed": _session_to("completed"),
    "session.failed": _session_to("failed"),
    "tool.call": _tool_called,
    "tool.result": _tool_returned,
    "delivery.failed": _delivery_failed,
}
