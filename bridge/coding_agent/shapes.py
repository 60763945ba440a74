"""What `GET /session/{id}/message` answers, as far as it is needed. Pure.

A list of messages, oldest first, each `{"info": …, "parts": […]}`. Servers differ in what they add
and leave out: whatever is not named here is ignored, whatever has a default may be missing. Times
are milliseconds since 1970.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, field

Milliseconds = int | float | None


class Time(Struct):
    """When something was made, began and ended."""

    created: Milliseconds = None
    completed: Milliseconds = None
    start: Milliseconds = None
    end: Milliseconds = None


class ToolState(Struct):
    """How far a tool is: `pending`, `running`, `completed` or `error`."""

    status: str
    input: Any = None
    output: Any = None
    error: Any = None
    time: Time = field(default_factory=Time)

    @property
    def has_returned(self) -> bool:
        """Whether the tool came to an end."""
        return self.status in ("completed", "error")


class Part(Struct):
    """A piece of a message: `text`, `tool` and `file` are read, of the others the type alone."""

    type: str
    id: str | None = None
    text: str | None = None
    synthetic: bool | None = None
    ignored: bool | None = None
    time: Time | None = None
    metadata: Any = None
    tool: str | None = None
    call: str | None = field(default=None, name="callID")
    state: ToolState | None = None
    url: str | None = None
    filename: str | None = None
    mime: str | None = None


class Info(Struct):
    """What a message is; an assistant's is `completed` when its step has ended."""

    id: str
    role: str
    time: Time = field(default_factory=Time)
    parent: str | None = field(default=None, name="parentID")
    """Of an answer: the user's message that it answers."""
    finish: str | None = None
    """Why the step ended: `stop` and the like, `tool-calls` where another one follows."""
    error: Any = None


class AgentMessage(Struct):
    """A message and its parts."""

    info: Info
    parts: list[Part] = []


class Snapshot(NamedTuple):
    """What the agent said of a session at one moment."""

    messages: list[AgentMessage]
    unreadable_count: int = 0
    """Messages of a shape that nobody knows; they are left out."""


def decode_snapshot(body: bytes) -> Snapshot | None:
    """Return the messages that `body` lists, None where it is no JSON list of objects."""
    listed = decode_json(body)
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        return None
    messages, unreadable_count = [], 0
    for each in listed:
        try:
            messages.append(msgspec.convert(each, AgentMessage))
        except msgspec.ValidationError:
            unreadable_count += 1
    return Snapshot(messages, unreadable_count)


def decode_json(body: bytes) -> Any:
    """Return what `body` says, None where it says nothing that is JSON.

    Text cut in the middle of a character, which JavaScript writes as half a surrogate pair, is
    mended with `?`.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        pass
    try:
        mended = json.dumps(json.loads(body), ensure_ascii=False).encode(errors="replace")
        return msgspec.json.decode(mended)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None
