"""The Claude Agent SDK's transcripts, kept in the log. Needs `eventlog[claude-agent-sdk]`."""

from __future__ import annotations

import hashlib
from typing import Any, cast

from bridge.adapters.missing_extra import missing_extra
from bridge.transcripts import TranscriptStore
from eventlog.json_text import from_json_text, to_json_text
from eventlog.log import EventLog
from eventlog.past import Past
from projections.views.transcripts import Transcript

try:
    from claude_agent_sdk import (
        SessionKey,
        SessionListSubkeysKey,
        SessionStore,
        SessionStoreEntry,
        SessionStoreListEntry,
        SessionSummaryEntry,
        fold_session_summary,
    )
except ImportError as error:
    raise missing_extra("claude-agent-sdk", error) from None

PREFIX = "claude"
MAIN = "main"
SUBPATH = "subpath:"
PAGE_TRANSCRIPTS = 500


class EventLogSessionStore(SessionStore):
    """A `SessionStore` of the SDK: `ClaudeAgentOptions(session_store=EventLogSessionStore(log))`.

    A session is one conversation, `claude:PROJECT/SESSION`, its main transcript and those of its
    subagents lie beside each other. An entry that comes again with its `uuid` is given out once.
    """

    def __init__(self, log: EventLog, *, past: Past | None = None) -> None:
        self._transcripts = TranscriptStore(log, past=past)

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Add entries at the end; a batch that came before, told by its entries' uuids, adds nothing."""
        place, is_main = _place(key), key.get("subpath") is None
        known = await self._transcripts.get(*place)

        def describe(metadata: dict[str, Any]) -> dict[str, Any]:
            former = _summary(metadata)
            return {"summary": to_json_text(fold_session_summary(former, key, entries))}

        await self._transcripts.append(
            *place,
            entries,
            project=key["project_key"] if is_main else None,
            describe=describe if is_main else None,
            idempotency_key=_batch_key(place, entries, known.cleared_count if known else 0),
        )

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """Return all entries in order; None where there are none."""
        entries = (await self._transcripts.items(*_place(key))).items
        return _once(entries) or None

    async def list_sessions(self, project_key: str) -> list[SessionStoreListEntry]:
        """Return the project's sessions, last changed first."""
        return [
            {"session_id": _session_id(each, project_key), "mtime": each.updated_at // 1000}
            for each in await self._listed(project=project_key)
        ]

    async def list_session_summaries(self, project_key: str) -> list[SessionSummaryEntry]:
        """Return the summary of each of the project's sessions, as the SDK folded it."""
        return [
            {**summary, "mtime": each.updated_at // 1000}
            for each in await self._listed(project=project_key)
            if (summary := _summary(each.metadata)) is not None
        ]

    async def delete(self, key: SessionKey) -> None:
        """Empty the transcript, and those of its subagents with the main one.

        The content stays in the log until it is erased or trimmed.
        """
        conversation, name = _place(key)
        names = [each.name for each in await self._listed(conversation=conversation)]
        gone = names if name == MAIN else {name}.intersection(names)
        await self._transcripts.clear(*((conversation, each) for each in gone))

    async def list_subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        """Return the subpaths of the session's subagents."""
        conversation = _conversation(key["project_key"], key["session_id"])
        return [
            each.name.removeprefix(SUBPATH)
            for each in await self._listed(conversation=conversation)
            if each.name != MAIN
        ]

    async def _listed(
        self, *, project: str | None = None, conversation: str | None = None
    ) -> list[Transcript]:
        found: list[Transcript] = []
        cursor = None
        while True:
            page = await self._transcripts.list(
                project=project, conversation=conversation, limit=PAGE_TRANSCRIPTS, cursor=cursor
            )
            # Other programs may use the project's name or the conversation.
            found += [each for each in page.items if each.conversation.startswith(f"{PREFIX}:")]
            cursor = page.cursor
            if cursor is None:
                return found


def _conversation(project_key: str, session_id: str) -> str:
    return f"{_project_prefix(project_key)}{session_id}"


def _project_prefix(project_key: str) -> str:
    # A project's slash is spelled otherwise, so the first one ends it.
    project = project_key.replace("%", "%25").replace("/", "%2F")
    return f"{PREFIX}:{project}/"


def _session_id(transcript: Transcript, project_key: str) -> str:
    return transcript.conversation.removeprefix(_project_prefix(project_key))


def _place(key: SessionKey) -> tuple[str, str]:
    """Return the transcript's conversation and name."""
    subpath = key.get("subpath")
    name = MAIN if subpath is None else f"{SUBPATH}{subpath}"
    return _conversation(key["project_key"], key["session_id"]), name


def _summary(metadata: dict[str, Any]) -> SessionSummaryEntry | None:
    text = metadata.get("summary")
    return None if text is None else cast("SessionSummaryEntry", from_json_text(text))


def _batch_key(
    place: tuple[str, str], entries: list[SessionStoreEntry], cleared_count: int
) -> str | None:
    """Return a key that the batch has again when it is sent again; None where its entries repeat.

    An entry without uuid may come twice and mean it. What was deleted may be added anew.
    """
    if not any(entry.get("uuid") for entry in entries):
        return None
    said = to_json_text([*place, cleared_count, entries], "batch of entries")
    return f"{PREFIX}:{hashlib.sha256(said.encode()).hexdigest()}"


def _once(entries: list[SessionStoreEntry]) -> list[SessionStoreEntry]:
    """Return the entries, of those with one uuid the first."""
    seen: set[str] = set()
    kept = []
    for entry in entries:
        uuid = entry.get("uuid")
        if uuid is None or uuid not in seen:
            kept.append(entry)
        if uuid is not None:
            seen.add(uuid)
    return kept
