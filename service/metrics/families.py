"""Every metric there is: its name, kind, labels and meaning. docs/howto/monitor.md tells of each.

A label's values are few by nature (partitions, groups, read models, error codes) or cut off
(`MOST_TYPES`, `MOST_REASONS`). Nothing that a chat can invent is a label.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

MOST_TYPES = 100
MOST_REASONS = 20
"""Values of a label that bridges and handlers may invent; what is beyond them counts as `other`."""

OTHER = "other"


class Family(NamedTuple):
    """One metric."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    help: str


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(f"eventlog_{name}", "gauge", labels, text)


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(f"eventlog_{name}_total", "counter", labels, text)


# --- whether what follows could be asked
UP = _gauge("up", "1 while the server answers, else 0.")
ARCHIVE_UP = _gauge("archive_up", "1 while the archive can be read, else 0.")
LOOK_SECONDS = _gauge("look_seconds", "How long it took to ask for these values.", "of")

# --- this process alone
APPEND_SECONDS = Family(
    "eventlog_append_seconds",
    "histogram",
    (),
    "What a batch of this process took to the server and back, lost tries included.",
)
APPENDED_EVENTS = _counter("appended_events", "Events of this process by outcome.", "outcome")
REFUSED_BATCHES = _counter(
    "append_refused_batches", "Batches of this process whose version or lock was not as expected."
)
FAILED_BATCHES = _counter(
    "append_failed_batches", "Batches of this process that came to nothing, by error.", "code"
)
ACKNOWLEDGED = _counter(
    "acknowledged_entries", "Entries that workers of this process are done with.", "group"
)
FAILED_ATTEMPTS = _counter(
    "failed_attempts", "Failed attempts of this process by what follows.", "group", "outcome"
)
SPOOL_EVENTS = _gauge("spool_events", "Events on this machine's disk that wait for the server.")
SPOOL_FILES = _gauge("spool_files", "Spools that they are in, one per process.")

# --- the log
ENTRIES = _counter("entries", "Entries that were ever appended, by all processes.", "partition")
EVENTS = _gauge("events", "Events by type, as far as they are projected.", "type")
STREAM_ENTRIES = _gauge("stream_entries", "Entries in the server now.", "partition")
STREAM_BYTES = _gauge("stream_bytes", "What they take there, estimated by the server.", "partition")

# --- consumer groups
GROUP_LAG = _gauge("group_lag_entries", "Entries not done with.", "group", "partition")
GROUP_OLDEST = _gauge("group_oldest_seconds", "Age of the oldest of them.", "group", "partition")
GROUP_PENDING = _gauge(
    "group_pending_entries", "Entries delivered and not acknowledged.", "group", "partition"
)
GROUP_BLOCKED = _gauge(
    "group_blocked_conversations",
    "Conversations that wait for another attempt.",
    "group",
    "partition",
)
GROUP_RETRYING = _gauge(
    "group_retrying_entries", "Entries with failed attempts that are not settled.", "group"
)
GROUP_MEMBERS = _gauge("group_members", "Live workers.", "group")

# --- read models
PROJECTOR_POSITION = _gauge(
    "projector_position", "Sequence up to which every read model has folded.", "partition"
)
PROJECTOR_LAG = _gauge("projector_lag_entries", "Entries beyond it.", "partition")
PROJECTOR_OLDEST = _gauge("projector_oldest_seconds", "Age of the oldest of them.", "partition")
PROJECTION_LAG = _gauge(
    "projection_lag_entries", "Entries that a read model has not folded.", "projection"
)
PROJECTOR_FAILING = _gauge(
    "projector_failing", "1 while the projector reports an error, else 0.", "partition"
)
PROJECTORS = _gauge("projectors", "Processes that hold partitions to project.")

# --- dead letters
LETTERS = _gauge("dead_letters", "Dead letters by status, as far as they are projected.", "status")
PARKED = _gauge("parked_letters", "Parked letters by reason.", "reason")

# --- archive and retention
ARCHIVE_POSITION = _gauge(
    "archive_position", "Sequence of the last entry in the archive.", "partition"
)
ARCHIVE_POSITION_AGE = _gauge(
    "archive_position_age_seconds", "How long ago that entry was appended.", "partition"
)
ARCHIVE_LAG = _gauge("archive_lag_entries", "Entries not archived yet.", "partition")
ARCHIVE_OLDEST = _gauge("archive_oldest_seconds", "Age of the oldest of them.", "partition")
ARCHIVE_SEGMENTS = _gauge("archive_segments", "Files that make up the archive.", "partition")
ARCHIVE_WHOLE = _gauge("archive_whole", "1 where no segment is missing, else 0.", "partition")
ARCHIVE_LOST = _gauge(
    "archive_lost_entries", "Entries neither archived nor in the server.", "partition"
)
TRIM_FLOOR = _gauge(
    "trim_floor", "Lowest sequence that anybody needs; what is below may go.", "partition"
)
TRIM_PIN = _gauge(
    "trim_pin", "1, with who needs the entry at the floor.", "partition", "kind", "holder"
)
TRIM_HELD = _gauge(
    "trim_held_entries", "Entries that are to go and this one keeps.", "kind", "holder"
)
TRIM_HELD_BYTES = _gauge("trim_held_bytes", "What they take in the server.", "kind", "holder")
OVER_BUDGET = _gauge("over_budget_bytes", "What the log takes beyond retention_memory_bytes.")

# --- the server
SERVER_INFO = _gauge("server_info", "1, with what the server is.", "name", "version")
MEMORY_USED = _gauge("server_memory_used_bytes", "Memory the server uses.")
MEMORY_MAX = _gauge("server_memory_max_bytes", "Its maxmemory; 0 where none is set.")
SERVER_CLIENTS = _gauge("server_clients", "Connections to the server.")
PERSISTENCE_OK = _gauge(
    "server_persistence_ok", "1 while the append-only file is on and can be written, else 0."
)


def families() -> Iterator[Family]:
    """Return all of them, in the order of this file."""
    return (each for each in globals().values() if isinstance(each, Family))
