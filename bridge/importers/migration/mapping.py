"""How somebody's tables are to be read: a mapping file, and words of the command line.

A file is TOML or JSON. Everything in it is optional: what it leaves out, the names of tables and
columns say (`layout`).

    platform = "telegram"           # a chat's conversation is platform:chat
    time_zone = "Europe/Berlin"     # of times that name none; UTC
    own_names = ["valor"]           # senders that are the bot, where no direction says so
    name = "my-bot"                 # this database for ever, whatever becomes of its first rows

    [tables.tg_log]
    kind = "message"                # message, session, dead_letter, bridge_event, skip
    [tables.tg_log.columns]         # field = column
    text = "body"
    [tables.tg_log.constants]       # field = value
    platform = "discord"
    [tables.tg_log.values.direction]   # what a value stands for
    1 = "in"

A word is a file, `TABLE=KIND`, `TABLE.FIELD=COLUMN`, or `platform=`, `time_zone=`, `name=` and
`own_names=A,B`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import Any, cast, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from bridge.importers.migration.layout import OWN_NAMES, SPELLINGS, Kind
from bridge.importers.migration.records import Reading
from eventlog.errors import ConfigurationError

_OPTIONS = ("platform", "time_zone", "name", "own_names")
_REMEDY = "A word is a file, TABLE=KIND, TABLE.FIELD=COLUMN or platform=NAME and the like."


class TableMapping(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How one table is read; what is not said is found out from the names."""

    kind: Kind | None = None
    columns: dict[str, str] = {}
    """Field → column."""
    constants: dict[str, str] = {}
    """Field → the value it has in every row."""
    values: dict[str, dict[str, str]] = {}
    """Field → value in the table → value it stands for."""


class Mapping(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How a database is read, by table."""

    platform: str = "telegram"
    time_zone: str = "UTC"
    own_names: tuple[str, ...] = OWN_NAMES
    name: str | None = None
    """Names the database for ever; by default its first rows do."""
    tables: dict[str, TableMapping] = {}

    @property
    def reading(self) -> Reading:
        """What holds for all its records."""
        names = frozenset(name.lower() for name in self.own_names)
        zone = UTC if self.time_zone == "UTC" else ZoneInfo(self.time_zone)
        return Reading(self.platform, zone, names)


def load_mapping(words: Sequence[str]) -> Mapping:
    """Return the mapping that files and words make, later ones over earlier ones.

    Raises ConfigurationError for a file that cannot be read, an unknown key, kind or field.
    """
    document: dict[str, Any] = {}
    for word in words:
        _lay_over(document, _from_word(word) if "=" in word else _from_file(Path(word)))
    try:
        mapping = msgspec.convert(document, Mapping)
        ZoneInfo(mapping.time_zone)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"the mapping is wrong: {error}.", remedy=_REMEDY) from None
    except (ZoneInfoNotFoundError, ValueError):
        raise ConfigurationError(
            f"{document['time_zone']!r} is no time zone.", remedy="Give one like Europe/Berlin."
        ) from None
    _check_fields(mapping)
    return mapping


def _from_file(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
        decode: Any = msgspec.json.decode if path.suffix == ".json" else msgspec.toml.decode
        document = decode(content)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.", remedy=_REMEDY) from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigurationError(
            f"{path} is no mapping: {error}.", remedy="Write TOML, or JSON as *.json."
        ) from None
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} is no mapping: its JSON is no object.", remedy=_REMEDY)
    return cast("dict[str, Any]", document)


def _from_word(word: str) -> dict[str, Any]:
    left, _, right = word.partition("=")
    table, dot, field = left.rpartition(".")
    if left == "own_names":
        return {left: right.split(",")}
    if left in _OPTIONS:
        return {left: right}
    if dot:
        return {"tables": {table: {"columns": {field: right}}}}
    return {"tables": {left: {"kind": right}}}


def _lay_over(below: dict[str, Any], above: dict[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _lay_over(below[key], value)
        else:
            below[key] = value


def _check_fields(mapping: Mapping) -> None:
    for table, given in mapping.tables.items():
        kinds = (given.kind,) if given.kind else get_args(Kind)
        fields = {field for kind in kinds for field in SPELLINGS.get(kind, {})}
        for field in (*given.columns, *given.constants, *given.values):
            if field not in fields:
                raise ConfigurationError(
                    f"the mapping of {table!r} names the field {field!r}, which there is not.",
                    remedy=f"Fields: {', '.join(sorted(fields))}.",
                )
