"""seccomp: system calls that a query has no business with fail with EACCES. Best effort.

A second wall behind Landlock and resource limits: no sockets of any kind (Landlock knows TCP alone),
no new processes, no change to the file system, no looking into other processes. And no links are
resolved, so that DuckDB never learns, hence cannot tell, where the archive is.

By prctl, as libseccomp is not everywhere; see seccomp(2), `linux/filter.h` and `linux/seccomp.h`.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from typing import NamedTuple

_SECCOMP_SET_MODE_FILTER, _TSYNC = 1, 1
_PR_SET_NO_NEW_PRIVS = 38

_LOAD, _EQUALS, _HAS_BITS, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_CLONE_THREAD = 0x10000
_X32_BIT = 0x40000000


class _Machine(NamedTuple):
    """What differs between architectures."""

    audit: int
    """How the kernel names it."""
    seccomp: int
    clone: int
    clone3: int
    denied: tuple[int, ...]


_MACHINES = {
    "x86_64": _Machine(
        audit=0xC000003E,
        seccomp=317,
        clone=56,
        clone3=435,
        denied=(
            *(41, 42, 43, 44, 46, 49, 50, 53, 288, 307),  # socket … listen, socketpair, accept4
            *(57, 58, 59, 322),  # fork, vfork, execve, execveat
            *(
                62,
                101,
                200,
                234,
                310,
                311,
                424,
                434,
                438,
            ),  # kill, ptrace, tkill, tgkill … pidfd_getfd
            *(76, 82, 83, 84, 85, 86, 87, 88, 90, 92, 94, 133),  # truncate, rename, mkdir … mknod
            *(258, 259, 260, 263, 264, 265, 266, 268, 316),  # the same with …at
            *(89, 267),  # readlink, readlinkat
            *(165, 166, 272, 308, 155, 161),  # mount, umount, unshare, setns, pivot_root, chroot
            *(248, 249, 250, 298, 321, 323, 425),  # keys, perf, bpf, userfaultfd, io_uring
        ),
    ),
    "aarch64": _Machine(
        audit=0xC00000B7,
        seccomp=277,
        clone=220,
        clone3=435,
        denied=(
            *(198, 199, 200, 201, 202, 203, 206, 211, 242, 269),
            *(221, 281),
            *(117, 129, 130, 131, 270, 271, 424, 434, 438),
            *(33, 34, 35, 36, 37, 38, 45, 53, 54, 276),
            *(78,),
            *(39, 40, 41, 51, 97, 268),
            *(217, 218, 219, 241, 280, 282, 425),
        ),
    ),
}


def deny() -> bool:
    """Deny all threads of this process, for good; return False where the machine cannot do it."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    program = _program(machine)
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: how many instructions, then where they are.
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    result = libc.syscall(
        ctypes.c_long(machine.seccomp),
        ctypes.c_long(_SECCOMP_SET_MODE_FILTER),
        ctypes.c_long(_TSYNC),
        head,
    )
    return bool(result == 0)


def _program(machine: _Machine) -> bytes:
    """Return the filter: a list of instructions for the kernel, which looks at each call."""
    fail = _step(_RETURN, _FAIL | errno.EACCES)
    allow = _step(_RETURN, _ALLOW)
    no_such_call = _step(_RETURN, _FAIL | errno.ENOSYS)
    steps = [
        _step(_LOAD, _ARCHITECTURE_AT),
        _step(_EQUALS, machine.audit, 1, 0),
        fail,  # another architecture's calls have other numbers
        _step(_LOAD, _NUMBER_AT),
        _step(_HAS_BITS, _X32_BIT, 0, 1),
        fail,
    ]
    for number in machine.denied:
        steps += [_step(_EQUALS, number, 0, 1), fail]
    # Its arguments are in memory, where the filter cannot look: libc then takes clone.
    steps += [_step(_EQUALS, machine.clone3, 0, 1), no_such_call]
    steps += [
        _step(_EQUALS, machine.clone, 0, 3),
        _step(_LOAD, _FIRST_ARGUMENT_AT),
        _step(_HAS_BITS, _CLONE_THREAD, 1, 0),
        fail,
        allow,
    ]
    return b"".join(steps)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
