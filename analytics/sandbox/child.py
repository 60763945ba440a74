"""The process in the cage. Started by `process.py` with its parent's process id; answers one query.

It makes itself ready first (imports, a rehearsal), so that a query finds it warm; then it reads the
request, puts up the walls, and only then looks at the SQL.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any, BinaryIO

import duckdb
import msgspec
import pyarrow as pa

from analytics.sandbox import cage, engine, seccomp, wire
from analytics.sandbox.limits import Limits
from analytics.sandbox.wire import Answer, Request

_DESCRIPTORS_BESIDE = 64
"""More than DuckDB opens besides the segments."""


def main(parent: int) -> None:
    """Answer the one query that comes."""
    cage.end_with(parent)
    cage.settle_down()
    asked, told = sys.stdin.buffer, Teller(cage.answer_pipe())
    _rehearse()
    told.tell(wire.READY, b"")
    try:
        request, parameters, tail = _read_request(asked)
    except EOFError:
        return
    answer = _answer(request, parameters, tail, told)
    told.tell(wire.ANSWER, msgspec.json.encode(answer))


class Teller:
    """Writes frames; a file to Arrow, whose pieces become frames of a table."""

    closed = False

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def tell(self, kind: bytes, payload: bytes | memoryview) -> None:
        """Write one frame."""
        rest = memoryview(wire.frame(kind, payload))
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def write(self, data: bytes) -> int:
        """Write a piece of a table."""
        view = memoryview(data)
        for start in range(0, len(view), wire.FRAME_BYTES):
            self.tell(wire.TABLE, view[start : start + wire.FRAME_BYTES])
        return len(view)

    def flush(self) -> None:
        """Do nothing: each write is written."""


def _answer(request: Request, parameters: list[Any], tail: pa.Table, told: Teller) -> Answer:
    try:
        descriptors = [os.open(each.path, os.O_RDONLY) for each in request.segments]
    except FileNotFoundError:
        return Answer("segment_gone")
    except OSError as error:
        return Answer("failed", f"a file of the archive cannot be read: {error.strerror}.")
    try:
        connection = _caged(request, descriptors, tail)
        _tell_result(connection, request, parameters, told)
    except engine.Refused as error:
        return Answer("refused", str(error))
    except engine.TooLarge as error:
        return Answer("too_large", str(error))
    except MemoryError:
        return Answer("too_large", _beyond_memory(request.limits))
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        return _judged(str(error), request, descriptors)
    except (ValueError, TypeError, RuntimeError) as error:  # of a value that has no Arrow form
        return Answer("failed", _bounded(str(error)))
    return Answer("done")


def _caged(request: Request, descriptors: list[int], tail: pa.Table) -> duckdb.DuckDBPyConnection:
    """Return the connection that the query may have, with all walls up."""
    statm = os.open("/proc/self/statm", os.O_RDONLY)
    cage.silence(os.open(os.devnull, os.O_WRONLY))
    cage.allow_descriptors(2 * len(descriptors) + _DESCRIPTORS_BESIDE)
    if request.mode == "landlock":
        cage.confine_to(descriptors)
    connection = engine.connect(request.limits)
    seccomp.deny()
    connection.execute(request.settings)
    connection.register("tail", tail)
    if not descriptors:
        connection.register("archive", tail.schema.empty_table())
    elif request.mode == "landlock":
        engine.show_files(connection, request, descriptors)
    else:
        engine.show_descriptors(connection, request, descriptors, tail.schema)
    for view in request.views:
        connection.execute(view)
    engine.lock(connection)
    if request.mode == "descriptors" or not descriptors:
        cage.close_the_door()
    # Arrow starts its threads when a dataset is read.
    cage.limit_resources(request.limits, statm, has_all_threads=request.mode == "landlock")
    return connection


def _tell_result(
    connection: duckdb.DuckDBPyConnection, request: Request, parameters: list[Any], told: Teller
) -> None:
    result = engine.answer(connection, request.sql, parameters, request.limits)
    schema = next(result)
    options = pa.ipc.IpcWriteOptions(compression=None)
    with closing(pa.ipc.new_stream(pa.PythonFile(told, "w"), schema, options=options)) as stream:
        for batch in result:
            stream.write_batch(batch)


def _judged(message: str, request: Request, descriptors: list[int]) -> Answer:
    """Return the answer to an error of DuckDB, which Arrow may have handed on as one of its own."""
    named = dict(zip(map(engine.name_of, descriptors), request.segments, strict=True))
    for path in sorted(named, key=len, reverse=True):  # one may begin another
        message = message.replace(path, named[path].name).replace(
            named[path].path, named[path].name
        )
    if message.startswith("Permission Error") or message.endswith(": Permission denied"):
        return Answer("refused", _bounded(message))
    if message.startswith("Out of Memory Error"):
        return Answer("too_large", _beyond_memory(request.limits))
    if "Max expression depth" in message:
        return Answer("too_large", "the query is nested too deep.")
    if message.startswith("INTERRUPT Error"):
        return Answer("timeout")
    return Answer("failed", _bounded(message))


def _beyond_memory(limits: Limits) -> str:
    return f"the query wants more than {limits.memory_bytes // 2**20:,} MiB of memory."


def _bounded(text: str) -> str:
    text = text.rstrip()
    is_long = len(text) > wire.MESSAGE_CHARS
    return text[: wire.MESSAGE_CHARS] + "…" if is_long else text


def _read_request(asked: BinaryIO) -> tuple[Request, list[Any], pa.Table]:
    """Return the request, its parameters and the tail. Raises EOFError where there is none."""
    kind, payload = _read_frame(asked)
    assert kind == wire.REQUEST
    request = msgspec.json.decode(payload, type=Request)
    sent = _read_table(asked).to_pylist()
    parameters = list(sent[0].values()) if sent else []
    return request, parameters, _read_table(asked)


def _read_table(asked: BinaryIO) -> pa.Table:
    """Return the table of the frames up to an END; they are the parent's, hence well-formed."""
    data = pa.BufferOutputStream()
    for payload in _payloads(asked):
        data.write(payload)
    return pa.ipc.open_stream(data.getvalue()).read_all()


def _payloads(asked: BinaryIO) -> Iterator[bytes]:
    while True:
        kind, payload = _read_frame(asked)
        if kind == wire.END:
            return
        yield payload


def _read_frame(asked: BinaryIO) -> tuple[bytes, bytes]:
    header = asked.read(wire.HEADER.size)
    if len(header) < wire.HEADER.size:
        raise EOFError
    kind, length = wire.HEADER.unpack(header)
    payload = asked.read(length)
    if len(payload) < length:
        raise EOFError
    return kind, payload


def _rehearse() -> None:
    """Run a query as the real one will be, so that all code is loaded; its threads are gone after."""
    with engine.connect(Limits(thread_count=1)) as connection:
        connection.register("tail", pa.table({"a": [1]}))
        sink = pa.BufferOutputStream()
        result = engine.answer(connection, "FROM tail WHERE a = ?", [1], Limits())
        with closing(pa.ipc.new_stream(sink, next(result))) as stream:
            for batch in result:
                stream.write_batch(batch)
    gc.collect()
