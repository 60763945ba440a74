"""Who may call: tokens and their scopes, other sites' pages, and what never shows."""

from __future__ import annotations

import logging
from hashlib import sha256

import pytest

from eventlog import errors
from eventlog.errors import ConfigurationError, EventLogError
from eventlog.settings import Settings
from service.http import login
from service.http.app import operations
from service.http.problem import STATUSES
from service.http.serving import listen
from service.http.tokens import Tokens
from tests.http_service import running

READ, WRITE, ADMIN = (f"{word}-{'s3cret' * 4}" for word in ("read", "write", "admin"))
TOKENS = f"read:{READ},read+write:{WRITE},admin:sha256={sha256(ADMIN.encode()).hexdigest()}"
EVENT = {"events": [{"type": "message.received", "conversation": "a:1", "text": "x"}]}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class TestTokens:
    async def test_each_is_good_for_its_scopes(self, server_url):
        calls = (
            ("GET", "/v1/sessions", None),
            ("POST", "/v1/events", EVENT),
            ("POST", "/v1/projections/history/rebuild", None),
        )
        async with running(server_url, http_tokens=TOKENS) as api:
            found = {}
            for token in (READ, WRITE, ADMIN):
                for method, path, body in calls:
                    answer = await api.http.request(method, path, json=body, headers=bearer(token))
                    found[token, path] = answer.status_code
            assert [found[READ, path] for _, path, _ in calls] == [200, 403, 403]
            assert [found[WRITE, path] for _, path, _ in calls] == [200, 201, 403]
            assert [found[ADMIN, path] for _, path, _ in calls] == [200, 201, 202]

    async def test_without_a_token_or_with_a_wrong_one_nothing_is_told(self, server_url, caplog):
        caplog.set_level(logging.DEBUG)
        async with running(server_url, http_tokens=TOKENS) as api:
            wrong = [{}, bearer("x" * 24), bearer(READ[:-1]), bearer(f"{READ}é"),
                     {"Authorization": f"Basic {READ}"}]  # fmt: skip
            for operation in operations():
                for headers in wrong if operation.path == "/v1/sessions" else wrong[:2]:
                    path = operation.path.replace("{", "").replace("}", "")
                    encoded = {n: v.encode() for n, v in headers.items()}
                    answer = await api.http.request(operation.method, path, headers=encoded)
                    if operation.scope == "open":
                        assert answer.status_code == 200
                        continue
                    assert answer.status_code == 401, operation
                    assert answer.json()["code"] == "unauthenticated"
                    assert answer.headers["www-authenticate"].startswith("Bearer")
                    assert "x" * 24 not in answer.text
            short = await api.http.post("/v1/events", json=EVENT, headers=bearer(READ))
            assert "insufficient_scope" in short.headers["www-authenticate"]
        assert READ not in caplog.text
        assert READ not in repr(api.service.settings)

    def test_they_are_read_from_a_file_too(self, tmp_path):
        path = tmp_path / "tokens"
        path.write_text(f"# the bot's\nread+write:{WRITE}\n\n")
        tokens = Tokens.of(Settings(http_tokens=f"read:{READ}", http_tokens_file=str(path)))
        grant = tokens.find(WRITE)
        assert grant is not None
        assert grant.scopes == {"read", "write"}
        assert tokens.find(READ) is not None
        assert tokens.find(ADMIN) is None

    @pytest.mark.parametrize("wrong", ["short", "read:short", f"root:{READ}", f":{READ}", "read:"])
    def test_a_bad_one_is_refused_and_not_repeated(self, wrong):
        with pytest.raises(ConfigurationError) as refused:
            Tokens.of(Settings(http_tokens=wrong))
        assert READ not in str(refused.value)

    async def test_a_cookie_stands_for_a_token_for_a_while(self, server_url):
        tokens = Tokens.of(Settings(http_tokens=TOKENS))
        grant = tokens.find(READ)
        assert grant is not None
        cookie = login.issue(tokens, grant, 1000)
        assert login.read(tokens, cookie, 1001) == grant
        assert login.read(tokens, cookie, 1000 + login.LIFE_S) is None
        assert login.read(tokens, cookie[:-3] + "AAA", 1001) is None
        assert login.read(Tokens.of(Settings(http_tokens=f"read:{READ}")), cookie, 1001) is None
        async with running(server_url, http_tokens=TOKENS) as api:
            now_s = api.log.clock.now_us() // 1_000_000
            headers = {"Cookie": f"{login.COOKIE}={login.issue(tokens, grant, now_s)}"}
            assert (await api.http.get("/v1/sessions", headers=headers)).status_code == 200
            refused = await api.http.post("/v1/events", json=EVENT, headers=headers)
            assert refused.status_code == 403


class TestAddress:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
    def test_any_but_this_machine_s_own_needs_a_token(self, host):
        with pytest.raises(ConfigurationError, match="EVENTLOG_HTTP_TOKENS"):
            listen(Settings(http_host=host, http_port=0), Tokens())

    def test_with_a_token_it_may_be_open(self):
        tokens = Tokens.of(Settings(http_tokens=TOKENS))
        listen(Settings(http_host="0.0.0.0", http_port=0), tokens).close()


class TestBrowsers:
    async def test_a_name_that_is_not_this_machine_s_is_refused_without_tokens(self, server_url):
        async with running(server_url) as api:
            for host in ("evil.example", "127.0.0.1.evil.example", "[::", ""):
                answer = await api.http.get("/v1/sessions", headers={"Host": host})
                assert answer.status_code == 403, host
                assert answer.json()["code"] == "untrusted_origin"
            for host in ("localhost:99", "127.0.0.1", "[::1]:8420"):
                answer = await api.http.get("/v1/sessions", headers={"Host": host})
                assert answer.status_code == 200

    async def test_another_site_s_page_changes_nothing(self, server_url):
        async with running(server_url) as api:
            bad = (
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Sec-Fetch-Site": "cross-site"},
                {"Sec-Fetch-Site": "same-site"},
            )
            for headers in bad:
                answer = await api.http.post("/v1/events", json=EVENT, headers=headers)
                assert answer.status_code == 403, headers
            form = await api.http.post("/v1/events", content=b"{}", headers={"Content-Type": "text/plain"})  # fmt: skip
            assert form.status_code == 415
            own = {"Origin": api.url, "Sec-Fetch-Site": "same-origin"}
            assert (await api.http.post("/v1/events", json=EVENT, headers=own)).status_code == 201

    async def test_pages_of_named_origins_may_call(self, server_url):
        origin = "https://app.example"
        async with running(server_url, http_origins=origin) as api:
            headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
            answer = await api.http.post("/v1/events", json=EVENT, headers=headers)
            assert answer.status_code == 201
            assert answer.headers["access-control-allow-origin"] == origin
        async with running(server_url) as api:
            plain = await api.http.get("/health", headers={"Origin": origin})
            assert "access-control-allow-origin" not in plain.headers

    async def test_every_answer_has_safe_headers(self, server_url):
        async with running(server_url) as api:
            for path in ("/health", "/v1/sessions", "/v1/nothing"):
                headers = (await api.http.get(path)).headers
                assert headers["x-content-type-options"] == "nosniff"
                assert headers["x-frame-options"] == "DENY"
                assert "default-src 'none'" in headers["content-security-policy"]
                assert headers["cache-control"] == "no-store"


def test_every_code_has_a_status() -> None:
    found = [each for each in vars(errors).values() if isinstance(each, type)]
    assert {each.code for each in found if issubclass(each, EventLogError)} <= STATUSES.keys()
