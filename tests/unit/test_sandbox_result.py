"""What a hostile process could say in place of a result."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from analytics.sandbox.limits import Limits
from analytics.sandbox.result import read_result
from eventlog.errors import QueryFailed

LIMITS = Limits(row_count=1000, result_bytes=100_000)


def said(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    write_options = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(sink, table.schema, options=write_options) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


SOUND = pa.table(
    {
        "n": [1, 2, None],
        "text": ["a", None, "c"],
        "list": [[1], [], None],
        "struct": [{"k": 1}, {"k": 2}, None],
        "map": pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int32())),
    }
)


def test_a_sound_result_is_given_back() -> None:
    assert read_result(said(SOUND), LIMITS).equals(SOUND)
    assert read_result(said(SOUND.slice(0, 0)), LIMITS).num_rows == 0


def test_metadata_is_dropped() -> None:
    table = SOUND.replace_schema_metadata({"pandas": '{"index_columns": "x"}'})
    assert read_result(said(table), LIMITS).schema.metadata is None


NULLS = pa.ListArray.from_arrays(pa.array([0, 10**9], pa.int32()), pa.nulls(10**9))
EMPTY_STRUCTS = pa.StructArray.from_buffers(pa.struct([]), 10**9, [None])


@pytest.mark.parametrize(
    "column",
    [
        pa.nulls(10),
        NULLS,
        pa.ListArray.from_arrays(pa.array([0, 10**9], pa.int32()), EMPTY_STRUCTS),
        pa.array(["x" * 10_000] * 100).dictionary_encode(),
        pa.RunEndEncodedArray.from_arrays([500], ["x" * 10_000]),
        pa.array(["x" * 100] * 100, pa.string_view()),
        pa.UnionArray.from_dense(
            pa.array([0, 0], pa.int8()), pa.array([0, 0], pa.int32()), [pa.array([1])]
        ),
        pa.array(["{}"], pa.json_()),
    ],
    ids=["nulls", "list", "structs", "dictionary", "runs", "views", "union", "extension"],
)
def test_short_bytes_cannot_stand_for_long_values(column: pa.Array) -> None:
    with pytest.raises(QueryFailed, match="not sound"):
        read_result(said(pa.table({"c": column})), LIMITS)


def test_compression_is_refused() -> None:
    bomb = pa.table({"c": ["x" * 1_000_000]})
    with pytest.raises(QueryFailed, match="compressed"):
        read_result(said(bomb, compression="zstd"), LIMITS)


def test_more_rows_than_allowed_are_refused() -> None:
    with pytest.raises(QueryFailed, match="more rows"):
        read_result(said(pa.table({"c": [True] * 1001})), LIMITS)


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"\xff" * 100, said(SOUND)[:200]])
def test_garbage_is_an_error(data: bytes) -> None:
    with pytest.raises(QueryFailed, match="not sound"):
        read_result(data, LIMITS)


def test_flipped_bytes_are_an_error_or_a_table_that_can_be_read() -> None:
    whole = said(SOUND)
    rnd = random.Random(7)
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(rnd.randint(1, 4)):
            data[rnd.randrange(len(data))] = rnd.randrange(256)
        try:
            table = read_result(data, LIMITS)
        except QueryFailed:
            continue
        str(table)
        assert table.num_rows <= LIMITS.row_count
