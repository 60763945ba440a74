"""What is asked of a coding agent's server: sessions, prompts, messages, and to stop.

The paths are OpenCode's; servers that answer alike will do.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

from bridge.coding_agent.reading import MARK, Prompt
from bridge.coding_agent.shapes import Snapshot, decode_json, decode_snapshot
from consumers.senders.http_client import HttpClient, HttpLimits, Reply
from consumers.senders.refusal import refused
from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.errors import ConfigurationError, SendFailed
from eventlog.logs import get_logger
from eventlog.tasks import end

DEFAULT_USER = "opencode"
"""Whom a server expects that was given a password and no user's name."""

LONGEST_TURN_S = 24 * 3600.0
"""How long a server may take over a prompt that it answers when all is done."""

UNKNOWN_PATH = frozenset({"404", "405"})

LIMITS = HttpLimits(connect_timeout_s=5.0, total_timeout_s=30.0, max_reply_bytes=32 * 1024 * 1024)

_log = get_logger("coding_agent")


class AgentClient:
    """Speaks to one agent's server. Every call may raise SendFailed, which says if trying again helps.

    >>> async with AgentClient("http://127.0.0.1:4096") as agent:
    ...     session = await agent.create_session("fix the build")
    ...     await agent.prompt(session, Prompt("event-1", "Why does the build fail?"))
    """

    def __init__(
        self,
        url: str,
        *,
        password: str | None = None,
        user: str = DEFAULT_USER,
        limits: HttpLimits = LIMITS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Raise ConfigurationError for a URL that is none, or that names a user beside `password`."""
        self._clock = clock
        self._headers: dict[str, str] = {"Accept": "application/json"}
        secrets = []
        if password:
            token = b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
            secrets = [password, token]
        self._http = HttpClient(url, secrets=secrets, limits=limits)
        self._patient_http = HttpClient(
            url, secrets=secrets, limits=limits._replace(total_timeout_s=LONGEST_TURN_S)
        )
        if password and urlsplit(url).username is not None:
            raise ConfigurationError(
                "the agent's URL names a user, and a password is given as well.",
                remedy="Leave the user out of the URL, or unset the password.",
            )
        self._turns: set[asyncio.Task[None]] = set()

    @property
    def origin(self) -> str:
        """Scheme, host and port: what may be shown."""
        return self._http.origin

    async def create_session(self, title: str) -> str:
        """Return the id of a new session."""
        reply = await self._http.post_json({"title": title}, self._headers, path="session")
        answer = decode_json(self._body(reply))
        found = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(found, str) or not found:
            raise self._failed("made a session without an id", "invalid_reply")
        return found

    async def messages(self, session: str, *, last: int | None = None) -> Snapshot:
        """Return a session's messages, or its `last` ones where the server can count; it may send more."""
        query = None if last is None else {"limit": str(last)}
        reply = await self._http.get(self._headers, path=_path(session, "message"), query=query)
        snapshot = decode_snapshot(self._body(reply))
        if snapshot is None:
            raise self._failed("sent what is no list of messages", "invalid_reply")
        return snapshot

    async def prompt(self, session: str, prompt: Prompt) -> None:
        """Give a session something to do and do not wait until it is done.

        A server without `prompt_async` answers when it is done: that is waited for in the background.
        """
        body: dict[str, Any] = {
            "parts": [{"type": "text", "text": prompt.text, "metadata": {MARK: prompt.id}}]
        }
        path = _path(session, "prompt_async")
        try:
            self._body(await self._http.post_json(body, self._headers, path=path))
        except SendFailed as failure:
            if failure.status not in UNKNOWN_PATH:
                raise
            turn = asyncio.create_task(self._wait_for_turn(session, body))
            self._turns.add(turn)
            turn.add_done_callback(self._turns.discard)

    async def _wait_for_turn(self, session: str, body: dict[str, Any]) -> None:
        try:
            path = _path(session, "message")
            self._body(await self._patient_http.post_json(body, self._headers, path=path))
        except SendFailed as failure:  # whoever looks at the messages learns how far it came
            _log.warning("agent_prompt_failed", reason=failure.reason, error=str(failure))

    async def abort(self, session: str) -> None:
        """Stop what a session is at."""
        self._body(await self._http.post_json({}, self._headers, path=_path(session, "abort")))

    async def close(self) -> None:
        """Close the connections; a turn that is waited for goes on without us."""
        await end(*self._turns)
        await self._patient_http.close()
        await self._http.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _body(self, reply: Reply) -> bytes:
        """Return the body of a reply that says yes and came whole."""
        if reply.status // 100 != 2:
            failure = refused(self._http, reply, self._clock.now_us())
            if reply.status == HTTPStatus.NOT_FOUND:
                failure.permanent = False  # who was just started has not read its sessions yet
            raise failure
        if reply.fault is not None:
            raise reply.fault
        return reply.body

    def _failed(self, what: str, reason: str) -> SendFailed:
        return SendFailed(f"{self.origin} {what}.", reason=reason)


def _path(session: str, what: str) -> str:
    return f"session/{quote(session, safe='')}/{what}"
