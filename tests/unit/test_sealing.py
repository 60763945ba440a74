"""Whatever byte of a sealed file changes, it is seen, and the file stays Parquet."""

from __future__ import annotations

import random
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics.sealing import _MARK, broken_seal, seal

TABLE = pa.table({"n": list(range(500)), "text": [f"text {n % 9}" for n in range(500)]})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "file.parquet"
    pq.write_table(TABLE, made, row_group_size=100)
    return made


def test_a_sealed_file_is_read_as_before(path: Path) -> None:
    assert broken_seal(path, is_whole=True) is None  # there is none
    seal(path)
    assert broken_seal(path, is_whole=True) is None
    assert pq.read_table(path).equals(TABLE)
    with duckdb.connect() as connection:
        [found] = connection.execute(f"SELECT sum(n) FROM '{path}'").fetchall()
    assert found == (sum(range(500)),)


def test_every_changed_bit_is_seen(path: Path) -> None:
    seal(path)
    whole, rnd = path.read_bytes(), random.Random(1)
    for at in [*rnd.sample(range(len(whole)), 400), *range(len(whole) - 12, len(whole))]:
        data = bytearray(whole)
        data[at] ^= 1 << rnd.randrange(8)
        path.write_bytes(data)
        # In the mark itself, it is a file without a seal: what reads it checks the pages.
        is_mark = _MARK not in data
        assert is_mark or broken_seal(path, is_whole=True), at


@pytest.mark.parametrize("length", [0, 3, 4, 100, -1, -8, -60])
def test_a_file_that_was_cut_short_is_seen(path: Path, length: int) -> None:
    seal(path)
    path.write_bytes(path.read_bytes()[:length])
    assert broken_seal(path, is_whole=False)
