"""Values, written and read: small documents of JSON under names, such as the state of a dialogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventlog.json_text import from_json_text, to_json_text
from eventlog.log import EventLog
from eventlog.vocabulary import ValuesChanged
from projections.views.values import Values


class ValueStore:
    """The values of a log, each under a name of its own in a conversation.

    Changes are events, so two that change different values at once both stay. Every call may raise
    LogUnavailable.

    >>> store = ValueStore(log)
    >>> await store.update("telegram:42", "order", {"size": "large"})
    {'size': 'large'}
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._view = Values(log)

    async def get(self, conversation: str, name: str) -> dict[str, Any]:
        """Return what is kept under the name; empty where nothing is."""
        kept = await self._view.get(conversation, name)
        if kept is None:
            return {}
        return {key: from_json_text(text) for key, text in kept.values.items()}

    async def replace(
        self, conversation: str, name: str, values: Mapping[str, Any], *, user: str | None = None
    ) -> None:
        """Keep these and nothing else.

        `user` is whose they are: they go when that person is erased. Raises InvalidEvent for what
        does not fit into JSON.
        """
        await self._log.append(
            ValuesChanged(
                conversation=conversation,
                name=name,
                values=_texts(values),
                is_whole=True,
                user=user,
                occurred_at=self._log.clock.now_us(),
            )
        )

    async def update(
        self, conversation: str, name: str, changes: Mapping[str, Any], *, user: str | None = None
    ) -> dict[str, Any]:
        """Keep these beside what there is and return all; else as `replace`."""
        if changes:
            await self._log.append(
                ValuesChanged(
                    conversation=conversation,
                    name=name,
                    values=_texts(changes),
                    user=user,
                    occurred_at=self._log.clock.now_us(),
                )
            )
        return await self.get(conversation, name)


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: to_json_text(value, f"value {key!r}") for key, value in values.items()}
