"""Landlock: the kernel confines a thread, and those it starts, to some files. Linux ≥ 5.13.

By system calls, since no well-kept library wraps them. See landlock(7) and
`include/uapi/linux/landlock.h`; the numbers are the same on every architecture.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from typing import NamedTuple

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

READ_FILE = 1 << 2
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many rights over files there are from an ABI on; all are denied but where a rule says so."""
_NET_RIGHTS = 0b11
"""Bind and connect TCP; ABI 4."""
_SCOPES = 0b11
"""Abstract unix sockets and signals to outside; ABI 6."""

_LIBC = ctypes.CDLL(None, use_errno=True)


class Rule(NamedTuple):
    """An open file or directory, and what is granted on it and beneath it."""

    descriptor: int
    rights: int = READ_FILE


def abi() -> int:
    """Return the kernel's Landlock version; 0 where it has none or it is switched off."""
    try:
        return _call(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def restrict(rules: Iterable[Rule]) -> None:
    """Confine this thread, and all that it starts from now on, to the rules; for good.

    Other threads of the process are not confined: call it while there are none. No new privileges
    can be gained either. Raises OSError where the kernel does not take part.
    """
    version = abi()
    rights = _FILE_RIGHTS[max((known for known in _FILE_RIGHTS if known <= version), default=1)]
    attributes = struct.pack(
        "=QQQ",
        (1 << rights) - 1,
        _NET_RIGHTS if version >= 4 else 0,
        _SCOPES if version >= 6 else 0,
    )
    # An older kernel takes the longer structure as long as what it does not know is zero.
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for rule in rules:
            beneath = struct.pack("=Qi", rule.rights, rule.descriptor)
            _call(_ADD_RULE, ruleset, _PATH_BENEATH, beneath, 0)
        if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise _failure()
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _call(number: int, *arguments: int | bytes | None) -> int:
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = _LIBC.syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise _failure()
    return int(result)


def _failure() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
