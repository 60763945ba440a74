"""The table in what a caged process said. Its bytes are not trusted: they may be anyone's.

Short bytes cannot become a large table: no compression, no dictionaries, views, run lengths or unions,
no type that runs code, and all values are counted, also those that take no bytes. What passes is
checked in full, as Arrow's documentation asks of data from outside.
"""

from __future__ import annotations

import struct

import pyarrow as pa

from analytics.sandbox.limits import Limits
from eventlog.errors import QueryFailed

_HEADER_FIELD, _COMPRESSION_FIELD = 2, 3
"""Places in the flatbuffer tables `Message` and `RecordBatch` of Arrow's format/*.fbs."""

_PLAIN = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
    pa.types.is_duration,
    pa.types.is_interval,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
)


def read_result(data: bytes | bytearray, limits: Limits) -> pa.Table:
    """Return the table of an Arrow stream. Raises QueryFailed where it is not sound and plain."""
    buffer = pa.py_buffer(data)
    try:
        _require_plain_messages(buffer)
        with pa.ipc.open_stream(buffer) as stream:
            for field in stream.schema:
                _require_plain_type(field.type)
            batches = [_counted(batch, limits) for batch in stream]
            table = pa.Table.from_batches(batches, stream.schema)
        if table.num_rows > limits.row_count:
            raise ValueError("more rows than allowed")
        table.validate(full=True)
    except (pa.ArrowException, ValueError, EOFError, OSError, struct.error) as error:
        raise QueryFailed(
            f"the answer of the sandboxed process is not sound ({error}).",
            remedy="Do not ask this query again before you know why.",
        ) from None
    return table.replace_schema_metadata(None)


def _require_plain_messages(buffer: pa.Buffer) -> None:
    reader = pa.ipc.MessageReader.open_stream(buffer)
    expected = "schema"
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        if message.type != expected:
            raise ValueError(f"a message of type {message.type}")
        if expected == "record batch" and _is_compressed(message.metadata.to_pybytes()):
            raise ValueError("compressed")
        expected = "record batch"


def _is_compressed(metadata: bytes) -> bool:
    """Return whether a record batch's message says that its buffers are compressed."""
    message = struct.unpack_from("<I", metadata)[0]
    header_at = _field(metadata, message, _HEADER_FIELD)
    if header_at is None:
        raise ValueError("a message without a header")
    header = header_at + struct.unpack_from("<I", metadata, header_at)[0]
    return _field(metadata, header, _COMPRESSION_FIELD) is not None


def _field(data: bytes, table: int, place: int) -> int | None:
    """Return where a flatbuffer table has a field; None where it has not."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if vtable < 0:
        raise ValueError("not a flatbuffer")
    if 4 + 2 * place >= struct.unpack_from("<H", data, vtable)[0]:
        return None
    offset = struct.unpack_from("<H", data, vtable + 4 + 2 * place)[0]
    return table + offset if offset else None


def _require_plain_type(kind: pa.DataType) -> None:
    if isinstance(kind, pa.BaseExtensionType):
        raise ValueError(f"a column of type {kind}")
    nested = (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_struct(kind)
        or pa.types.is_map(kind)
    )
    if not nested and not any(is_kind(kind) for is_kind in _PLAIN):
        raise ValueError(f"a column of type {kind}")
    for number in range(kind.num_fields if nested else 0):
        _require_plain_type(kind.field(number).type)


def _counted(batch: pa.RecordBatch, limits: Limits) -> pa.RecordBatch:
    batch.validate()  # a length may be negative
    # A value takes an eighth of a byte at least, unless its type takes none.
    if sum(_value_count(column) for column in batch.columns) > 8 * limits.result_bytes:
        raise ValueError("more values than bytes")
    return batch


def _value_count(array: pa.Array) -> int:
    kind = array.type
    count = len(array)
    if pa.types.is_struct(kind):
        return count + sum(_value_count(array.field(n)) for n in range(kind.num_fields))
    if pa.types.is_map(kind):
        return count + _value_count(array.keys) + _value_count(array.items)
    if pa.types.is_nested(kind):
        return count + _value_count(array.values)
    return count
