"""Transcripts, written and read: an agent's memory of a session as an ordered list of JSON items."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from eventlog.errors import EventTooLarge, VersionConflict
from eventlog.ids import new_event_id
from eventlog.json_text import to_json_text
from eventlog.log import EventLog
from eventlog.past import Past
from eventlog.vocabulary import TranscriptAppended, TranscriptCleared, TranscriptPopped
from projections.views.transcripts import Transcripts

PIECE_BYTES = 64 * 1024
"""Items go into one event up to this: whoever reads the last one reads its event whole."""
STEP_BYTES = 3 * 1024 * 1024
"""What surely goes into the log in one step."""
STEP_EVENTS = 400

T = TypeVar("T")
R = TypeVar("R")

Describe = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes a transcript's metadata of the metadata it had."""


class TranscriptStore(Transcripts):
    """The transcripts of a log, each by its conversation and a name of its own there.

    With `past`, the archive, a transcript is whole however old it is. Every call may raise
    LogUnavailable.

    >>> store = TranscriptStore(log)
    >>> await store.append("telegram:42", "main", [{"role": "user", "content": "hi"}])
    >>> await store.pop("telegram:42", "main")
    {'role': 'user', 'content': 'hi'}
    """

    def __init__(self, log: EventLog, *, past: Past | None = None) -> None:
        super().__init__(log, past=past)

    async def append(
        self,
        conversation: str,
        name: str,
        items: Sequence[Any],
        *,
        project: str | None = None,
        describe: Describe | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Add items at the end; none of them where there are none.

        Up to 3 MiB are added whole or not at all, more in several such steps, in order. With an
        `idempotency_key` of yours a repeated call adds nothing. `describe` is asked for the
        transcript's new metadata, again where somebody else wrote meanwhile. Raises InvalidEvent for
        what does not fit into JSON, EventTooLarge for an item that no event can hold; then nothing
        is added.
        """
        if not items:
            return
        first = TranscriptAppended(
            conversation=conversation,
            transcript=name,
            items=[],
            project=project,
            id=idempotency_key or new_event_id(),
            occurred_at=self._log.clock.now_us(),
        )
        events = list(self._events(first, items))
        if describe is None:
            await self._log.append(events)
            return
        if sum(map(_size, events)) > STEP_BYTES or len(events) > STEP_EVENTS:
            *before, last = events
            await self._log.append(before)
            events = [last]
        await self._append_described(events, describe)

    async def pop(self, conversation: str, name: str, default: Any = None) -> Any:
        """Take the last item off and return it; `default` where there is none.

        Of several that pop at once each gets another item. Raises HistoryGap.
        """

        async def read() -> tuple[list[Any], int]:
            found = await self.items(conversation, name, 1)
            return found.items, found.version

        async def take(items: list[Any], version: int) -> Any:
            if not items:
                return default
            popped = TranscriptPopped(
                conversation=conversation, transcript=name, occurred_at=self._log.clock.now_us()
            )
            await self._log.append(popped, expected_version=version)
            return items[0]

        return await _decided(read, take)

    async def clear(self, *transcripts: tuple[str, str]) -> None:
        """Empty transcripts, each given as conversation and name; those of one conversation at once."""
        await self._log.append(
            [
                TranscriptCleared(
                    conversation=conversation,
                    transcript=name,
                    occurred_at=self._log.clock.now_us(),
                )
                for conversation, name in transcripts
            ]
        )

    async def _append_described(self, events: list[TranscriptAppended], describe: Describe) -> None:
        last = events[-1]

        async def read() -> tuple[dict[str, Any], int]:
            known = await self.get(last.conversation, last.transcript)
            return ({}, 0) if known is None else (known.metadata, known.version)

        async def write(metadata: dict[str, Any], version: int) -> None:
            described = msgspec.structs.replace(last, metadata=describe(metadata))
            await self._log.append([*events[:-1], described], expected_version=version)

        await _decided(read, write)

    def _events(
        self, first: TranscriptAppended, items: Sequence[Any]
    ) -> Iterator[TranscriptAppended]:
        """Yield the items in events like the first, each below the log's limit."""
        room_bytes = self._log.codec.max_event_bytes - len(self._log.codec.encode(first))
        texts = [to_json_text(item, "item of a transcript") for item in items]
        for number, piece in enumerate(cut_items(texts, min(PIECE_BYTES, room_bytes), room_bytes)):
            event_id = f"{first.id}:{number}" if number else first.id
            yield msgspec.structs.replace(first, id=event_id, items=piece)


def cut_items(texts: Sequence[str], piece_bytes: int, most_bytes: int) -> Iterator[list[str]]:
    """Yield the texts in pieces of `piece_bytes` as JSON, a longer one alone. Pure.

    Raises EventTooLarge for a text of more than `most_bytes`.
    """
    piece: list[str] = []
    used_bytes = 0
    for number, text in enumerate(texts, 1):
        size_bytes = len(msgspec.json.encode(text)) + 1
        if size_bytes > most_bytes:
            raise EventTooLarge(
                f"item {number} of {len(texts)} takes {size_bytes:,} bytes as JSON; "
                f"an event has room for {most_bytes:,}.",
                remedy="Keep files in object storage and their references in items, or raise "
                "max_event_bytes.",
            )
        if piece and used_bytes + size_bytes > piece_bytes:
            yield piece
            piece, used_bytes = [], 0
        piece.append(text)
        used_bytes += size_bytes
    if piece:
        yield piece


def _size(event: TranscriptAppended) -> int:
    return sum(len(text) for text in event.items) + 1000


async def _decided(
    read: Callable[[], Awaitable[tuple[T, int]]], write: Callable[[T, int], Awaitable[R]]
) -> R:
    """Return what `write` returns, given a state and its version; after a conflict both begin anew.

    A version that a conflict told before the state was read holds for that state, if it still holds
    when it is written: so this ends even where a read model counts its versions from elsewhere.
    """
    told: int | None = None
    while True:
        state, version = await read()
        try:
            return await write(state, version if told is None else told)
        except VersionConflict as conflict:
            told = conflict.actual_version
