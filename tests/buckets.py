"""An S3 server on this machine, and what may stand before it: replies get lost, conditions are ignored."""

from __future__ import annotations

import http.client
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import boto3

from analytics import BucketStorage
from analytics.bucket_objects import BucketObjects
from analytics.segment_cache import SegmentCache
from eventlog.archive_place import BucketPlace
from eventlog.clock import SYSTEM_CLOCK, Clock

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIATESTS",
    "AWS_SECRET_ACCESS_KEY": "s3cret-of-the-tests",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}

_numbers = itertools.count(1)


@contextmanager
def s3_server() -> Iterator[str]:
    """Give the address of moto's S3 server."""
    from moto.server import ThreadedMotoServer  # two seconds, for whoever only wants a client

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


class Bucket(NamedTuple):
    """A bucket with nothing in it, and a place for a cache of it."""

    endpoint_url: str
    name: str
    folder: Path

    @classmethod
    def create(cls, endpoint_url: str, folder: Path) -> Bucket:
        bucket = cls(endpoint_url, f"test-{next(_numbers)}", folder)
        bucket.client().create_bucket(Bucket=bucket.name)
        return bucket

    def client(self) -> Any:
        return boto3.client("s3", endpoint_url=self.endpoint_url, region_name="us-east-1")

    def keys(self) -> list[str]:
        listed = self.client().list_objects_v2(Bucket=self.name)
        return [each["Key"] for each in listed.get("Contents", ())]

    def objects(self, endpoint_url: str | None = None, **how: Any) -> BucketObjects:
        return BucketObjects(
            BucketPlace(self.name, "archive"), endpoint_url=endpoint_url or self.endpoint_url, **how
        )

    def storage(
        self,
        endpoint_url: str | None = None,
        *,
        cache: str = "cache",
        limit_bytes: int = 10**9,
        clock: Clock = SYSTEM_CLOCK,
        **how: Any,
    ) -> BucketStorage:
        """Return a storage; another `cache` is that of another machine."""
        kept = SegmentCache(self.folder / cache, limit_bytes, clock=clock)
        return BucketStorage(self.objects(endpoint_url, **how), kept, clock=clock)


class Exchange(NamedTuple):
    """A request on its way to the server."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Meddle = Callable[[Exchange], Exchange | None]
"""Gives what is sent on; None has the exchange carried out and its reply dropped."""


class _Front(ThreadingHTTPServer):
    daemon_threads = True
    meddle: Meddle
    behind: str

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that went away."""


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Front

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        given = Exchange(self.command, self.path, dict(self.headers.items()), body)
        sent = self.server.meddle(given)
        onward = sent or given
        connection = http.client.HTTPConnection(self.server.behind, timeout=10)
        connection.request(onward.method, onward.path, onward.body, onward.headers)
        reply = connection.getresponse()
        answer = reply.read()
        connection.close()
        if sent is None:
            self.close_connection = True
            return
        self.send_response_only(reply.status, reply.reason)
        for key, value in reply.getheaders():
            if key.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(key, value)
        length = reply.getheader("Content-Length") if onward.method == "HEAD" else len(answer)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass  # noqa: N815 - the base class's names

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def front(endpoint_url: str, meddle: Meddle) -> Iterator[str]:
    """Give the address of something before the server that may meddle with each request."""
    server = _Front(("127.0.0.1", 0), _Passing)
    server.meddle, server.behind = meddle, endpoint_url.removeprefix("http://")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ignoring_conditions(exchange: Exchange) -> Exchange:
    """Be a server that never heard of If-None-Match."""
    headers = {k: v for k, v in exchange.headers.items() if k.lower() != "if-none-match"}
    return exchange._replace(headers=headers)


def losing_replies(lost: Callable[[Exchange], bool]) -> Meddle:
    """Lose the replies to what `lost` picks."""
    return lambda exchange: None if lost(exchange) else exchange
