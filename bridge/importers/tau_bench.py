"""tau-bench trajectories: one JSON list of user-agent dialogues with tool calls and a reward.

The source has no times. Each dialogue is given a start derived from its place (trial and task, a
minute apart, from 2024-05-15 15:00 EST, the time the agent's policy says it is) and each message a
second: the same on every import, and in order. Reward 1 ends the session as completed, any other as
failed. A tool call's id repeats within some dialogues, so the second gets `#2` and so on. Every
event's `correlation_id` is `<role>:<index of the message>`. The list is read whole; the line
reported for a fault is the dialogue's number in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from bridge.importers.items import Imported, Item, Rejected, Unit
from bridge.importers.records import BadRecord, as_text, decode
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

_START_S = 1_715_803_200
"""2024-05-15 15:00:00 EST in seconds UTC."""
_TRIAL_S = 86_400
_TASK_S = 60


class _Task(msgspec.Struct):
    user_id: str | None = None


class _Info(msgspec.Struct):
    task: _Task | None = None


class _Dialogue(msgspec.Struct):
    task_id: int
    trial: int
    traj: list[msgspec.Raw]
    reward: float | None = None
    info: _Info | None = None


class _Function(msgspec.Struct):
    name: str
    arguments: str


class _Call(msgspec.Struct):
    id: str
    function: _Function


class _Message(msgspec.Struct):
    role: str
    content: Any = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[_Call] | None = None


def parse(source: Source) -> Iterator[Item]:
    """Yield the items of the file; each dialogue is a unit, positions count its messages."""
    suite = source.path.name.removesuffix(".json")
    try:
        dialogues = decode(source.read(), list[msgspec.Raw])
    except BadRecord as error:
        yield Unit((f"tau-bench:{suite}",))
        yield Rejected(1, 1, str(error))
        return
    for number, raw in enumerate(dialogues, 1):
        try:
            dialogue = decode(raw, _Dialogue)
        except BadRecord as error:
            yield Unit((f"tau-bench:{suite}",))
            yield Rejected(number, number, f"dialogue {number}: {error}")
        else:
            yield from _Session(suite, dialogue, number).items()


class _Session:
    def __init__(self, suite: str, dialogue: _Dialogue, number: int) -> None:
        self._suite = suite
        self._dialogue = dialogue
        self._number = number
        self._name = f"tau-bench:{suite}:{dialogue.task_id}:{dialogue.trial}"
        self._start_s = _START_S + dialogue.trial * _TRIAL_S + dialogue.task_id * _TASK_S
        self._calls: Counter[str] = Counter()

    def items(self) -> Iterator[Item]:
        yield Unit((self._name,))
        yield Imported(0, self._number, (self._started(),), ("sessions",))
        for position, raw in enumerate(self._dialogue.traj, 1):
            try:
                message = decode(raw, _Message)
                events = self._events(message, position)
            except BadRecord as error:
                reason = f"dialogue {self._number}, message {position}: {error}"
                yield Rejected(position, self._number, reason)
                continue
            yield Imported(position, self._number, events, _kinds(message))
        kinds = ("reward1",) if self._dialogue.reward == 1 else ()
        end = len(self._dialogue.traj) + 1
        yield Imported(end, self._number, (self._ended(end),), kinds)

    def _envelope(self, event_id: str, position: int) -> dict[str, Any]:
        return {
            "conversation": self._name,
            "session": self._name,
            "id": f"{self._name}:{event_id}",
            "occurred_at": (self._start_s + position) * 1_000_000,
        }

    def _started(self) -> Event:
        dialogue = self._dialogue
        return SessionStarted(
            **self._envelope("started", 0),
            platform="tau-bench",
            project=self._suite,
            user=dialogue.info.task.user_id if dialogue.info and dialogue.info.task else None,
            metadata={"task": dialogue.task_id, "trial": dialogue.trial},
        )

    def _ended(self, position: int) -> Event:
        reward = self._dialogue.reward
        return SessionTransitioned(
            **self._envelope("ended", position),
            to_status="completed" if reward == 1 else "failed",
            from_status="active",
            reason=f"reward {reward:g}" if reward is not None else "no reward",
        )

    def _events(self, message: _Message, position: int) -> tuple[Event, ...]:
        envelope = self._envelope(str(position - 1), position)
        envelope["correlation_id"] = f"{message.role}:{position - 1}"
        text = None if message.content is None else as_text(message.content)
        match message.role:
            case "user":
                return (
                    MessageReceived(
                        **envelope, text=text or "", sender="user", platform="tau-bench"
                    ),
                )
            case "assistant":
                return self._spoken(message, text, envelope)
            case "tool":
                return (self._returned(message, text, envelope),)
            case role:
                data = {"role": role, "content": message.content}
                return (BridgeEvent(**envelope, event_type=f"tau-bench.{role}", data=data),)

    def _spoken(
        self, message: _Message, text: str | None, envelope: dict[str, Any]
    ) -> tuple[Event, ...]:
        events: list[Event] = []
        if text is not None:
            events.append(
                MessageSent(**envelope, text=text, sender="assistant", platform="tau-bench")
            )
        for index, call in enumerate(message.tool_calls or []):
            self._calls[call.id] += 1
            own = {**envelope, "id": f"{envelope['id']}:{index}"}
            function = call.function
            events.append(
                ToolCalled(
                    **own,
                    call=self._call(call.id),
                    name=function.name,
                    arguments=function.arguments,
                )
            )
        return tuple(events) or (BridgeEvent(**envelope, event_type="tau-bench.assistant"),)

    def _returned(self, message: _Message, text: str | None, envelope: dict[str, Any]) -> Event:
        if message.tool_call_id is None:
            raise BadRecord("a tool's answer without tool_call_id")
        return ToolReturned(
            **envelope,
            call=self._call(message.tool_call_id),
            name=message.name,
            result=text,
            is_error=(text or "").startswith("Error"),
        )

    def _call(self, call_id: str) -> str:
        times = self._calls[call_id]
        return call_id if times <= 1 else f"{call_id}#{times}"


def _kinds(message: _Message) -> tuple[str, ...]:
    kinds = [f"roles.{message.role}"]
    kinds += ["tool_calls"] * len(message.tool_calls or [])
    if message.content is None:
        kinds.append("null_content")
    if message.role == "tool" and as_text(message.content).startswith("Error"):
        kinds.append("tool_errors")
    return tuple(kinds)
