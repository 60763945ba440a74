"""The pages over a real service: what they show, what their forms do, and what they never let through."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from urllib.parse import quote

from consumers import Worker
from consumers.retry import Retry
from eventlog import EventLog, MessageReceived, MessageSent, ToolCalled, ToolReturned
from eventlog.cluster import nodes_of
from eventlog.errors import SendFailed
from service.http.dashboard.routes import pages
from tests.html_pages import Page
from tests.http_service import Running, running
from tests.support import RawServer

NASTY = "<script>alert('x')</script>\"&'"
READ, ADMIN = "read-s3crets3cret", "admin-s3crets3cret"


@asynccontextmanager
async def dashboard(server_url: str | None, folder: object = None, **settings: object):
    given = {"data_dir": str(folder), **settings} if folder else settings
    async with running(server_url, pages=pages(), **given) as run:
        yield run


async def get(run: Running, path: str, status: int = 200, **more: object) -> Page:
    answer = await run.http.get(path, **more)
    assert answer.status_code == status, (path, answer.text[-2000:])
    page = Page(answer.text)
    assert page.faults == [], path
    return page


async def post(run: Running, path: str, page: Page, **fields: object):
    """Send a form of a page that was read."""
    return await run.http.post(path, data={"form": page.value("form"), **fields})


class Flaky:
    """A handler that fails for good until it is mended."""

    def __init__(self, log) -> None:
        self.is_mended = False
        self.worker = Worker(log, "answers")

        @self.worker.on("message.received", retry=Retry(attempts=1))
        async def answer(_event, _context) -> None:
            if not self.is_mended:
                raise SendFailed(f"502 Bad Gateway {NASTY}", reason="bad_gateway")


async def fill(run: Running) -> str:
    """Append what is nasty in every field that a page shows; return a session's id."""
    bridge, log = run.bridge, run.log
    session = await bridge.tickets.start(NASTY, NASTY, sender=NASTY, project=NASTY)
    conversation = f"ticket:{NASTY}"
    common = {"conversation": conversation, "session": session}
    await log.append(
        [
            ToolCalled(**common, call=NASTY, name=NASTY, arguments=NASTY),
            ToolReturned(**common, call=NASTY, result=NASTY, is_error=True, duration_ms=1900),
            ToolCalled(**common, call="running", name="bash", arguments='{"command": "make"}'),
            MessageReceived(conversation=f"irc:{NASTY}", text=NASTY, sender=NASTY),
            MessageSent(conversation=f"irc:{NASTY}", text="plain", sender="bot"),
        ]
    )
    flaky = Flaky(log)
    await flaky.worker.run_once()
    return session


class TestEveryPage:
    async def test_is_whole_labelled_and_lets_nothing_through(self, server_url, tmp_path):
        async with dashboard(server_url, tmp_path) as run:
            empty = ["/", "/conversations", "/sessions", "/dead-letters", "/projections",
                     "/archive", "/sql", "/sql/reports/tools"]  # fmt: skip
            for path in empty:
                await get(run, path)
            session = await fill(run)
            [letter, *_] = (await run.bridge.dead_letters.list()).items
            paths = [
                *empty,
                f"/conversations/{quote(f'irc:{NASTY}', safe='')}",
                f"/conversations/{quote(f'ticket:{NASTY}', safe='')}",
                f"/conversations?name={quote('irc:<')}",
                f"/sessions/{session}",
                f"/sessions?project={quote(NASTY)}",
                f"/dead-letters/{quote(letter.letter, safe='')}",
                f"/dead-letters?conversation={quote(letter.conversation)}",
                f"/sql?sql={quote(NASTY)}",
            ]
            for path in paths:
                page = await get(run, path)
                assert "<script>alert" not in page.html, path
            for path, said in (
                ("/sessions/none", "there is no session"),
                ("/conversations/none", "nothing was ever said"),
                ("/dead-letters/none", "there is no dead letter"),
                ("/sql/reports/none", "there is no report"),
            ):
                assert said in (await get(run, path, 404)).text

    async def test_loads_only_what_comes_from_here(self, server_url, tmp_path):
        async with dashboard(server_url, tmp_path) as run:
            answer = await run.http.get("/sessions")
            policy = answer.headers["content-security-policy"]
            assert "script-src 'self'" in policy
            assert "unsafe" not in policy
            page = Page(answer.text)
            wanted = [e["src"] for e in page.all("script")] + [e["href"] for e in page.all("link")]
            assert len(wanted) >= 3
            for address in wanted:
                assert address.startswith("/static/")
                loaded = await run.http.get(address)
                assert loaded.status_code == 200
                assert "immutable" in loaded.headers["cache-control"]
            assert (await run.http.get("/static/%2e%2e/page.py")).status_code == 404

    async def test_a_bad_cursor_or_filter_is_told_in_words(self, server_url, tmp_path):
        async with dashboard(server_url, tmp_path) as run:
            for path in ("/sessions?cursor=x", "/dead-letters?status=x", "/conversations?cursor=x"):
                page = await get(run, path, 400)
                assert "nothing was changed" in page.text

    async def test_with_the_log_away_says_so_and_what_to_do(self, tmp_path):
        with RawServer(tmp_path) as server:
            folder = tmp_path / "data"
            async with dashboard(server.url, folder, command_timeout_s=0.5) as run:
                await get(run, "/")
                server.kill()
                page = await get(run, "/sessions", 503)
                assert "The log is away" in page.text
                assert "nothing that was acknowledged is lost" in page.text


