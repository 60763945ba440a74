"""What each kind of program may do on the server, as Redis's ACL rules. Pure.

Commands are named one by one: a category would grant what a later server adds to it. A script's
commands are checked like any other, so that whoever may not write writes by no script either; its keys
are checked as if it wrote, which is why a reader's pattern is not read-only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from eventlog.keys import Keys, append_patterns, granted_patterns

Role = Literal["producer", "worker", "reader", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

PURPOSES: dict[Role, str] = {
    "producer": "appends: `EventLog.append`, `producer`, locks; it cannot read what is in the log",
    "reader": "reads, follows, queries, metrics: every look that changes nothing",
    "worker": "what runs: `eventlog up`, `worker`, `serve`, and a `Bridge`, which keeps read models",
    "admin": "what people do: backup, restore, erase, retire, rebuild; and all that a worker may",
}

_OPEN = "ping select info time client|setinfo hgetall evalsha eval"
"""Opening a log that is there, and calling scripts."""

_READ = (
    "exists get hexists hget hkeys hlen hmget hscan hvals lindex llen lrange memory|usage xinfo|consumers"
    " xinfo|groups xinfo|stream xlen xpending xrange xread xrevrange zcard zcount zrange zrevrange"
)

_APPEND = (
    "exists get hget hmget hset pexpire pexpireat pexpiretime set wait waitaof xadd xinfo|stream"
)

_WORK = (
    "del exec hdel hincrby hsetnx lpush lrem ltrim multi rpush scan unlink xack xclaim xgroup|create"
    " xgroup|createconsumer xgroup|delconsumer xgroup|setid xreadgroup xtrim zadd zrem"
    " zremrangebyscore"
)

_ADMINISTER = (
    "acl|dryrun acl|whoami bgrewriteaof bgsave incr rename script|load xgroup|destroy xsetid"
)

_COMMANDS: dict[Role, tuple[str, ...]] = {
    "producer": (_OPEN, _APPEND),
    "reader": (_OPEN, _READ),
    "worker": (_OPEN, _READ, _APPEND, _WORK),
    "admin": (_OPEN, _READ, _APPEND, _WORK, _ADMINISTER),
}


SINCE_7_2 = frozenset({"client|setinfo", "waitaof"})
"""Redis 7.0 and 7.1 do not start with an ACL file that names a command they do not know."""


def commands_of(role: Role, *, before_7_2: bool = False) -> list[str]:
    """Return the commands that a role runs, sorted; `before_7_2`: those that such a server has."""
    found = {word for words in _COMMANDS[role] for word in words.split()}
    return sorted(found - SINCE_7_2 if before_7_2 else found)


def rules(role: Role, log: str, *, before_7_2: bool = False) -> list[str]:
    """Return what a user of that role may do on a log, as the rules of `ACL SETUSER`.

    Nobody may FLUSHALL, KEYS, CONFIG, SHUTDOWN or anything else that is not of the log.
    """
    grants = [f"+{command}" for command in commands_of(role, before_7_2=before_7_2)]
    return ["on", "resetkeys", "resetchannels", "-@all", *_keys(role, log), *grants]


def user_line(
    role: Role,
    log: str,
    user: str,
    password_sha256: str | None = None,
    *,
    before_7_2: bool = False,
) -> str:
    """Return the line of an ACL file; without a password nobody can log in as that user."""
    secret = () if password_sha256 is None else (f"#{password_sha256}",)
    return " ".join(["user", user, "reset", *secret, *rules(role, log, before_7_2=before_7_2)])


def _keys(role: Role, log: str) -> Iterable[str]:
    if role != "producer":
        return (f"~{pattern}" for pattern in granted_patterns(log))
    return [f"%R~{Keys(log).meta()}", *(f"~{pattern}" for pattern in append_patterns(log))]
