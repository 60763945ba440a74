"""The chat endpoint: a message from whatever front end has no bot library of its own."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from eventlog.errors import UserNotAllowed
from eventlog.event import Name
from service.http.appending import Appended, appended, status_of
from service.http.endpoint import json_response
from service.http.links import conversation_link, session_link
from service.http.operation import Routes
from service.wiring import Service

routes = Routes("chat")


class ChatMessageIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that a user says."""

    message: Annotated[str, Meta(min_length=1)]
    user_id: Name
    channel: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[^:]+$")]
    """The platform: `web`, `telegram`."""
    conversation_id: Name | None = None
    """The chat on that platform; None is the user's own."""
    message_id: Name | None = None
    """The platform's: a message that is sent again is recorded once."""
    shared: bool = False
    """Whether all users of the conversation share one session."""
    metadata: dict[str, Any] = {}


class ChatAccepted(msgspec.Struct, frozen=True):
    """Where the message went. What the agent says to it follows in the stream."""

    session: str
    conversation: str
    message: Appended
    stream: str
    """The path of the session's stream."""
    history: str
    """The path of what was said in the conversation."""


@routes.post("/v1/chat", answer=ChatAccepted, statuses=(201, 200, 202))
async def chat(service: Service, body: ChatMessageIn) -> Response:
    """Record what a user says, in their session, which is started where they have none.

    It returns as soon as the message is in the log; workers act on it.
    """
    received = await service.bridge.receive(
        body.channel,
        body.user_id,
        body.message,
        chat_id=body.conversation_id,
        message_id=body.message_id,
        shared=body.shared,
        metadata=body.metadata,
    )
    if received is None:
        raise UserNotAllowed(body.channel, body.user_id)
    session, result = received
    accepted = ChatAccepted(
        session.id,
        session.conversation,
        appended(None, result),
        f"{session_link(session.id)}/stream",
        f"{conversation_link(session.conversation)}/messages",
    )
    return json_response(accepted, status_of([result]))