class TestOverview:
    async def test_says_how_things_are_then_proves_it(self, server_url, tmp_path):
        async with dashboard(server_url, tmp_path) as run:
            assert "empty and ready" in (await get(run, "/")).text
        async with dashboard(server_url, tmp_path) as run:
            await run.log.append(MessageReceived(conversation="a:1", text="hello"))
            await Flaky(run.log).worker.run_once()
            page = await get(run, "/")
            assert "502 Bad Gateway" in page.text
            # Projector and archiver do not run here.
            assert "Nobody works for projector" in page.text
            assert [e["href"] for e in page.all("a") if "/dead-letters/" in (e["href"] or "")]

    async def test_those_who_look_at_once_share_one_look(self, server_url, tmp_path):
        async with dashboard(server_url, tmp_path) as run:
            await get(run, "/")
            before = await commands_of(run.log)
            await asyncio.gather(*(run.http.get("/") for _ in range(20)))
            assert await commands_of(run.log) - before < 200


async def commands_of(log: EventLog) -> int:
    stats = [await node.info("stats") for node in await nodes_of(log.client)]
    return sum(each["total_commands_processed"] for each in stats)


class TestLetters:
    async def test_a_replay_is_asked_for_and_its_outcome_shown(self, server_url, tmp_path):
        async with dashboard(server_url, tmp_path) as run:
            flaky = Flaky(run.log)
            await run.log.append([MessageReceived(conversation=f"a:{n}", text="x") for n in (1, 2)])
            await flaky.worker.run_once()
            page = await get(run, "/dead-letters")
            assert "2 parked, none lost" in page.text
            letters = [each["value"] for each in page.all("input") if each.get("name") == "letter"]
            assert len(letters) == 2
            answer = await post(run, "/dead-letters/replay", page, letter=letters)
            assert answer.status_code == 303
            told = await get(run, answer.headers["location"])
            assert "2 letters asked to be replayed" in told.text
            flaky.is_mended = True
            await flaky.worker.run_once()
            assert "2 letters settled" in (await get(run, "/dead-letters")).text

    async def test_discarding_asks_for_a_reason(self, server_url, tmp_path):
        async with dashboard(server_url, tmp_path) as run:
            await run.log.append(MessageReceived(conversation="a:1", text="x"))
            await Flaky(run.log).worker.run_once()
            page = await get(run, "/dead-letters")
            name = page.value("letter")
            refused = await post(run, "/dead-letters/discard", page, letter=name, reason=" ")
            assert refused.status_code == 422
            assert "without a reason" in refused.text
            answer = await post(run, "/dead-letters/discard", page, letter=name, reason="a test")
            assert answer.status_code == 303
            detail = await get(run, f"/dead-letters/{quote(name, safe='')}")
            assert "a test" in detail.text

    async def test_a_letter_nobody_would_try_is_left_out(self, server_url, tmp_path):
        async with dashboard(server_url, tmp_path) as run:
            await run.bridge.persist_failed_delivery("a:1", "hello", letter="one")
            page = await get(run, "/dead-letters/one")
            assert "ever ran here" in page.text
            answer = await post(run, "/dead-letters/replay", page, letter="one", view="one")
            assert "nobody=1" in answer.headers["location"]


class TestForms:
    async def test_without_its_token_or_from_another_site_nothing_is_done(
        self, server_url, tmp_path
    ):
        async with dashboard(server_url, tmp_path) as run:
            page = await get(run, "/sessions")
            fields = {"ticket": "T-1", "text": "hi"}
            assert (await run.http.post("/sessions", data=fields)).status_code == 403
            elsewhere = {"Origin": "https://evil.example"}
            own = {"form": page.value("form"), **fields}
            refused = await run.http.post("/sessions", data=own, headers=elsewhere)
            assert refused.status_code == 403
            assert (await run.http.post("/sessions", json=own)).status_code == 415
            huge = await run.http.post("/sessions", data={**own, "text": "x" * 2_000_000})
            assert huge.status_code == 413
            assert not (await run.bridge.sessions.list()).items

    async def test_a_session_is_started_once_and_spoken_in(self, server_url, tmp_path):
        async with dashboard(server_url, tmp_path) as run:
            page = await get(run, "/sessions")
            fields = {"ticket": "T-1", "text": "Fix the test", "kind": "chat",
                      "session_id": page.value("session_id")}  # fmt: skip
            answers = [await post(run, "/sessions", page, **fields) for _ in range(2)]
            assert [each.status_code for each in answers] == [303, 303]
            where = answers[0].headers["location"]
            assert len((await run.bridge.sessions.list()).items) == 1
            session = await get(run, where)
            assert "Fix the test" in session.text
            said = {"text": "and the other", "message_id": session.value("message_id")}
            for _ in range(2):
                assert (await post(run, where, session, **said)).status_code == 303
            assert (await get(run, where)).text.count("and the other") == 1
            lists = await get(run, "/sessions")
            assert "1 goes on now" in lists.text


