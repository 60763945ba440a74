"""Everything that has a connection of its own has it over TLS: one server, a cluster, behind sentinels.

The bundled server has no TLS; Debian's redis-server has.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import redis.asyncio

from analytics import Archiver, Copiers, DirectoryStorage, Warehouse
from consumers import Worker
from eventlog.blocking import BlockingEventLog
from eventlog.errors import LogUnavailable
from eventlog.log import EventLog
from eventlog.vocabulary import MessageReceived
from projections import History, Projector
from service.checks import examine
from tests.certificates import Certificates
from tests.clusters import Cluster, SentinelSet
from tests.support import SERVER_BINARY, RawServer
from tests.working import QUICK, Seen, all_handled, at_work

REDIS_SERVER = SERVER_BINARY or shutil.which("redis-server")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(REDIS_SERVER is None, reason="no redis-server on PATH"),
]

MESSAGES = [
    MessageReceived(id=f"m{n}", conversation=f"chat:{n % 8}", text=f"text {n}") for n in range(64)
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RawServer]:
    folder = tmp_path_factory.mktemp("server")
    with RawServer(folder, tls=certificates, binary=REDIS_SERVER) as running:
        yield running


@pytest.fixture(scope="module", params=["one server", "cluster", "sentinels"])
def url(
    request: pytest.FixtureRequest,
    certificates: Certificates,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("servers")
    made: dict[str, AbstractContextManager[RawServer | Cluster | SentinelSet]] = {
        "one server": RawServer(
            folder / "alone", tls=certificates, binary=REDIS_SERVER, bind="127.0.0.1"
        ),
        "cluster": Cluster(folder / "cluster", tls=certificates, binary=REDIS_SERVER),
        "sentinels": SentinelSet(folder / "sentinels", tls=certificates, binary=REDIS_SERVER),
    }
    (folder / "alone").mkdir()
    with made[request.param] as running:
        assert running.url.startswith("rediss")
        yield running.url


async def test_all_of_it_over_tls(url: str, tmp_path: Path):
    storage = DirectoryStorage(tmp_path)
    seen = Seen()
    async with EventLog.open(url, partition_count=4) as log:
        for message in MESSAGES[:32]:
            await log.append(message)
        with BlockingEventLog.open(url) as blocking:
            blocking.append(MESSAGES[32:])
        worker = Worker(log, "helpers")
        worker.on("message.received", retry=QUICK)(seen)
        async with at_work(worker):
            await all_handled(worker)
        await Projector(log).run_until_caught_up()
        page = await History(log).first("chat:3", limit=100, consistency="stored")
        async with Copiers(1, process_rows=1) as copiers:
            archiver = Archiver(log, storage, copiers=copiers)
            await archiver.run_once()
            await archiver.close()
        async with Warehouse.open(log, tmp_path) as warehouse:
            [rows] = (await warehouse.query("SELECT count(*) AS n FROM events")).to_pylist()
        findings = await examine(log)
    texts = Counter(message.text for message in MESSAGES)
    assert Counter(text for chat in seen.texts.values() for text in chat) == texts
    assert [entry.event.text for entry in page.entries] == [f"text {n}" for n in range(3, 64, 8)]
    assert rows["n"] == len(MESSAGES)
    assert {finding.verdict for finding in findings if finding.check == "server"} == {"fine"}


async def test_over_a_client_of_yours(server: RawServer, certificates: Certificates):
    client = redis.asyncio.Redis(
        host="127.0.0.1", port=server.port, ssl=True, **certificates.of_client
    )
    async with EventLog.open(client=client, key_prefix="injected") as log:
        await log.append(MESSAGES)
        assert sum(head.n for head in await log.heads()) == len(MESSAGES)
    await client.aclose()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("ssl_certfile", "ssl_keyfile"), "CERTIFICATE_VERIFY_FAILED"),
        # The server says so, and hangs up: which of the two is seen first is chance.
        (("ssl_ca_certs",), "certificate|reset|closed|Broken pipe"),
    ],
    ids=["an authority that is not known", "no certificate of ours"],
)
async def test_who_cannot_be_trusted_is_named_with_the_remedy(
    server: RawServer, certificates: Certificates, options: tuple[str, ...], said: str
):
    query = "&".join(f"{name}={certificates.of_client[name]}" for name in options)
    url = f"rediss://127.0.0.1:{server.port}?{query}"
    with pytest.raises(LogUnavailable) as caught:
        async with EventLog.open(url, connect_timeout_s=1) as log:
            await log.append(MESSAGES[0])
    assert f"rediss://127.0.0.1:{server.port} cannot be reached" in str(caught.value)
    assert re.search(said, str(caught.value))
    assert "TLS" in str(caught.value.remedy)


async def test_a_certificate_of_another_host_is_refused(
    server: RawServer, certificates: Certificates
):
    url = f"rediss://localhost:{server.port}?{certificates.query}"
    with pytest.raises(LogUnavailable, match=r"Hostname mismatch|not valid for"):
        async with EventLog.open(url, connect_timeout_s=1) as log:
            await log.append(MESSAGES[0])
