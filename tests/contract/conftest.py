from __future__ import annotations

from pathlib import Path

import pytest

from analytics import DirectoryStorage
from analytics.past import ArchivedPast


@pytest.fixture
def storage(tmp_path: Path) -> DirectoryStorage:
    """An archive with nothing in it."""
    return DirectoryStorage(tmp_path / "archive")


@pytest.fixture
def past(storage: DirectoryStorage) -> ArchivedPast:
    """What that archive has of a log."""
    return ArchivedPast(storage)
