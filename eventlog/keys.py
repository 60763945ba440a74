"""Every Redis key, spelled here and nowhere else.

All keys of partition *p* carry the hash tag `{<log>:<p>}`: one slot, hence one script can change
them together and Redis Cluster can spread partitions over nodes. Keys of the log as a whole carry
`{<log>}`.
"""

from __future__ import annotations

from typing import NamedTuple, Self

DEDUP_BUCKET_COUNT = 3
"""Current, previous, and one that is expiring while it waits to become the next current."""


class Keys:
    """The keys of one log, by name."""

    def __init__(self, log: str) -> None:
        self.log = log

    def _of(self, partition: int, name: str) -> str:
        return f"{{{self.log}:{partition}}}:{name}"

    # --- the log as a whole
    def meta(self) -> str:
        """Hash: format, partition count, epoch, creation time in ms; while it is restored, by whom."""
        return f"{{{self.log}}}:meta"

    def members(self, group: str) -> str:
        """Sorted set: live members of a group, scored by the ms at which they expire."""
        return f"{{{self.log}}}:members:{group}"

    def groups(self) -> str:
        """Hash: registered consumer group → what it is, as JSON."""
        return f"{{{self.log}}}:groups"

    def rejected(self) -> str:
        """Hash: positions of bad lines by import source, as a JSON list."""
        return f"{{{self.log}}}:import:rejected"

    def imported(self) -> str:
        """Hash: path of a database → the name it was imported under."""
        return f"{{{self.log}}}:import:sources"

    # --- a partition's log
    def stream(self, partition: int) -> str:
        """Stream: the partition's entries, field `e`, id `ms-n`."""
        return self._of(partition, "stream")

    def head(self, partition: int) -> str:
        """String: the last entry id, kept when the entry itself is trimmed.

        While the partition is restored, the guard of `eventlog.restoring`.
        """
        return self._of(partition, "head")

    def dedup(self, partition: int) -> list[str]:
        """Hashes: event id → entry id, one per time bucket."""
        return [self._of(partition, f"dedup:{n}") for n in range(DEDUP_BUCKET_COUNT)]

    def producers(self, partition: int) -> str:
        """Hash: producer name → its last batch."""
        return self._of(partition, "producers")

    def barrier(self, partition: int) -> str:
        """String: written before a wait for disk or replica, which covers all writes before it."""
        return self._of(partition, "barrier")

    def versions(self, partition: int) -> str:
        """Hash: entity → version, and behind a space its mark (`eventlog.entity`)."""
        return self._of(partition, "versions")

    def append(self, partition: int) -> list[str]:
        """The keys that an append to a partition takes, in the order of its script."""
        return [
            self.stream(partition),
            self.head(partition),
            *self.dedup(partition),
            self.versions(partition),
            self.producers(partition),
        ]

    def shadow(self, partition: int) -> str:
        """Stream: the partition's entries without what is being erased, until it takes their place."""
        return self._of(partition, "stream-shadow")

    def rewrites(self, partition: int) -> str:
        """String: how often the stream was rewritten; who keeps entries in memory looks here."""
        return self._of(partition, "rewrites")

    # --- work on a partition
    def lease(self, partition: int, group: str) -> str:
        """Hash: owner, generation, expiry in server ms."""
        return self._of(partition, f"lease:{group}")

    def lock(self, partition: int, name: str) -> str:
        """Hash: owner, generation, expiry in server ms; gone a while after nobody has it."""
        return self._of(partition, f"lock:{name}")

    def archive_plan(self, partition: int) -> str:
        """Hash: sequence after which a segment begins → its last sequence, while it is written."""
        return self._of(partition, "archive-plan")

    def compaction_plan(self, partition: int) -> str:
        """Hash: name of a compacted file → what it is made of, as JSON, while it is written."""
        return self._of(partition, "compaction-plan")

    # --- handling a partition's entries, by group
    def work(self, partition: int, group: str) -> str:
        """Hash: how far entries were delivered, which are in hand, the last settlement."""
        return self._of(partition, f"work:{group}")

    def attempts(self, partition: int, group: str) -> str:
        """Hash: entry id → its failed attempts and strikes, as JSON, until it is settled."""
        return self._of(partition, f"attempts:{group}")

    def blocked(self, partition: int, group: str) -> str:
        """Sorted set: conversations with a line of waiting entries, by the ms of their next try."""
        return self._of(partition, f"blocked:{group}")

    def line(self, partition: int, group: str, conversation: str) -> str:
        """List: entry ids of a blocked conversation, in order; the first is the one tried next."""
        return self._of(partition, f"line:{len(group)}:{group}:{conversation}")

    # --- read models of a partition
    def shelf(self, partition: int) -> str:
        """Hash: `name:role` → mark of a build; its model → entry id of the last entry folded."""
        return self._of(partition, "shelf")

    def report(self, partition: int) -> str:
        """Hash: what the partition's projector last said of its rate and its errors."""
        return self._of(partition, "report")

    def documents(self, partition: int, model: str) -> str:
        """Hash: key → state as JSON; `model` is a build's, `name@version.made`."""
        return self._of(partition, f"model:{model}:doc")

    def index(self, partition: int, model: str, name: str) -> str:
        """Sorted set: document keys of one index value, scored."""
        return self._of(partition, f"model:{model}:index:{name}")

    def feed(self, partition: int, model: str, name: str) -> str:
        """List: the last entries of one feed, each `ms-n` + space + event JSON."""
        return self._of(partition, f"model:{model}:feed:{name}")

    def feeds(self, partition: int, model: str) -> str:
        """Hash: feed name → how many entries were dropped from its head; every feed that is here."""
        return self._of(partition, f"model:{model}:feeds")

    def departures(self, partition: int, model: str) -> str:
        """Hash: '' → number of the last departure from Redis; index → documents that left it."""
        return self._of(partition, f"model:{model}:departures")


