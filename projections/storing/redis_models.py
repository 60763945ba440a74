"""Read models in Redis or Valkey, beside the stream they are folded from."""

from __future__ import annotations

from collections.abc import Sequence

from eventlog.connection import in_our_words
from eventlog.ids import EntryId
from eventlog.keys import ModelKey, model_pattern
from eventlog.log import EventLog
from eventlog.scripts import load_script
from projections.storing.batch import (
    AlreadyApplied,
    CheckpointGap,
    Commit,
    CommitOutcome,
    Committed,
    EntriesGone,
    GroupGone,
    LeaseLost,
    Superseded,
)
from projections.storing.build import Build
from projections.storing.departed_file import Place
from projections.storing.packing import FACET_MARK, pack, pack_commit
from projections.storing.redis_leaving import RedisLeaving
from projections.storing.redis_reads import RedisReads
from projections.storing.redis_shelf import RedisShelf
from projections.storing.store import Names


class RedisModels(RedisShelf, RedisReads, RedisLeaving):
    """The read models of a log: the shelf, live reads, what leaves, and here the projector's commits."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self._commit = load_script("projections", "commit")
        self._fetch = load_script("projections", "fetch")

    async def commit(self, commit: Commit) -> CommitOutcome:
        """Return what became of the batch; it is applied whole, in one step, or not at all."""
        keys, packed = pack_commit(commit, self._log.keys)
        reply = await self._run(self._commit, keys, packed)
        match reply[0]:
            case b"committed":
                return Committed()
            case b"already_applied":
                return AlreadyApplied()
            case b"fenced":
                return LeaseLost()
            case b"superseded":
                return Superseded(reply[1].decode())
            case b"entries_gone":
                return EntriesGone()
            case b"group_gone":
                return GroupGone()
            case _:
                return CheckpointGap(reply[1].decode(), EntryId.parse(reply[2]))

    async def documents(
        self, partition: int, wanted: Sequence[tuple[str, Sequence[str]]]
    ) -> list[list[bytes | None]]:
        """Return stored documents by (model, keys), None where there is none; one round trip."""
        if not wanted:
            return []
        stored = [self._log.keys.documents(partition, model) for model, _ in wanted]
        found: list[list[bytes | None]] = await self._run(
            self._fetch, stored, pack([keys for _, keys in wanted])
        )
        return found

    async def names(self, partition: int, build: Build) -> Names:
        """Return what is stored of a build, by name; what is written meanwhile may be missing."""
        keys, client = self._log.keys, self._log.client
        documents: set[str] = set()
        found: dict[str, set[str]] = {"index": set(), "feed": set()}
        with in_our_words(self._log.settings):
            stored = client.hscan_iter(keys.documents(partition, build.model), count=1000)
            async for key, _ in stored:
                documents.add(key.decode())
            pattern = model_pattern(keys.log, partition, build.model)
            async for key in client.scan_iter(pattern, count=1000):
                parsed = ModelKey.parse(keys.log, key.decode())
                if parsed and parsed.kind in found:
                    found[parsed.kind].add(parsed.name)
        indexes = {name for name in found["index"] if not name.startswith(FACET_MARK)}
        left = await self._departures.names(Place(partition, build.model))
        return Names(documents | left.documents, indexes | left.indexes, found["feed"] | left.feeds)
