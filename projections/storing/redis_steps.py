"""What the parts of RedisModels share: the log, where builds are, and how a script is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eventlog.connection import in_our_words
from eventlog.log import EventLog
from eventlog.scripts import Script
from projections.storing.build import READABLE, Build, Shelf, role_field
from projections.storing.departures import Departures


class FoundBuild(NamedTuple):
    """The build that a version reads, or one of which nothing is stored where there is none."""

    model: str
    marks: dict[str, str | None]
    """By field of the shelf: that it holds these says that this is still the place to look."""

    @property
    def packed(self) -> list[Any]:
        """As the scripts want it: the model, then fields of the shelf and what each must hold."""
        return [self.model, [part or False for pair in self.marks.items() for part in pair]]


class RedisSteps:
    """Steps on one partition each. Lost connections are not mended here: the caller starts anew."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._departures = Departures(log)
        self._found: dict[tuple[int, str, int], FoundBuild] = {}

    async def shelf(self, partition: int) -> Shelf:
        """Return the partition's builds and their checkpoints."""
        with in_our_words(self._log.settings):
            stored: Any = await self._log.client.hgetall(self._log.keys.shelf(partition))
        return shelf_of(stored)

    async def _find(self, partition: int, name: str, version: int) -> FoundBuild:
        """Return where a version's build is; it is remembered, since the scripts check it."""
        return self._place(partition, await self.shelf(partition), name, version)

    def _place(self, partition: int, shelf: Shelf, name: str, version: int) -> FoundBuild:
        role = shelf.role_of(name, version)
        if role is None:
            found = {each: shelf.get(name, each) for each in READABLE}
            marks = {role_field(name, each): build and build.mark for each, build in found.items()}
            place = FoundBuild(Build(name, version, "0").model, marks)
        else:
            build = shelf.builds[name, role]
            place = FoundBuild(build.model, {role_field(name, role): build.mark})
        self._found[partition, name, version] = place
        return place

    def _common(self, partition: int) -> tuple[str, str, str]:
        keys = self._log.keys
        return keys.shelf(partition), keys.stream(partition), keys.head(partition)

    async def _on_shelf(self, script: Script, partition: int, *arguments: str) -> Any:
        with in_our_words(self._log.settings):
            return await script(self._log.client, [self._log.keys.shelf(partition)], arguments)

    async def _run(self, script: Script, keys: Sequence[str], *packed: bytes) -> Any:
        with in_our_words(self._log.settings):
            return await script(self._log.client, keys, packed)

    async def _call(self, *command: Any) -> Any:
        with in_our_words(self._log.settings):
            return await self._log.client.execute_command(*command)


def shelf_of(stored: Mapping[bytes, bytes]) -> Shelf:
    """Return the shelf that a hash holds."""
    return Shelf({field.decode(): value.decode() for field, value in stored.items()})
