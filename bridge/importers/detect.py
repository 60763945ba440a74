"""Which files to import, and what each is: decided by content, not by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import msgspec

from bridge.importers import (
    bounce,
    bridge_lines,
    claude_code,
    irc,
    neutral,
    openhands,
    sqlite,
    tau_bench,
)
from bridge.importers.items import Item
from bridge.importers.migration import database
from bridge.importers.migration.mapping import Mapping
from bridge.importers.migration.tables import SKIPPED
from bridge.importers.source import Source
from eventlog.errors import ImportFailed

PARSERS: dict[str, Callable[[Source], Iterator[Item]]] = {
    "irc": irc.parse,
    "openhands": openhands.parse,
    "claude-code": claude_code.parse,
    "tau-bench": tau_bench.parse,
    "bounce": bounce.parse,
    "neutral": neutral.parse,
    "sqlite": sqlite.parse,
    "bridge": bridge_lines.parse,
}
"""Format name → its parser."""

NO_KNOWN_FORMAT = "no known format"
BESIDE = "lies beside the records"
OF_DATABASE = "read with its database"
MEANT = frozenset({BESIDE, OF_DATABASE, SKIPPED})
"""Reasons for leaving out what is meant to be."""

_BESIDE_DATA = (
    "README*",
    "LICENSE*",
    "COPYING*",
    "NOTICE*",
    "*.annotation.txt",
    "COUNTS.json",
    "expected.json",
)
"""Files that lie beside records and are none."""

_HEADER_FIELD = re.compile(rb"(?:From |[!-9;-~]+:(?:\s|$))")
_MAIL_FIELDS = re.compile(
    rb"(?:Return-Path|Received|From|Date|Message-ID|Delivered-To|Subject):", re.IGNORECASE
)
_CLAUDE_KEYS = frozenset({"sessionId", "messageId", "uuid"})


class Found(NamedTuple):
    """Files of known formats, ordered by label, and the others with the reason."""

    sources: list[Source]
    skipped: list[tuple[str, str]]


def detect_format(path: Path) -> str | None:
    """Return the name of the file's format, None for an unknown one. Raises ImportFailed."""
    if path.suffix == ".eml":
        return "bounce"
    if database.is_database(path):
        return "sqlite"
    head = Source(path).head()
    if any(irc.is_timed(line) for line in head):
        return "irc"
    for line in head:
        if found := _format_of_json(line):
            return found
    if head and head[0].startswith(b"[") and any(b'"task_id"' in line for line in head):
        return "tau-bench"
    if head and _HEADER_FIELD.match(head[0]) and any(_MAIL_FIELDS.match(line) for line in head):
        return "bounce"
    # Last, because what its keys say is the least certain.
    return "bridge" if any(bridge_lines.is_bridge_line(line) for line in head) else None


def _format_of_json(line: bytes) -> str | None:
    if not line.lstrip().startswith(b"{"):
        return None
    if neutral.is_neutral(line):
        return "neutral"
    try:
        document = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if {"instance_id", "history"} <= document.keys():
        return "openhands"
    if "type" in document and not _CLAUDE_KEYS.isdisjoint(document):
        return "claude-code"
    return None


def sources(paths: Sequence[Path], mapping: Mapping | None = None) -> Found:
    """Return what is to be imported from files and folders, folders searched through.

    A file's label is its path within the folder given, with the path itself before it where
    several are given. Raises ImportFailed for a path that is missing, or a file given by name
    whose format is unknown; within folders such files are listed as skipped.
    """
    found = Found([], [])
    for path in paths:
        prefix = f"{path}/" if len(paths) > 1 else ""
        if path.is_dir():
            _search(path, prefix, found)
        elif path.is_file():
            _take(path, str(path) if prefix else path.name, found, named=True)
        else:
            raise ImportFailed(f"{path} is no file or folder.")
    for source in found.sources:
        source.mapping = mapping or source.mapping
    found.sources.sort(key=lambda source: source.label)
    return found


def _search(folder: Path, prefix: str, found: Found) -> None:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            _take(path, prefix + inside.as_posix(), found, named=False)


def _take(path: Path, label: str, found: Found, *, named: bool) -> None:
    if not named and any(fnmatch(path.name, pattern) for pattern in _BESIDE_DATA):
        found.skipped.append((label, BESIDE))
        return
    if not named and database.belongs_to_database(path):
        found.skipped.append((label, OF_DATABASE))
        return
    format_name = detect_format(path)
    if format_name is not None:
        found.sources.append(Source(path, label, format_name))
    elif named and path.suffix in database.SUFFIXES:
        raise database.not_a_database(path)
    elif named:
        raise ImportFailed(
            f"{path} is of no format known here.", remedy=f"Known: {', '.join(PARSERS)}."
        )
    else:
        found.skipped.append((label, NO_KNOWN_FORMAT))
