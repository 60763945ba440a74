"""OpenHands evaluation output (`output.jsonl`): one session a line, its history inside.

Times are naive and local to a machine unknown; they are taken as UTC. A session is named after its
instance and its start, since one instance is often run several times. What the agent did by a tool
is `tool.called`, the observation of it `tool.returned` with the time between them; talk is a
message; the rest `bridge.event` of type `openhands.<name>`. `error` on the record ends the session
as failed. Every event's `correlation_id` is `action:<name>:<id>` or `observation:<name>:<id>`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from bridge.importers.items import Imported, Item, Rejected, Unit
from bridge.importers.records import BadRecord, as_text, decode, moment_us
from bridge.importers.source import Source
from eventlog.event import Event
from eventlog.vocabulary import (
    BridgeEvent,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTransitioned,
    ToolCalled,
    ToolReturned,
)


class _Metadata(msgspec.Struct):
    agent_class: str | None = None


class _Instance(msgspec.Struct):
    repo: str | None = None


class _Record(msgspec.Struct):
    instance_id: str
    history: list[msgspec.Raw]
    instruction: str | None = None
    error: str | None = None
    metadata: _Metadata | None = None
    instance: _Instance | None = None


class _ToolCall(msgspec.Struct):
    tool_call_id: str
    function_name: str | None = None


class _Step(msgspec.Struct):
    id: int
    timestamp: str
    source: str | None = None
    message: str | None = None
    action: str | None = None
    observation: str | None = None
    cause: int | None = None
    content: Any = None
    args: dict[str, Any] | None = None
    extras: dict[str, Any] | None = None
    success: bool | None = None
    tool_call_metadata: _ToolCall | None = None

    @property
    def kind(self) -> str:
        return f"action:{self.action}" if self.action else f"observation:{self.observation}"


def parse(source: Source) -> Iterator[Item]:
    """Yield the items of the file; each session is a unit, positions count its steps."""
    for number, line in source.lines():
        try:
            record = decode(line, _Record)
            session = _Session(record, number)
        except BadRecord as error:
            yield Unit((f"openhands:{source.path.name}",))
            yield Rejected(number, number, str(error))
        else:
            yield from session.items()


class _Session:
    def __init__(self, record: _Record, line: int) -> None:
        if not record.history:
            raise BadRecord("a session without history")
        self._record = record
        self._line = line
        first = decode(record.history[0], _Step)
        self._name = f"openhands:{record.instance_id}:{first.timestamp.partition('.')[0]}"
        self._started_us = self._last_us = moment_us(first.timestamp)
        self._called_us: dict[int, int] = {}
        """When each action was taken, by its id."""

    def items(self) -> Iterator[Item]:
        yield Unit((self._name,), self._record.instance_id)
        yield Imported(0, self._line, (self._started(),), ())
        for position, raw in enumerate(self._record.history, 1):
            try:
                step = decode(raw, _Step)
                event = self._event(step)
            except BadRecord as error:
                yield Rejected(position, self._line, f"step {position} of the history: {error}")
                continue
            yield Imported(position, self._line, (event,), ("events", f"by.{step.kind}"))
        yield Imported(len(self._record.history) + 1, self._line, (self._ended(),), ())

    def _envelope(self, event_id: str, occurred_at: int) -> dict[str, Any]:
        return {
            "conversation": self._name,
            "session": self._name,
            "id": f"{self._name}:{event_id}",
            "occurred_at": occurred_at,
        }

    def _started(self) -> Event:
        record = self._record
        return SessionStarted(
            **self._envelope("started", self._started_us),
            mode="job",
            platform="openhands",
            project=record.instance.repo if record.instance else None,
            agent=record.metadata.agent_class if record.metadata else None,
            text=record.instruction,
            metadata={"instance": record.instance_id},
        )

    def _ended(self) -> Event:
        error = self._record.error
        return SessionTransitioned(
            **self._envelope("ended", self._last_us),
            to_status="failed" if error else "completed",
            from_status="active",
            reason=error,
        )

    def _event(self, step: _Step) -> Event:
        occurred_at = moment_us(step.timestamp)
        self._last_us = max(self._last_us, occurred_at)
        envelope = self._envelope(str(step.id), occurred_at)
        envelope["correlation_id"] = f"{step.kind}:{step.id}"
        if step.cause is not None:
            envelope["causation_id"] = f"{self._name}:{step.cause}"
        if step.action == "message":
            message = MessageReceived if step.source == "user" else MessageSent
            return message(
                **envelope, text=step.message or "", sender=step.source, platform="openhands"
            )
        if step.action == "finish":
            return MessageSent(
                **envelope,
                text=step.message or "",
                sender="agent",
                message_type="response",
                platform="openhands",
                metadata={"arguments": step.args or {}},
            )
        if step.tool_call_metadata is not None:
            return self._tool_event(step, step.tool_call_metadata, envelope)
        return self._other_event(step, envelope)

    def _tool_event(self, step: _Step, tool: _ToolCall, envelope: dict[str, Any]) -> Event:
        if step.action is not None:
            self._called_us[step.id] = envelope["occurred_at"]
            arguments = msgspec.json.encode(step.args or {}).decode()
            return ToolCalled(
                **envelope, call=tool.tool_call_id, name=step.action, arguments=arguments
            )
        called_us = self._called_us.pop(step.cause, None) if step.cause is not None else None
        return ToolReturned(
            **envelope,
            call=tool.tool_call_id,
            name=step.observation,
            result=as_text(step.content if step.content is not None else step.message or ""),
            is_error=step.success is False or step.observation == "error",
            duration_ms=None
            if called_us is None
            else (envelope["occurred_at"] - called_us) // 1000,
        )

    def _other_event(self, step: _Step, envelope: dict[str, Any]) -> Event:
        data = {
            "source": step.source,
            "message": step.message,
            "content": step.content,
            "args": step.args,
            "extras": step.extras,
        }
        return BridgeEvent(
            **envelope,
            event_type=f"openhands.{step.action or step.observation}",
            data={key: value for key, value in data.items() if value is not None},
        )
