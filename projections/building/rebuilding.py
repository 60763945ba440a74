"""Rebuild, roll back, cancel, drop, retire: what an operator does with the builds of a read model.

Each is a call that can be made again: what was half done is found on the shelves and gone on with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from eventlog.errors import BuildMissing, ConfigurationError, HistoryGap
from eventlog.ids import START
from eventlog.log import EventLog
from eventlog.past import Past
from projections.building.builder import Builder, Progress
from projections.projection import Projection
from projections.storing.build import ROLES, Build, Role, Shelf
from projections.storing.default_store import default_store
from projections.storing.store import ModelStore


class Rebuilt(NamedTuple):
    """What became of a rebuild or a roll-back."""

    model: str
    """The model that serves now, `name@version`."""
    position_count: int
    """Entries it has folded, or thereabouts."""
    swept_key_count: int
    """Keys deleted of builds that are of no use any more."""


async def rebuild(
    log: EventLog,
    projection: Projection,
    *,
    past: Past | None = None,
    store: ModelStore | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Rebuilt:
    """Return when a new build of the projection serves, made from the archive and then the log.

    Who reads and projects goes on meanwhile; what served before can be rolled back to. Where a build
    of this version is in the making, by whomever, it is joined. Raises HistoryGap before anything
    is begun where entries are neither in the archive nor in the log, ConfigurationError where
    another version is being built, ProjectionStopped.
    """
    await begin(log, projection, past=past, store=store)
    return await finish(log, projection, past=past, store=store, on_progress=on_progress)


async def begin(
    log: EventLog,
    projection: Projection,
    *,
    past: Past | None = None,
    store: ModelStore | None = None,
) -> None:
    """Begin a rebuild, as `rebuild` does, and leave it to whoever builds: `finish`, or a projector."""
    await check_history(log, past)
    build = Build.begin(projection.name, projection.version, log.clock.now_us())
    builds = dict.fromkeys(range(log.partition_count), build)
    await _begin(log, store or default_store(log), builds)


async def finish(
    log: EventLog,
    projection: Projection,
    *,
    past: Past | None = None,
    store: ModelStore | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Rebuilt:
    """Return when no build of the projection's version is in the making any more.

    Any number of processes may call it for one rebuild; where none is in the making it returns at
    once. Raises as `rebuild`.
    """
    store = store or default_store(log)
    await Builder(log, projection, past=past, store=store).run(on_progress)
    swept = await store.sweep(projection.name)
    return Rebuilt(projection.model, sum(head.n for head in await log.heads()), swept)


async def rollback(
    log: EventLog,
    projection: Projection,
    *,
    past: Past | None = None,
    store: ModelStore | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Rebuilt:
    """Return when the build that served before the last swap serves again.

    It catches up first, if it is of the projection's version. One of another version is swapped in
    as it stands: programs of that version go on with it. Calling it again undoes it. Raises
    BuildMissing where there is none to roll back to; else as `rebuild`.
    """
    store = store or default_store(log)
    shelves = await _shelves(log, store)
    previous = _in_role(shelves, projection.name, "previous")
    if not previous:
        raise BuildMissing(
            f"{projection.name} has no build to roll back to.",
            remedy="There is one between a rebuild and `projections drop`.",
        )
    await _begin(log, store, previous, is_exact=True)
    if all(build.version == projection.version for build in previous.values()):
        return await finish(log, projection, past=past, store=store, on_progress=on_progress)
    await store.swap(previous)
    [model, *_] = {f"{build.name}@{build.version}" for build in previous.values()}
    folded_count = sum(shelves[p].checkpoint(build).n for p, build in previous.items())
    return Rebuilt(model, folded_count, 0)


async def cancel(log: EventLog, name: str, *, store: ModelStore | None = None) -> int:
    """Give up what is being built of a projection; return how many keys that freed.

    Raises BuildMissing where nothing is.
    """
    return await _put_away(log, name, "building", store or default_store(log))


async def drop(log: EventLog, name: str, *, store: ModelStore | None = None) -> int:
    """Delete what a projection could be rolled back to; return how many keys that freed.

    Raises BuildMissing where there is nothing.
    """
    return await _put_away(log, name, "previous", store or default_store(log))


async def retire(log: EventLog, name: str, *, store: ModelStore | None = None) -> int:
    """Delete everything stored of a projection that no program has any more.

    Until then its checkpoint holds the group back, and with it what may be trimmed. Return how many
    keys that freed. Raises BuildMissing where nothing is stored of it.
    """
    store = store or default_store(log)
    shelves = await _shelves(log, store)
    if not any(name in shelf.names() for shelf in shelves):
        raise BuildMissing(f"nothing is stored of a projection {name!r}.")
    for role in ROLES:
        for partition, build in _in_role(shelves, name, role).items():
            await store.put_away(partition, build, role)
    return await store.sweep(name)


async def check_history(log: EventLog, past: Past | None) -> None:
    """Ensure that every entry there ever was is in the archive or in the log. Raises HistoryGap."""
    heads = await log.heads()

    async def check(partition: int) -> str | None:
        archived = START if past is None else await past.position(partition)
        if archived.n > heads[partition].n:
            return f"partition {partition}: the archive goes to {archived.n}, the log to {heads[partition].n}"
        oldest = await log.read_raw(partition, START, 1)
        first = oldest[0].id.n if oldest else heads[partition].n + 1
        if first > archived.n + 1:
            return f"partition {partition}: entries {archived.n + 1} to {first - 1}"
        return None

    found = await asyncio.gather(*(check(p) for p in range(log.partition_count)))
    missing = [gap for gap in found if gap]
    if missing:
        raise HistoryGap(
            f"history has gaps. {'; '.join(missing)}.",
            remedy="Name the archive that holds them, or restore its missing segments.",
        )


async def _begin(
    log: EventLog, store: ModelStore, builds: dict[int, Build], *, is_exact: bool = False
) -> None:
    """Begin builds; one of the same version that is in the making is joined unless `is_exact`.

    Raises ConfigurationError, before anything is begun, where another one is.
    """

    def check(making: Build | None, build: Build) -> None:
        if making and (making.version != build.version or (is_exact and making != build)):
            raise ConfigurationError(
                f"{making.name}@{making.version} is being built, so {build.name}@{build.version} "
                "cannot take its place now.",
                remedy=f"Let it end, or `eventlog projections cancel {build.name}`.",
            )

    shelves = await _shelves(log, store)
    for partition, build in builds.items():
        check(shelves[partition].get(build.name, "building"), build)
    for partition, build in builds.items():
        check(await store.begin(partition, build), build)  # somebody may have been quicker


async def _put_away(log: EventLog, name: str, role: Role, store: ModelStore) -> int:
    builds = _in_role(await _shelves(log, store), name, role)
    if not builds:
        raise BuildMissing(
            f"{name} has no {'build in the making' if role == 'building' else 'previous build'}."
        )
    for partition, build in builds.items():
        await store.put_away(partition, build, role)
    return await store.sweep(name)


async def _shelves(log: EventLog, store: ModelStore) -> Sequence[Shelf]:
    return await asyncio.gather(*(store.shelf(p) for p in range(log.partition_count)))


def _in_role(shelves: Sequence[Shelf], name: str, role: Role) -> dict[int, Build]:
    found = {partition: shelf.get(name, role) for partition, shelf in enumerate(shelves)}
    return {partition: build for partition, build in found.items() if build is not None}
