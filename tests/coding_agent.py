"""A coding agent's server on this machine, which replays a recorded session and misbehaves as told.

What it lists grows as it does at a real one: a message appears empty, texts grow, tools go from
`pending` to `running` to their end, and then the message is completed. Every look shows the next
frame, or the fault that stands in its place.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bridge.coding_agent.client import AgentClient
from consumers.senders.http_client import HttpLimits
from eventlog.tasks import end
from tests.platforms import Answer, Behaviour, Hold, Platform, Request

DATA = Path(__file__).parent / "data" / "agent-opencode" / "session.json"
SESSION = "ses_6f1c2a9d0ffeB7kQm3tVxW8yZa"
QUESTION = "The test of totals fails since Tuesday. Why?"

Messages = list[dict[str, Any]]


def recording() -> Messages:
    """Return the messages of the recorded session, as they are at its end."""
    messages: Messages = json.loads(DATA.read_text(encoding="utf-8"))
    return messages


def frames(messages: Messages) -> list[Messages]:
    """Return what the agent listed while these came about, one after the other."""
    shown: Messages = []
    found: list[Messages] = [[]]
    for message in messages:
        found += [[*shown, stage] for stage in _stages(message)]
        shown.append(message)
    return copy.deepcopy(found)


def _stages(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a message as it grows; the last one is the message itself."""
    info = copy.deepcopy(message["info"])
    info["time"].pop("completed", None)
    info.pop("finish", None)
    parts: list[dict[str, Any]] = []
    yield {"info": info, "parts": []}
    for part in message["parts"]:
        for stage in _part_stages(part):
            yield {"info": info, "parts": [*parts, stage]}
        parts.append(part)
    yield message


def _part_stages(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if part["type"] == "tool":
        state = part["state"]
        start = {"start": state["time"]["start"]}
        yield {**part, "state": {"status": "pending", "input": {}, "raw": ""}}
        yield {**part, "state": {"status": "running", "input": state["input"], "time": start}}
    elif part["type"] in ("text", "reasoning") and "time" in part:
        half = part["text"][: len(part["text"]) // 2]
        yield {**part, "text": half, "time": {"start": part["time"]["start"]}}
    yield part


class CodingAgent:
    """The server: `frames` are what looks show in turn, the last one stays.

    A frame may be a behaviour of a misbehaving platform instead. Without a prompt it shows nothing.
    Faults for other requests go into `refusals`, one a request.
    """

    def __init__(self, shown: Sequence[Messages | Behaviour] = (), *, waits: bool = True) -> None:
        self.platform = Platform(self._answer)
        self.frames = list(shown) or [*frames(recording())]
        self.refusals: list[Behaviour] = []
        self.is_old = False
        """Whether it answers prompts when all is done, and not before."""
        self.prompts: list[dict[str, Any]] = []
        self.created_count = 0
        self.aborted_count = 0
        self.look_count = 0
        self.limits: list[str] = []
        self.at_end: list[asyncio.Task[Any]] = []
        """Tasks that go with the server."""
        self._clients: list[AgentClient] = []
        self._waits = waits
        """Whether the session only begins when it is prompted."""

    async def __aenter__(self) -> CodingAgent:
        await self.platform.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(*self.at_end)
        for client in self._clients:
            await client.close()
        self.platform.release()
        await self.platform.stop()

    def client(self, limits: HttpLimits | None = None, **arguments: Any) -> AgentClient:
        """Return a client of this server."""
        chosen = limits or HttpLimits(1.0, 1.0, 1 << 20)
        made = AgentClient(self.platform.url, limits=chosen, **arguments)
        self._clients.append(made)
        return made

    def _answer(self, request: Request) -> Behaviour:
        path, _, query = request.path.partition("?")
        if request.method == "GET" and path.endswith("/message"):
            self.limits.append(query)
            return self._look()
        if self.refusals:
            return self.refusals.pop(0)
        if path == "/session":
            self.created_count += 1
            return Answer(200, {"id": SESSION, "title": request.json["title"]})
        if path.endswith("/prompt_async") and not self.is_old:
            self.prompts.append(request.json)
            return Answer(204)
        if path.endswith("/message"):
            self.prompts.append(request.json)
            return Hold(Answer(200, recording()[-1]))
        if path.endswith("/abort"):
            self.aborted_count += 1
            return Answer(200, b"true")
        return Answer(404, {"name": "NotFoundError"})

    def _look(self) -> Behaviour:
        self.look_count += 1
        if self._waits and not self.prompts:
            return Answer(200, [])
        frame = self.frames.pop(0) if len(self.frames) > 1 else self.frames[0]
        return frame if not isinstance(frame, list) else Answer(200, frame)
