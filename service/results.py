"""A query's result as CSV, JSON lines or Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from eventlog.errors import QueryFailed


class Format(StrEnum):
    """How a result is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


_SUFFIXES = {
    ".csv": Format.CSV,
    ".json": Format.JSON,
    ".jsonl": Format.JSON,
    ".ndjson": Format.JSON,
    ".parquet": Format.PARQUET,
}


def format_of(path: Path) -> Format | None:
    """Return the format that a file's name says, None where it says none."""
    return _SUFFIXES.get(path.suffix.lower())


def write(table: pa.Table, chosen: Format, file: BinaryIO) -> None:
    """Write the result. Raises QueryFailed for a type that the format has no room for."""
    table = table.rename_columns(distinct(table.column_names))
    try:
        match chosen:
            case Format.PARQUET:
                pyarrow.parquet.write_table(table, file, compression="zstd")
            case Format.CSV:
                pyarrow.csv.write_csv(_flat(table), file)
            case _:
                for batch in table.to_batches(max_chunksize=10_000):
                    file.writelines(to_json(row) + b"\n" for row in batch.to_pylist())
    except (pa.ArrowException, OverflowError, ValueError) as error:
        # The latter for times that Python has no room for.
        raise QueryFailed(
            f"the result cannot be written as {chosen}: {error}.",
            remedy="Cast the column to VARCHAR.",
        ) from None


def distinct(names: Sequence[str]) -> list[str]:
    """Return the names, repeated ones numbered: a JSON object has each key once."""
    taken = set(names)
    result: list[str] = []
    for name in names:
        number = 1
        own = name
        while own in result or (number > 1 and own in taken):
            number += 1
            own = f"{name}_{number}"
        result.append(own)
    return result


_ENCODER = msgspec.json.Encoder(enc_hook=str, decimal_format="number")


def to_json(value: Any) -> bytes:
    """Return a value of a result as JSON. Sums are decimals: numbers; what is no JSON is its text."""
    return _ENCODER.encode(value)


def _flat(table: pa.Table) -> pa.Table:
    """Return the table with every column that CSV has no room for as text, JSON where nested."""
    for index, field in enumerate(table.schema):
        if pa.types.is_nested(field.type) or pa.types.is_interval(field.type):
            values = table.column(index).to_pylist()
            texts = [None if value is None else to_json(value).decode() for value in values]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
    return table