def models_pattern(log: str, projection: str) -> str:
    """Return what matches every key of a projection's builds, in all partitions."""
    return f"{{{log}:*}}:model:{projection}@*"


def model_pattern(log: str, partition: int, model: str) -> str:
    """Return what matches every key of one build in one partition."""
    return f"{{{log}:{partition}}}:model:{model}:*"


def log_pattern(log: str) -> str:
    """Return what matches every key of a log, those of its partitions included."""
    return f"{{{log}[:}}]*"


_PARTITION_DIGITS = ("[0-9]", "[0-9][0-9]", "[0-9][0-9][0-9]", "[0-9][0-9][0-9][0-9]")
"""Numbers of partitions, as patterns: `*` would match the partitions of a log `a:b` for those of `a`."""


def granted_patterns(log: str) -> list[str]:
    """Return what matches the keys of one log and no key of another, for the server's access lists.

    Unless another is called like a partition of it: `a:0` beside `a`.
    """
    return [f"{{{log}}}:*", *(f"{{{log}:{digits}}}:*" for digits in _PARTITION_DIGITS)]


def append_patterns(log: str) -> list[str]:
    """Return what matches the keys that are written by appending, and those of locks."""
    keys = Keys(log)
    touched = [*keys.append(0), keys.barrier(0), keys.lock(0, "*")]
    return [key.replace(":0}", f":{digits}}}") for digits in _PARTITION_DIGITS for key in touched]


def partition_in(log: str, key: str) -> int | None:
    """Return the partition that a key is of; None for one of the log as a whole, or of another log.

    The pattern of a log `a` matches the keys of a log `a:b` as well.
    """
    tag = key.removeprefix(f"{{{log}:").partition("}")[0]
    return int(tag) if tag.isdigit() else None


def is_of_whole(log: str, key: str) -> bool:
    """Return whether a key is one of the log as a whole."""
    return key.startswith(f"{{{log}}}:")


def leased_group(key: str) -> str | None:
    """Return the group whose lease of a partition a key is; None for any other key."""
    kind, _, group = key.partition("}:")[2].partition(":")
    return group if kind == "lease" else None


def log_of(key: str) -> str:
    """Return the log that a key of a partition is of."""
    return key.partition("}")[0].lstrip("{").rpartition(":")[0]


class ModelKey(NamedTuple):
    """What a key of a read model says."""

    partition: int
    model: str
    kind: str
    """`doc`, `index`, `feed`, `feeds` or `departures`."""
    name: str
    """Of the index or the feed."""

    @classmethod
    def parse(cls, log: str, key: str) -> Self | None:
        """Return the parts of a key that a pattern matched; None where another log has it.

        The pattern of a log `a` matches the keys of a log `a:b` as well.
        """
        tag, _, rest = key.removeprefix(f"{{{log}:").partition("}:model:")
        if not tag.isdigit():
            return None
        model, _, rest = rest.partition(":")
        kind, _, name = rest.partition(":")
        return cls(int(tag), model, kind, name)
