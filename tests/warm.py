"""A process that has imported the program, from which commands are forked.

Starting Python and importing the libraries takes a command most of its time, and the tests start
hundreds. `python tests/warm_command.py SOCKET WORD…` behaves as `python -m service WORD…` does: it
hands its streams, folder, environment and words over, passes signals on, and ends as the command ends.
When it is killed the command is killed too.
"""

from __future__ import annotations

import gc
import io
import json
import os
import selectors
import signal
import socket
import sys
from typing import NoReturn

ASKING_BYTES = 1 << 20


def serve(path: str) -> None:
    """Fork a command for each that asks, until standard input, which the tests hold, is closed.

    In the command's process it returns, so that the interpreter ends there as it does elsewhere.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(64)
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which close the input
    askers: dict[socket.socket, int] = {}
    print("ready", flush=True)  # noqa: T201 - for whoever started it
    with selectors.DefaultSelector() as selector:
        for source in (listener, reading, sys.stdin):
            selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                source = key.fileobj
                if source is sys.stdin:
                    for pid in askers.values():
                        os.kill(pid, signal.SIGKILL)
                    os._exit(0)
                elif source is reading:
                    reading.recv(4096)
                    _tell_ends(askers, selector)
                elif source is listener:
                    asker, _ = listener.accept()
                    if (pid := _fork(asker)) == 0:
                        selector.close()
                        for each in (listener, reading, writing, asker, *askers):
                            each.close()
                        return
                    askers[asker] = pid
                    selector.register(asker, selectors.EVENT_READ)
                elif isinstance(source, socket.socket) and source in askers:  # it is gone
                    source.recv(1)
                    os.kill(askers[source], signal.SIGKILL)
                    selector.unregister(source)


def _fork(asker: socket.socket) -> int:
    """Return 0 in the command's process, whose words, streams and so on are the asker's."""
    asking, descriptors, _, _ = socket.recv_fds(asker, ASKING_BYTES, 3)
    words, folder, environment, ignored = json.loads(asking)
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
        for stream, descriptor in enumerate(descriptors):
            os.dup2(descriptor, stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["service", *words]
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0)), encoding="utf-8")
        sys.stdout = _output(1, errors="strict")
        sys.stderr = _output(2, errors="backslashreplace")
    else:
        asker.send(str(pid).encode())
    for descriptor in descriptors:
        os.close(descriptor)
    return pid


def _output(descriptor: int, *, errors: str) -> io.TextIOWrapper:
    """Return a stream as the interpreter makes it at its start."""
    raw = io.FileIO(descriptor, "w")
    is_by_line = raw.isatty() or descriptor == 2
    buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffered, encoding="utf-8", errors=errors, line_buffering=is_by_line)


def _tell_ends(askers: dict[socket.socket, int], selector: selectors.BaseSelector) -> None:
    """Tell those whose command has ended how it did."""
    for asker, pid in list(askers.items()):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            del askers[asker]
            if asker in selector.get_map():
                selector.unregister(asker)
                asker.send(str(os.waitstatus_to_exitcode(status)).encode())
            asker.close()


def _import_the_program() -> None:
    """Import what any command does."""
    import matplotlib.pyplot  # noqa: F401 - a report's picture

    from service.cli.commands import registered

    registered()


def main() -> NoReturn:
    """Serve, and in a command's process be that command."""
    _import_the_program()
    gc.collect()
    gc.freeze()
    serve(sys.argv[1])
    from service.cli.main import main as command

    command()
    raise AssertionError("it leaves by itself")


if __name__ == "__main__":
    main()
