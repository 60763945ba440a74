"""Claude Code transcripts (`<session>.jsonl`, and `agent-<id>.jsonl` of subagents).

Records are not in time order; the file's order is kept and each keeps its own time. One record is
one line and gives at least one event: text blocks are messages, `tool_use` is `tool.called`,
`tool_result` (inside `user` records) `tool.returned`; any other block or record is a `bridge.event`
of type `claude-code.<name>`. Every event's `correlation_id` is `<record type>:<record's uuid>` (its
line where it has none), so that records can be counted. A subagent is a session of its own,
`claude-code:<session>/<agent>`. The source does not say how a session ended: it stays active.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import msgspec

from bridge.importers.items import Imported, Item, Rejected, Unit
from bridge.importers.records import BadRecord, as_text, convert, decode, moment_us
from bridge.importers.source import Source
from eventlog.event import Event
from eventlog.vocabulary import (
    BridgeEvent,
    MessageReceived,
    MessageSent,
    SessionStarted,
    ToolCalled,
    ToolReturned,
)


class _Message(msgspec.Struct):
    content: str | list[dict[str, Any]] | None = None
    id: str | None = None
    model: str | None = None


class _Snapshot(msgspec.Struct):
    timestamp: str | None = None


class _Record(msgspec.Struct, rename="camel"):
    type: str
    uuid: str | None = None
    parent_uuid: str | None = None
    session_id: str | None = None
    agent_id: str | None = None
    timestamp: str | None = None
    message: _Message | None = None
    snapshot: _Snapshot | None = None
    cwd: str | None = None
    git_branch: str | None = None
    version: str | None = None
    is_meta: bool | None = None


class _Block(msgspec.Struct):
    type: str
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None
    tool_use_id: str | None = None
    content: Any = None
    is_error: bool | None = None


_LEFT_OUT = frozenset({"uuid", "parentUuid", "sessionId", "timestamp", "signature"})
"""Keys that the envelope has already, and signatures, which say nothing to a reader."""


def parse(source: Source) -> Iterator[Item]:
    """Yield the items of a transcript; positions are line numbers."""
    session = _Session(source)
    yield Unit((session.name,))
    if session.first is not None:
        yield Imported(0, 1, (session.started(session.first),), ())
    for number, line in source.lines():
        try:
            yield session.item(number, line)
        except BadRecord as error:
            yield Rejected(number, number, str(error))


class _Session:
    def __init__(self, source: Source) -> None:
        self.first = next(_records_with_session(source), None)
        """The first record that names its session."""
        if self.first is None:
            self.name = f"claude-code:{source.path.name.removesuffix('.jsonl')}"
        else:
            agent = f"/{self.first.agent_id}" if self.first.agent_id else ""
            self.name = f"claude-code:{self.first.session_id}{agent}"
        self._timestamp: str | None = None
        self._last_us = (
            moment_us(self.first.timestamp) if self.first and self.first.timestamp else 0
        )

    def started(self, record: _Record) -> Event:
        """Return the session's first event."""
        parent = f"claude-code:{record.session_id}" if record.agent_id else None
        facts = {"cwd": record.cwd, "version": record.version, "parent_session": parent}
        return SessionStarted(
            conversation=self.name,
            session=self.name,
            id=f"{self.name}:started",
            occurred_at=self._last_us,
            platform="claude-code",
            project=PurePath(record.cwd).name if record.cwd else None,
            agent=record.agent_id,
            branch_name=record.git_branch,
            metadata={key: value for key, value in facts.items() if value is not None},
        )

    def item(self, number: int, line: bytes) -> Imported:
        """Return the record on the line; raises BadRecord."""
        record = decode(line, _Record)
        timestamp = record.timestamp or (record.snapshot.timestamp if record.snapshot else None)
        occurred_at = moment_us(timestamp) if timestamp else self._last_us
        kinds = [f"records.{record.type}"]
        if record.timestamp is None:
            kinds.append("records.no_timestamp")
        elif self._timestamp is not None and record.timestamp < self._timestamp:
            kinds.append("order_inversions")
        key = record.uuid or str(number)
        envelope = {
            "conversation": self.name,
            "session": self.name,
            "id": f"{self.name}:{key}",
            "occurred_at": occurred_at,
            "causation_id": f"{self.name}:{record.parent_uuid}" if record.parent_uuid else None,
            "correlation_id": f"{record.type}:{key}",
        }
        events, block_kinds = _events(record, line, envelope)
        self._last_us = occurred_at
        self._timestamp = record.timestamp or self._timestamp
        return Imported(number, number, events, (*kinds, *block_kinds))


def _records_with_session(source: Source) -> Iterator[_Record]:
    for line in source.head():
        try:
            record = decode(line, _Record)
        except BadRecord:
            continue  # reported when the line's own turn comes
        if record.session_id is not None:
            yield record


def _events(
    record: _Record, line: bytes, envelope: dict[str, Any]
) -> tuple[tuple[Event, ...], list[str]]:
    """Return a record's events and what they count as."""
    message = record.message
    if record.type not in ("user", "assistant") or message is None or not message.content:
        document = decode(line, dict[str, Any])
        return (_bridge_event(record.type, document, envelope),), []
    if isinstance(message.content, str):
        return (_message(record, message, message.content, envelope),), []
    events: list[Event] = []
    kinds: list[str] = []
    for index, document in enumerate(message.content):
        block = convert(document, _Block)
        own = envelope if index == 0 else {**envelope, "id": f"{envelope['id']}:{index}"}
        match block:
            case _Block(type="text", text=str(text)):
                events.append(_message(record, message, text, own))
                kinds.append("text_blocks")
            case _Block(type="tool_use", id=str(call), name=str(name)):
                arguments = msgspec.json.encode(block.input).decode()
                events.append(ToolCalled(**own, call=call, name=name, arguments=arguments))
                kinds.append("tool_use")
            case _Block(type="tool_result", tool_use_id=str(call)):
                result = None if block.content is None else as_text(block.content)
                is_error = bool(block.is_error)
                events.append(ToolReturned(**own, call=call, result=result, is_error=is_error))
                kinds += ["tool_result", "tool_error"] if is_error else ["tool_result"]
            case _:
                events.append(_bridge_event(block.type, document, own))
    return tuple(events), kinds


def _message(record: _Record, message: _Message, text: str, envelope: dict[str, Any]) -> Event:
    sent = record.type == "assistant"
    facts = {
        "record": record.type,
        "block": "text" if isinstance(message.content, list) else None,
        "model": message.model,
        "is_meta": record.is_meta or None,
    }
    return (MessageSent if sent else MessageReceived)(
        **envelope,
        text=text,
        sender=record.type,
        message_id=message.id,
        platform="claude-code",
        metadata={key: value for key, value in facts.items() if value is not None},
    )


def _bridge_event(name: str, document: dict[str, Any], envelope: dict[str, Any]) -> Event:
    data = {key: value for key, value in document.items() if key not in _LEFT_OUT}
    return BridgeEvent(**envelope, event_type=f"claude-code.{name}", data=data)
