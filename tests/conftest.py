from __future__ import annotations

import gc
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

from eventlog.embedded import EmbeddedServer
from eventlog.settings import Settings
from tests.support import SERVER_BINARY

if TYPE_CHECKING:
    from pathlib import Path

    from eventlog.log import EventLog
    from tests.buckets import Bucket

IS_CLUSTER = os.environ.get("TEST_SERVER") == "cluster"

_log_numbers = itertools.count(1)


# Explaining a failure means tracing every line of every run, which takes longer than the runs.
hypothesis.settings.register_profile(
    "unexplained",
    phases=[phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain],
)
hypothesis.settings.load_profile("unexplained")


def pytest_collection_finish() -> None:
    """Let the collector pass over what the tests themselves are: hundreds of megabytes, for good."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_the_developer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the developer's shell says must not reach a test, nor a test the developer's own data."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("EVENTLOG_", "REDIS_", "AWS_")) or name == "SESSION_TTL_SECONDS":
                patch.delenv(name)
        if SERVER_BINARY is not None:
            patch.setenv("EVENTLOG_SERVER_BINARY", SERVER_BINARY)
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A private server for the whole run; logs keep apart by `key_prefix`.

    With TEST_SERVER=cluster it is a cluster of three nodes; TEST_SERVER_BINARY names another program.
    """
    folder = tmp_path_factory.mktemp("data")
    if IS_CLUSTER:
        from tests.clusters import Cluster

        with Cluster(folder, replicas=False, cluster_node_timeout=15_000) as cluster:
            yield cluster.url
        return
    server = EmbeddedServer(Settings(data_dir=str(folder), server_binary=SERVER_BINARY))
    url = server.start()
    try:
        yield url
    finally:
        server.release()


@pytest.fixture
async def log(server_url: str) -> AsyncIterator[EventLog]:
    """A fresh log of 4 partitions on the session's server."""
    from eventlog.log import EventLog

    async with EventLog.open(
        server_url, key_prefix=f"test{next(_log_numbers)}", partition_count=4
    ) as opened:
        yield opened


@pytest.fixture(params=["memory", "server"])
async def any_log(request: pytest.FixtureRequest, server_url: str) -> AsyncIterator[EventLog]:
    """A fresh log of 4 partitions, of either kind: what holds for one must hold for both."""
    from eventlog.log import EventLog

    if request.param == "memory":
        made = EventLog.in_memory(partition_count=4)
    else:
        prefix = f"test{next(_log_numbers)}"
        made = EventLog.open(server_url, key_prefix=prefix, partition_count=4)
    async with made as opened:
        yield opened


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """The address of an S3 server for the whole run; buckets keep tests apart."""
    from tests.buckets import CREDENTIALS, s3_server

    with pytest.MonkeyPatch.context() as patch, s3_server() as url:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield url


@pytest.fixture
def bucket(s3_url: str, tmp_path: Path) -> Bucket:
    """A bucket with nothing in it."""
    from tests.buckets import Bucket

    return Bucket.create(s3_url, tmp_path)
