"""Which slot a command concerns, and which node of a cluster serves it. Pure.

A slot is one of 16,384 parts of the key space; keys of one hash tag share one, so those of a partition do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from eventlog.server_address import Place

_KEYLESS = frozenset(
    [
        "ACL",
        "ASKING",
        "AUTH",
        "BGREWRITEAOF",
        "BGSAVE",
        "CLIENT",
        "CLUSTER",
        "COMMAND",
        "CONFIG",
        "DBSIZE",
        "ECHO",
        "INFO",
        "LASTSAVE",
        "PING",
        "SAVE",
        "SCAN",
        "SCRIPT",
        "TIME",
        "WAIT",
        "WAITAOF",
    ]
)
_WITH_SUBCOMMAND = frozenset(["MEMORY", "OBJECT", "XGROUP", "XINFO"])
_STREAM_READS = frozenset({"XREAD", "XREADGROUP"})
_SCRIPTS = frozenset({"EVAL", "EVALSHA"})


def slot_of(command: Sequence[Any]) -> int | None:
    """Return the slot of a command's first key; None for a command without keys.

    Where it has several, all must be of that slot: the server refuses others. Knows the commands that
    are used here; for any other the first argument is the key, as it is for most.

    >>> slot_of(["XINFO", "STREAM", "{log:0}:stream"]) == slot_of(["GET", "{log:0}:head"])
    True
    """
    words = str(command[0]).upper().split()
    name = words[0]
    if name in _KEYLESS:
        return None
    if name in _SCRIPTS:
        return _slot(command[3]) if int(command[2]) else None
    if name in _STREAM_READS:
        index = 1
        while _text(command[index]).upper() != "STREAMS":
            # A group's and a consumer's name may be anything.
            index += 3 if _text(command[index]).upper() == "GROUP" else 1
        return _slot(command[index + 1])
    return _slot(command[2 if name in _WITH_SUBCOMMAND and len(words) == 1 else 1])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _slot(key: Any) -> int:
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


class SlotMap(NamedTuple):
    """Who serves what, as one node told it."""

    primaries: tuple[Place, ...]
    """The nodes that serve any slot."""
    nodes: tuple[Place, ...]
    """Those and their replicas."""
    served: dict[int, Place]
    """Slot → its primary; a slot that nobody serves is missing."""

    @classmethod
    def of_reply(cls, reply: Sequence[Any], asked: Place) -> Self:
        """Return what the reply to CLUSTER SLOTS says; a node without a name is the one that was asked."""
        served: dict[int, Place] = {}
        primaries: dict[Place, None] = {}
        nodes: dict[Place, None] = {}
        for first, last, primary, *replicas in reply:
            place = _named(primary, asked)
            primaries[place] = None
            nodes.update(dict.fromkeys([place, *(_named(each, asked) for each in replicas)]))
            served.update(dict.fromkeys(range(first, last + 1), place))
        return cls(tuple(primaries), tuple(nodes), served)

    @property
    def is_whole(self) -> bool:
        """Whether every slot is served."""
        return len(self.served) == REDIS_CLUSTER_HASH_SLOTS


NO_MAP = SlotMap((), (), {})


def _named(node: Sequence[Any], asked: Place) -> Place:
    host = _text(node[0] or b"")
    return (asked[0] if host in ("", "?") else host), int(node[1])
