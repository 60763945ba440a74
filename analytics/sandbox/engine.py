"""DuckDB in the child: locked, with the views, and one query's answer as small batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from analytics.sandbox.limits import Limits
from analytics.sandbox.wire import Request

BATCH_ROWS = 2048
_SHARE = 0.75
"""Of the memory for DuckDB's own accounts, so that it can say what is too much; the rest is for what
it keeps no account of."""

_READING = frozenset(
    {
        duckdb.StatementType.SELECT,
        duckdb.StatementType.EXPLAIN,
        duckdb.StatementType.MULTI,  # PIVOT: it finds its columns first
    }
)


class Refused(Exception):
    """The text is not one statement that reads."""


class TooLarge(Exception):
    """The result is beyond the limits."""


def connect(limits: Limits) -> duckdb.DuckDBPyConnection:
    """Return a connection that can still be set up; all its threads are there."""
    return duckdb.connect(
        ":memory:",
        config={
            "threads": limits.thread_count,
            "async_threads": 1,
            "memory_limit": f"{int(limits.memory_bytes * _SHARE)}B",
            "max_execution_time": max(1, int(limits.timeout_s * 1000)),
            "temp_directory": "",
            "max_temp_directory_size": "0B",
            "home_directory": "/nowhere",
            "secret_directory": "/nowhere",
            "allow_persistent_secrets": False,
            "allow_community_extensions": False,
            "allow_unsigned_extensions": False,
            "enable_external_file_cache": False,
        },
    )


def show_files(
    connection: duckdb.DuckDBPyConnection, request: Request, descriptors: list[int]
) -> None:
    """Make `archive` a view that reads the open files through their names in /proc."""
    paths = [name_of(descriptor) for descriptor in descriptors]
    listed = ", ".join(f"'{path}'" for path in paths)
    connection.execute(f"SET allowed_paths = [{listed}]")
    connection.execute("SET VARIABLE segments = ?::VARCHAR[]", [paths])
    connection.execute(request.archive_view)


def show_descriptors(
    connection: duckdb.DuckDBPyConnection,
    request: Request,
    descriptors: list[int],
    schema: pa.Schema,
) -> None:
    """Make `archive` the rows of the open files, which DuckDB knows by no name."""
    parquet = ds.ParquetFileFormat()
    pieces = [parquet.make_fragment(pa.OSFile(name_of(each))) for each in descriptors]
    connection.register("segment_rows", ds.FileSystemDataset(pieces, schema, parquet))
    connection.execute(request.rows_view)


def name_of(descriptor: int) -> str:
    """Return the path by which an open file can be opened again."""
    return f"/proc/self/fd/{descriptor}"


def lock(connection: duckdb.DuckDBPyConnection) -> None:
    """Take from DuckDB files, network and extensions, then the means to get them back."""
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def answer(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: list[Any], limits: Limits
) -> Iterator[pa.RecordBatch | pa.Schema]:
    """Yield the result's schema, then its batches; the columns are of plain types.

    Raises Refused, TooLarge, duckdb.Error.
    """
    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type not in _READING:
        raise Refused("a query is one statement that reads: SELECT, FROM, WITH or DESCRIBE.")
    relation = connection.sql(sql, params=parameters or None)
    if relation is None:
        raise Refused("the statement gives no rows.")
    reader = relation.to_arrow_reader(BATCH_ROWS)
    schema = pa.schema([pa.field(each.name, _plain(each.type)) for each in reader.schema])
    yield schema
    row_count = byte_count = 0
    for batch in reader:
        row_count += batch.num_rows
        byte_count += batch.nbytes
        if row_count > limits.row_count:
            raise TooLarge(f"the result has more than {limits.row_count:,} rows.")
        if byte_count > limits.result_bytes:
            raise TooLarge(f"the result has more than {limits.result_bytes:,} bytes.")
        yield _plainly(batch, schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type without what makes a short message long or needs code to read."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_null(kind):
        return pa.int32()  # as DuckDB has it in a table
    if pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type), kind.list_size)
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(each.name, _plain(each.type)) for each in kind])
    if pa.types.is_union(kind):
        raise Refused("a result has no UNION columns: cast them, for example to VARCHAR.")
    return kind


def _plainly(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        column if column.type == field.type else _storage(column).cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _storage(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column, pa.ExtensionArray) else column
