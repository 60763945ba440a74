"""The OpenAI Agents SDK's memory of a session, kept in the log. Needs `eventlog[openai-agents]`."""

from __future__ import annotations

import copy
from typing import Any

from bridge.adapters.missing_extra import missing_extra
from bridge.transcripts import TranscriptStore
from eventlog.errors import InvalidEvent, LogUnavailable
from eventlog.ids import new_event_id
from eventlog.log import EventLog
from eventlog.past import Past

try:
    from agents import SessionSettings, TResponseInputItem
    from agents.memory.session_settings import coerce_session_settings, resolve_session_limit
except ImportError as error:
    raise missing_extra("openai-agents", error) from None

PREFIX = "openai-agents"


class EventLogSession:
    """A `Session` of the SDK: give it to `Runner.run(…, session=…)`.

    Objects of one `session_id` and one `conversation` share a session, in whatever process.
    Without `conversation` the session is its own; with a chat's it lies beside the chat's messages.

    >>> session = EventLogSession("user-42", bridge.log, conversation="telegram:42")
    >>> await Runner.run(agent, "hello", session=session)
    """

    session_id: str
    session_settings: SessionSettings | None

    def __init__(
        self,
        session_id: str,
        log: EventLog,
        *,
        conversation: str | None = None,
        session_settings: SessionSettings | dict[str, Any] | None = None,
        past: Past | None = None,
    ) -> None:
        if not isinstance(session_id, str) or not session_id:
            raise InvalidEvent(
                f"{session_id!r} is no id of a session.", remedy="Give each user's session its own."
            )
        self.session_id = session_id
        self.session_settings = coerce_session_settings(session_settings or SessionSettings())
        self._transcripts = TranscriptStore(log, past=past)
        name = f"{PREFIX}:{session_id}"
        self._place = conversation or name, name
        self._unsure: tuple[list[TResponseInputItem], str] | None = None
        """Items that may have been added, and the key that tells."""

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the last `limit` items, oldest first; all, unless the session's settings say less."""
        most = resolve_session_limit(limit, self.session_settings)
        return (await self._transcripts.items(*self._place, most)).items

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Add items at the end.

        A call that raised LogUnavailable may be repeated on the same object: what was added after
        all is not added again. Raises InvalidEvent, EventTooLarge; then nothing was added.
        """
        unsure, self._unsure = self._unsure, None
        key = unsure[1] if unsure and unsure[0] == items else new_event_id()
        try:
            await self._transcripts.append(*self._place, items, idempotency_key=key)
        except LogUnavailable:
            self._unsure = copy.deepcopy(items), key
            raise

    async def pop_item(self) -> TResponseInputItem | None:
        """Take the last item off and return it; None where there is none."""
        item: TResponseInputItem | None = await self._transcripts.pop(*self._place)
        return item

    async def clear_session(self) -> None:
        """Forget all items."""
        await self._transcripts.clear(self._place)