class TestTranscripts:
    async def test_tools_stand_between_messages_and_pages_go_back(self, server_url, tmp_path):
        async with dashboard(server_url, tmp_path) as run:
            session = await run.bridge.sessions.start("a:1", session_id="s1")
            common = {"conversation": "a:1", "session": session.id}
            for n in range(130):
                await run.log.append(
                    [
                        MessageReceived(**common, text=f"question {n}."),
                        ToolCalled(**common, call=f"c{n}", name="bash", arguments=f"run {n}."),
                        ToolReturned(**common, call=f"c{n}", result="ok", duration_ms=7),
                    ]
                )
            for path in ("/conversations/a:1", "/sessions/s1"):
                seen: list[str] = []
                address: str | None = path
                while address:
                    page = await get(run, address)
                    seen += [e["id"] for e in page.all("li") if e.get("data-n") not in (None, "0")]
                    older = [e["href"] for e in page.all("a") if "cursor=" in (e.get("href") or "")]
                    address = older[0] if older else None
                calls = [each for each in seen if each]
                assert len(set(calls)) >= 260, path
                assert "run 0." in page.text
                assert "question 0." in page.text


class TestSql:
    async def test_rows_and_a_picture_or_the_error_in_words(self, server_url, tmp_path):
        async with dashboard(server_url, tmp_path) as run:
            day_us = 86_400_000_000
            await run.log.append(
                [
                    MessageReceived(conversation="a:1", text="x", occurred_at=n * day_us)
                    for n in (9, 9, 11)
                ]
            )
            page = await get(run, "/sql")
            sql = "SELECT occurred_at::DATE AS day, count(*) AS messages FROM messages GROUP BY 1"
            answer = await post(run, "/sql", page, sql=sql)
            found = Page(answer.text)
            assert (answer.status_code, found.faults) == (200, [])
            assert "2 rows" in found.text
            assert any("messages by day" in (e.get("aria-label") or "") for e in found.all("svg"))
            wrong = await post(run, "/sql", page, sql="SELECT nothing FROM nowhere")
            assert wrong.status_code == 422
            assert "nowhere" in Page(wrong.text).text
            assert "was not answered" in wrong.text
            csv = await post(run, "/sql/result", page, sql=sql, format="csv")
            assert csv.text.splitlines()[0] == '"day","messages"'
            parquet = await post(run, "/sql/result", page, sql=sql, format="parquet")
            assert parquet.content[:4] == b"PAR1"
            report = await get(run, "/sql/reports/messages-per-day")
            assert report.all("svg")


class TestProjections:
    async def test_a_rebuild_is_begun_seen_and_cancelled_with_a_reason(self, server_url, tmp_path):
        async with dashboard(server_url, tmp_path) as run:
            await run.log.append(MessageReceived(conversation="a:1", text="x"))
            page = await get(run, "/projections")
            assert "No projector runs" in page.text
            await run.service.projector.run_until_caught_up()
            page = await get(run, "/projections")
            answer = await post(run, "/projections/history/rebuild", page)
            assert answer.status_code == 303
            page = await get(run, answer.headers["location"])
            assert "Rebuilding history v1 beside v1" in page.text
            assert page.all("progress")
            refused = await post(run, "/projections/history/cancel", page, reason="")
            assert refused.status_code == 422
            await post(run, "/projections/history/cancel", page, reason="a test")
            assert not (await get(run, "/projections")).all("progress")


class TestLogin:
    async def test_a_token_gives_a_cookie_good_for_its_scope(self, server_url, tmp_path):
        tokens = f"read:{READ},admin:{ADMIN}"
        async with dashboard(server_url, tmp_path, http_tokens=tokens) as run:
            turned = await run.http.get("/sessions?status=active")
            assert turned.status_code == 303
            assert turned.headers["location"] == "/login?next=%2Fsessions%3Fstatus%3Dactive"
            page = await get(run, turned.headers["location"])
            wrong = await post(run, "/login", page, token="nothing-of-ours")
            assert wrong.status_code == 401
            assert "not known" in wrong.text
            away = await post(run, "/login", page, token=READ, next="//evil.example/")
            assert away.headers["location"] == "/"
            cookie = away.headers["set-cookie"].lower()
            assert all(word in cookie for word in ("httponly", "samesite=strict"))
            assert READ not in cookie
            seen = await get(run, "/sessions")
            assert "Start a session" not in seen.text
            refused = await post(run, "/sessions", seen, ticket="T-1", text="x")
            assert refused.status_code == 403
            out = await post(run, "/logout", seen)
            assert out.headers["location"] == "/login"
            assert (await run.http.get("/")).status_code == 303
