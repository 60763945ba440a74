"""What belongs to no partition of a log: its groups, its imports, and its ledger of erasures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from redis.asyncio import Redis

from analytics.backup.state import in_chunks
from eventlog.connection import in_our_words
from eventlog.erasure_ledger import LEDGER_NAME, Ledger
from eventlog.erasure_scope import Scope
from eventlog.errors import BackupDamaged
from eventlog.keys import Keys
from eventlog.log import EventLog
from eventlog.settings import Settings


class Erasure(msgspec.Struct, frozen=True):
    """An erasure that the ledger has: digests, no names."""

    scope: Scope
    is_completed: bool
    begun_at: int


class Registries(msgspec.Struct, frozen=True, kw_only=True):
    """Hashes of the log as a whole, and its erasures."""

    groups: dict[str, str] = {}
    rejected: dict[str, str] = {}
    imported: dict[str, str] = {}
    erasures: list[Erasure] = []


def ledger_at(settings: Settings) -> Ledger:
    """Return the ledger beside a log's data."""
    return Ledger(settings.data_path / LEDGER_NAME, settings.key_prefix)


async def read_registries(log: EventLog) -> Registries:
    """Return what the log and its ledger have."""
    keys = log.keys
    with in_our_words(log.settings):
        found = [
            await _hash(log.client, key)
            for key in (keys.groups(), keys.rejected(), keys.imported())
        ]
    return Registries(
        groups=found[0],
        rejected=found[1],
        imported=found[2],
        erasures=[Erasure(*each) for each in ledger_at(log.settings).read()],
    )


async def _hash(client: Redis, key: str) -> dict[str, str]:
    found: Any = await client.hgetall(key)
    return {name.decode(): value.decode() for name, value in found.items()}


def load_registries(path: Path) -> Registries:
    """Return what a backup's file holds. Raises BackupDamaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Registries)
    except (OSError, msgspec.MsgspecError) as error:
        raise BackupDamaged(
            f"the backup's file {path.name} cannot be read ({error}).",
            remedy="Restore another backup.",
        ) from None


async def write_registries(client: Redis, keys: Keys, registries: Registries) -> None:
    """Give the log these in place of what it has; it may be repeated."""
    named: dict[str, dict[str, str]] = {
        keys.groups(): registries.groups,
        keys.rejected(): registries.rejected,
        keys.imported(): registries.imported,
    }
    for key, items in named.items():
        pipeline = client.pipeline(transaction=True)
        pipeline.unlink(key)
        for chunk in in_chunks(items):
            mapping: dict[Any, Any] = dict(chunk)
            pipeline.hset(key, mapping=mapping)
        await pipeline.execute()


def merge_erasures(settings: Settings, registries: Registries) -> int:
    """Return how many erasures the ledger did not have: what it has itself is never replaced."""
    ledger = ledger_at(settings)
    there = {each.scope.erasure for each in ledger.read()}
    missing = [each for each in registries.erasures if each.scope.erasure not in there]
    ledger.write("begun", [(each.scope, each.begun_at) for each in missing])
    ledger.write("completed", [(e.scope, e.begun_at) for e in missing if e.is_completed])
    return len(missing)
