"""What a seed says of a run: which faults strike what, when, and for how long. Pure."""

from __future__ import annotations

import random
from typing import Literal, NamedTuple, get_args

from eventlog import Settings
from tests.proxy import REPEATED_FAULTS

Fault = Literal[
    "drop", "delay", "duplicate", "cut", "kill", "pause", "server-always", "server-everysec",
    "disk-archive", "disk-server", "memory", "clock",
]  # fmt: skip
"""
drop, delay, duplicate, cut   requests and replies of whoever comes through the proxy (tests/proxy.py)
kill                 `kill -9` of a process, and another one of its name
pause                SIGSTOP of a process for longer than its leases, then SIGCONT
server-always        `kill -9` of the server at `appendfsync always`, and its restart
server-everysec      the same at `appendfsync everysec`
disk-archive         the archiver's and the compactor's files may not grow any more
disk-server          the server's append-only file may not grow any more
memory               the server is at its maxmemory
clock                a process's wall clock jumps, and later back
"""

FAULTS: tuple[Fault, ...] = get_args(Fault)

LINK_FAULTS: dict[Fault, tuple[str, ...]] = {
    "drop": ("request", "reply"),
    "cut": ("half a request", "half a reply"),
    "delay": ("late request", "late reply"),
    "duplicate": REPEATED_FAULTS,
}
"""What the proxy does."""

SERVER_FAULTS: frozenset[Fault] = frozenset(
    {"server-always", "server-everysec", "disk-server", "memory"}
)
"""One after the other: a server killed while its disk is full would lose what it never wrote."""

JUMPS_S = (-7200, -60, -1, 1, 60, 7200)

Role = Literal[
    "producer", "importer", "bridge", "worker", "projector", "archiver", "compactor", "trimmer"
]
"""
producer    appends events with ids of its own
importer    appends by producer sequence
bridge      a bot: receives, reads its history, sends
worker      delivers messages; and handles every entry, as a group of its own
projector   keeps the read models
archiver    writes segments
compactor   merges them into files of a day, and deletes what those take the place of
trimmer     trims what nobody needs any more
"""


class Plan(NamedTuple):
    """What a run does. Equal plans draw equal loads and faults."""

    seed: int
    seconds: float = 60
    faults: tuple[Fault, ...] = FAULTS
    roles: tuple[Role, ...] = (
        "producer", "producer", "importer", "bridge", "worker", "worker", "projector", "archiver",
        "compactor", "trimmer",
    )  # fmt: skip
    events_per_s: int = 20
    """Of each process that appends."""
    round_s: float = 10
    """How often all of them rest, by the machine's clock: then the archive catches up, as at night."""
    rest_s: float = 2.5
    shortest_gap_s: float = 0.4
    longest_gap_s: float = 1.6
    longest_s: float = 2.5
    """How long a fault lasts at most, but for a pause, which outlasts the leases."""
    lease_ttl_ms: int = 800
    link_fault_rate: float = 0.05
    broken: tuple[str, ...] = ()
    """What is taken out of the product for this run: names of broken.py."""

    @property
    def settings(self) -> Settings:
        """What all processes agree on, but for where the archive is."""
        return Settings(
            partition_count=3,
            lease_ttl_ms=self.lease_ttl_ms,
            command_timeout_s=1.0,
            connect_timeout_s=1.0,
            chat_history_limit=50,
        )


class Strike(NamedTuple):
    """A fault, at its time."""

    at_s: float
    """Since the faults began."""
    kind: Fault
    lasts_s: float
    draw: int
    """Says which process it is, of those it may be."""
    jump_s: int = 0
    """Of a clock."""


def schedule(plan: Plan) -> list[Strike]:
    """Return the faults of a run, in order: each kind as often as any other, but for one."""
    rnd = random.Random(f"faults {plan.seed}")
    found: list[Strike] = []
    waiting: list[Fault] = []
    at_s, server_is_free_s = 0.0, 0.0
    while plan.faults:
        at_s += rnd.uniform(plan.shortest_gap_s, plan.longest_gap_s)
        waiting = waiting or rnd.sample(plan.faults, len(plan.faults))
        kind = waiting.pop()
        if kind in SERVER_FAULTS:
            at_s = max(at_s, server_is_free_s)
        lasts_s = _lasts_s(plan, kind, rnd)
        if at_s + lasts_s >= plan.seconds:
            break
        if kind in SERVER_FAULTS:
            server_is_free_s = at_s + lasts_s + 1
        found.append(Strike(at_s, kind, lasts_s, rnd.randrange(1 << 16), rnd.choice(JUMPS_S)))
    return found


def _lasts_s(plan: Plan, kind: Fault, rnd: random.Random) -> float:
    if kind == "pause":
        return plan.lease_ttl_ms / 1000 * rnd.uniform(1.1, 3)
    if kind.startswith("server"):
        return rnd.uniform(0.1, 0.6)
    return 0.0 if kind == "kill" else plan.longest_s * rnd.uniform(0.4, 1)
