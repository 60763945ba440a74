from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with the sample data, and a data directory of its own."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.setenv("EVENTLOG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    logging.getLogger("eventlog").handlers.clear()  # they write to a stream that is gone now
