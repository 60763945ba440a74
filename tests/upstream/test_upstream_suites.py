"""The SDKs' own tests, from their published sources, with our storage in place of theirs.

`uv run pytest -m upstream`: it fetches 10 MB from the package index. What is left out reaches into
the insides of the storage that ours stands in for.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.upstream.sources import fetch_source

STAND_INS = Path(__file__).parent / "stand_ins"


class Suite(NamedTuple):
    """Files of an SDK's tests that use its storage."""

    distribution: str
    files: tuple[str, ...]
    least_count: int
    """How many passed when this was written, somewhat less: a suite that runs nothing must not pass."""
    left_out: tuple[str, ...] = ()
    """Tests that look inside the storage of theirs, by `file::name` or its beginning."""
    options: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    """Files that ask for more than the tests named here need."""


SQLITE = "tests/memory/test_session.py::test_sqlite_session"
HELPERS = "tests/test_session_helpers_store.py::Test"
RESUME = "tests/test_session_resume.py::TestHappyPath::test_continue"
IN_MEMORY = "tests/test_session_store_conformance.py::TestInMemorySessionStore::test"

SUITES = [
    Suite(
        "openai-agents",
        (
            "tests/memory/test_session.py",
            "tests/memory/test_session_limit.py",
            "tests/memory/test_session_context_wrapper.py",
            "tests/memory/test_session_persistence_sanitize.py",
            "tests/memory/test_openai_responses_compaction_session.py",
            "tests/memory/test_compaction_suffix.py",
            "tests/test_max_turns.py",
            "tests/test_run_impl_resume_paths.py",
            "tests/test_soft_cancel.py",
            "tests/test_tool_batch_failure_history.py",
        ),
        400,
        # SQLite's connections, locks, transactions and corrupt rows.
        (
            f"{SQLITE}_close",
            f"{SQLITE}_reaps_connections",
            f"{SQLITE}_keeps_connections",
            f"{SQLITE}_file_lock",
            f"{SQLITE}_failed_",
            f"{SQLITE}_rollback_failure",
            f"{SQLITE}_post_commit_cancellation",
            f"{SQLITE}_pop_item_skips_corrupt",
            f"{SQLITE}_pop_item_returns_none_after_dropping_only_corrupt",
            f"{SQLITE}_get_items_limit_skips_corrupt",
            f"{SQLITE}_get_items_session_settings_limit_skips_corrupt",
        ),
    ),
    Suite(
        "claude-agent-sdk",
        (
            "tests/test_session_helpers_store.py",
            "tests/test_session_import.py",
            "tests/test_session_resume.py",
            "tests/test_session_store_conformance.py",
            "tests/test_session_summary.py",
        ),
        150,
        (
            # They set its times, count what it holds, or count the turns until it answers.
            f"{HELPERS}ListSessionsFromStore::test_load_concurrency_is_bounded",
            f"{HELPERS}DeleteSessionViaStore::test_removes_session",
            f"{RESUME}_picks_most_recent",
            f"{RESUME}_skips_sidechain_sessions",
            f"{RESUME}_tie_break_is_deterministic",
            "tests/test_session_resume.py::TestTimeoutsAndErrors::test_cancelled_after_mkdtemp",
            f"{IN_MEMORY}_size_helper",
            f"{IN_MEMORY}_clear_helper",
            "tests/test_session_summary.py::TestListSessionsFromStoreFastPath::"
            "test_gap_fill_bounded_concurrency",
        ),
        ("-p", "no:asyncio", "-k", "not trio"),  # redis-py knows asyncio alone
    ),
    Suite(
        "aiogram",
        (
            "tests/test_fsm/storage/test_storages.py",
            "tests/test_fsm/storage/test_isolation.py",
            "tests/test_issues/test_1317_state_vs_isolation.py",
            "tests/test_issues/test_1743_channel_post_with_scenes.py",
        ),
        20,
        removed=("tests/conftest.py",),
    ),
]


@pytest.mark.upstream
@pytest.mark.timeout(400)
@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.distribution)
def test_their_tests_pass_with_our_storage(suite: Suite, server_url: str, tmp_path: Path) -> None:
    source = fetch_source(suite.distribution, tmp_path)
    for name in suite.removed:
        (source / name).unlink()
    plugin = f"{suite.distribution.replace('-', '_')}_stand_in"
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--quiet", "-c", str(STAND_INS / "pytest.ini")),
            *("--rootdir", str(source), "-p", plugin, *suite.options, *suite.files),
            *(word for test in suite.left_out for word in ("--deselect", test)),
        ],
        cwd=source,
        env={**os.environ, "UPSTREAM_SERVER_URL": server_url, "PYTHONPATH": str(STAND_INS)},
        capture_output=True,
        text=True,
        check=False,
    )
    told = ended.stdout[-8000:] + ended.stderr[-2000:]
    assert ended.returncode == 0, told
    passed = re.search(r"(\d+) passed", ended.stdout)
    assert passed, told
    assert int(passed[1]) >= suite.least_count, told
