"""The OpenAPI document against the service: whatever it allows is answered, and nothing ends in a 5xx."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from service.http.app import operations
from service.http.openapi import document
from tests.http_service import running

EXAMPLES = 5
STREAMS = "/stream"
"""They do not end by themselves; `test_http_streams.py` reads them."""

# A cursor, or SQL, may be well-formed by the schema and still be none: hence no check of what is
# accepted.
_DOCUMENT = msgspec.json.decode(msgspec.json.encode(document(operations())))
SCHEMA = schemathesis.openapi.from_dict(_DOCUMENT)
OPERATIONS = [each for each in operations() if not each.path.endswith(STREAMS)]


@pytest.fixture(scope="module")
def url(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service in a thread of its own, for a client that blocks."""
    address: Future[str] = Future()
    stop = threading.Event()
    archive = str(tmp_path_factory.mktemp("archive"))

    async def serve() -> None:
        async with running(server_url, archive_dir=archive) as api:
            address.set_result(api.url)
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        yield address.result(timeout=10)
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_what_the_document_allows_is_answered(operation, url: str) -> None:
    described = SCHEMA[operation.path][operation.method]

    @settings(
        max_examples=2 if operation.name == "run_query" else EXAMPLES,  # each takes a process
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=described.as_strategy())
    def answered(case) -> None:
        response = case.call(base_url=url)
        assert response.status_code < 500, response.text
        case.validate_response(response, excluded_checks=[positive_data_acceptance])

    answered()
