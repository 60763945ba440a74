"""Under which name the database of a path was imported: remembered in Redis.

A database is named after its first row. If that row was deleted since, everything would come once
more under another name: that is noticed here, and told.
"""

from __future__ import annotations

from bridge.importers.rejections import asked
from bridge.importers.source import Source
from eventlog.errors import ImportFailed
from eventlog.log import EventLog


async def remember(log: EventLog, source: Source, name: str) -> None:
    """Keep the database's name. Raises what `require_name` raises."""
    if await require_name(log, source, name) != name:
        await asked(log, log.client.hset(log.keys.imported(), _path(source), name))


async def require_name(log: EventLog, source: Source, name: str) -> str | None:
    """Return the name it was imported under, None for one that never was.

    Raises ImportFailed where that is another, unless the mapping gives the name; LogUnavailable.
    """
    raw = await asked(log, log.client.hget(log.keys.imported(), _path(source)))
    known: str | None = raw.decode() if isinstance(raw, bytes) else raw
    if known not in (None, name) and source.mapping.name is None:
        raise ImportFailed(
            f"{source.path} was imported as {known!r}, but its first row is another now.",
            remedy=f"Go on with `--map name={known}` if it is the same database with old rows deleted,"
            f" with `--map name={name}` if it is another one.",
        )
    return known


def _path(source: Source) -> str:
    return str(source.path.resolve())
