"""What is peculiar to a bucket: lost replies, servers that know no conditions, copies on this machine."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from analytics import BucketStorage, Segment, Warehouse, open_storage, storage_of
from analytics import bucket_objects as objects_module
from analytics.segment_cache import GRACE_S
from eventlog.clock import SystemClock
from eventlog.errors import ArchiveUnavailable, ConfigurationError, HistoryGap
from eventlog.settings import Settings, load_settings
from tests.buckets import (
    CREDENTIALS,
    Bucket,
    Exchange,
    front,
    ignoring_conditions,
    losing_replies,
)
from tests.support import free_port


class SetClock(SystemClock):
    """The time is what it was set to."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def now_us(self) -> int:
        return int(self.now_s * 1e6)

    def monotonic_s(self) -> float:
        return self.now_s

    def advance(self, duration_s: float) -> None:
        self.now_s += duration_s


DAY_MS = 1_795_132_800_000


def segment(number: int) -> Segment:
    return Segment(0, number * 10 + 1, number * 10 + 10, DAY_MS + number)


def publish(storage: BucketStorage, number: int, content: bytes) -> bool:
    staged = storage.stage(segment(number))
    staged.write_bytes(content)
    return storage.publish(staged, segment(number))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


class TestPublishing:
    @pytest.mark.parametrize("method", ["PUT", "HEAD", "GET", "DELETE"])
    def test_a_lost_reply_harms_nothing(self, bucket: Bucket, method: str) -> None:
        seen: Counter[str] = Counter()
        lock = threading.Lock()

        def every_other(exchange: Exchange) -> bool:
            with lock:
                seen[exchange.method] += 1
                return exchange.method == method and seen[method] % 2 == 1

        with front(bucket.endpoint_url, losing_replies(every_other)) as url:
            storage = bucket.storage(url, cache="one")
            assert publish(storage, 1, b"ten rows")
            assert not publish(bucket.storage(url, cache="two"), 1, b"others")
            assert bucket.storage(url, cache="three").path(segment(1)).read_bytes() == b"ten rows"
            storage.remove(segment(1))
        assert seen[method] > 1
        assert bucket.keys() == []
        assert storage.temporary_count() == 0

    def test_a_server_that_ignores_the_condition_is_found_out(
        self, bucket: Bucket, caplog: pytest.LogCaptureFixture
    ) -> None:
        with front(bucket.endpoint_url, ignoring_conditions) as url:
            storage = bucket.storage(url)
            assert publish(storage, 1, b"ten rows")
            assert not publish(storage, 1, b"others")
            assert not storage.enforces_absence()
        assert [r.event for r in caplog.records if r.name == "eventlog.bucket"] == [
            "bucket_ignores_if_none_match"
        ]
        assert bucket.storage(cache="other").path(segment(1)).read_bytes() == b"ten rows"
        assert bucket.keys() == [f"archive/{segment(1).name}"]  # and nothing of the trial

    def test_one_that_enforces_it_is_believed(self, bucket: Bucket) -> None:
        assert bucket.storage().enforces_absence()
        assert bucket.keys() == []

    def test_a_long_file_goes_in_parts(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(objects_module, "MULTIPART_BYTES", 6 << 20)
        monkeypatch.setattr(objects_module, "PART_BYTES", 5 << 20)
        content = os.urandom(12 << 20)
        completions: Counter[str] = Counter()

        def first_completion(exchange: Exchange) -> bool:
            if exchange.method == "POST" and "uploadId=" in exchange.path:
                completions[exchange.path] += 1
                return len(completions) == 1 and completions[exchange.path] == 1
            return False

        with front(bucket.endpoint_url, losing_replies(first_completion)) as url:
            assert publish(bucket.storage(url), 1, content)
        assert sum(completions.values()) > 1
        assert not publish(bucket.storage(cache="two"), 1, content[:-1])
        assert bucket.storage(cache="three").path(segment(1)).read_bytes() == content

    def test_uploads_that_never_ended_are_swept(self, bucket: Bucket) -> None:
        client = bucket.client()
        client.create_multipart_upload(Bucket=bucket.name, Key=f"archive/{segment(1).name}")
        [upload] = client.list_multipart_uploads(Bucket=bucket.name)["Uploads"]
        clock = SetClock()
        clock.now_s = upload["Initiated"].timestamp() + 100
        storage = bucket.storage(clock=clock)
        storage.sweep(age_s=200)
        assert len(client.list_multipart_uploads(Bucket=bucket.name)["Uploads"]) == 1
        storage.sweep(age_s=50)
        assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket.name)

    def test_more_than_a_page_of_objects_is_listed(self, bucket: Bucket) -> None:
        def with_short_pages(exchange: Exchange) -> Exchange:
            return exchange._replace(
                path=exchange.path.replace("list-type=2", "list-type=2&max-keys=2")
            )

        for number in range(5):
            publish(bucket.storage(), number, b"x")
        with front(bucket.endpoint_url, with_short_pages) as url:
            assert len(bucket.storage(url).segments()) == 5


class TestCopies:
    def test_many_are_fetched_at_once_and_each_once(self, bucket: Bucket) -> None:
        for number in range(12):
            publish(bucket.storage(cache="writer"), number, b"x" * number)
        wanted = [segment(number) for number in range(12)]
        fetched: Counter[str] = Counter()
        lock = threading.Lock()
        together = threading.Barrier(4, timeout=10)

        def counting(exchange: Exchange) -> Exchange:
            if exchange.method == "GET" and exchange.path.endswith(".parquet"):
                with lock:
                    fetched[exchange.path] += 1
                together.wait()  # passes only when four are on their way
            return exchange

        with front(bucket.endpoint_url, counting) as url:
            storage = bucket.storage(url)
            with ThreadPoolExecutor(3) as readers:
                for paths in readers.map(storage.paths, [wanted] * 3):
                    assert len(paths) == 12
            assert [p.stat().st_size for p in storage.paths(wanted)] == list(range(12))
        assert set(fetched.values()) == {1}
        assert len(fetched) == 12

    def test_what_is_here_is_not_fetched_again_nor_by_another_process(self, bucket: Bucket) -> None:
        publish(bucket.storage(cache="writer"), 1, b"ten rows")
        fetched: list[str] = []

        def noting(exchange: Exchange) -> Exchange:
            fetched.extend([exchange.path] if exchange.method == "GET" else [])
            return exchange

        with front(bucket.endpoint_url, noting) as url:
            for _ in range(3):
                assert bucket.storage(url).path(segment(1)).read_bytes() == b"ten rows"
        assert len(fetched) == 1

    def test_the_writer_s_own_file_is_its_copy(self, bucket: Bucket) -> None:
        def nothing_is_fetched(exchange: Exchange) -> Exchange:
            assert exchange.method != "GET"
            return exchange

        with front(bucket.endpoint_url, nothing_is_fetched) as url:
            storage = bucket.storage(url)
            publish(storage, 1, b"ten rows")
            assert storage.path(segment(1)).read_bytes() == b"ten rows"

    @pytest.mark.parametrize("harm", [b"", b"ten", b"TEN ROWS", b"ten rows and more"])
    def test_a_copy_that_was_changed_is_fetched_again(
        self, bucket: Bucket, caplog: pytest.LogCaptureFixture, harm: bytes
    ) -> None:
        storage = bucket.storage()
        publish(storage, 1, b"ten rows")
        storage.path(segment(1)).write_bytes(harm)
        assert storage.path(segment(1)).read_bytes() == b"ten rows"
        [pinned] = storage.paths([segment(1)])
        pinned.write_bytes(harm)
        assert storage.paths([segment(1)]) == [pinned]
        assert pinned.read_bytes() == b"ten rows"
        assert "cached_segment_changed" in caplog.text

    def test_what_comes_damaged_is_never_kept(self, bucket: Bucket) -> None:
        storage = bucket.storage()
        publish(storage, 1, b"ten rows")
        client, key = bucket.client(), f"archive/{segment(1).name}"
        said = client.head_object(Bucket=bucket.name, Key=key)["Metadata"]
        client.put_object(Bucket=bucket.name, Key=key, Body=b"TEN ROWS", Metadata=said)
        other = bucket.storage(cache="other")
        with pytest.raises(ArchiveUnavailable, match="did not come whole"):
            other.path(segment(1))
        assert files(bucket.folder / "other") == []

    def test_an_object_from_elsewhere_needs_no_digest(self, bucket: Bucket) -> None:
        key = f"archive/{segment(1).name}"
        bucket.client().put_object(Bucket=bucket.name, Key=key, Body=b"copied by a tool")
        assert bucket.storage().path(segment(1)).read_bytes() == b"copied by a tool"

    def test_copies_of_what_was_replaced_or_removed_go_at_the_next_listing(
        self, bucket: Bucket
    ) -> None:
        one, other = bucket.storage(cache="one"), bucket.storage(cache="other")
        publish(one, 1, b"a name")
        publish(one, 2, b"ten rows")
        other.paths([segment(1), segment(2)])
        staged = one.stage(segment(1))
        staged.write_bytes(b"no name")
        one.replace(staged, segment(1))
        one.remove(segment(2))
        for storage, cache in ((one, "one"), (other, "other")):
            storage.segments()
            storage.paths(storage.segments())
            kept = list((bucket.folder / cache).rglob("*.parquet"))
            assert {path.read_bytes() for path in kept} == {b"no name"}

    def test_the_bound_holds_and_what_was_used_last_stays(self, bucket: Bucket) -> None:
        clock = SetClock()
        storage = bucket.storage(limit_bytes=3500, clock=clock)
        for number in range(6):
            publish(bucket.storage(cache="writer"), number, bytes(1000))
        for number in (0, 1, 2, 0, 3, 4, 0, 5):
            clock.advance(GRACE_S + 1)
            storage.path(segment(number))
        kept = list((bucket.folder / "cache").rglob("*.parquet"))
        assert {path.name.split("-")[1] for path in kept} == {
            f"{number * 10 + 1:012d}" for number in (0, 4, 5)
        }

    def test_a_query_needs_more_than_the_bound_and_keeps_it_until_the_next(
        self, bucket: Bucket
    ) -> None:
        clock = SetClock()
        for number in range(5):
            publish(bucket.storage(cache="writer"), number, bytes(1000))
        storage = bucket.storage(limit_bytes=2000, clock=clock)
        paths = storage.paths([segment(number) for number in range(5)])
        rival = bucket.storage(limit_bytes=2000, clock=clock)
        clock.advance(GRACE_S + 1)
        rival.path(segment(0))
        rival.remove(segment(1))
        rival.segments()
        assert [path.stat().st_size for path in paths] == [1000] * 5
        there = [segment(number) for number in (0, 2, 3, 4)]

        def nothing_is_fetched(exchange: Exchange) -> Exchange:
            assert exchange.method != "GET"
            return exchange

        with front(bucket.endpoint_url, nothing_is_fetched) as url:
            storage.objects.endpoint_url, storage.objects._made = url, None
            assert storage.paths(there) == [paths[number] for number in (0, 2, 3, 4)]
        clock.advance(GRACE_S + 1)
        storage.paths([])
        assert not any(path.exists() for path in paths)

    def test_pins_of_a_killed_process_are_swept(self, bucket: Bucket) -> None:
        storage = bucket.storage()
        publish(storage, 1, b"ten rows")
        program = (
            "import os, signal, sys\nfrom pathlib import Path\n"
            "from analytics.segment_cache import SegmentCache\n"
            "[path] = SegmentCache(Path(sys.argv[1]), 10**9).pin([Path(sys.argv[2])])\n"
            "print(path, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program, bucket.folder / "cache", storage.path(segment(1))],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        left, [own] = Path(ended.stdout.strip()), storage.paths([segment(1)])
        assert left.exists()
        storage.sweep()
        assert not left.exists()
        assert own.exists()

    def test_a_full_disk_is_told_with_what_to_do(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(bucket.storage(cache="writer"), 1, b"ten rows")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(
            ArchiveUnavailable, match=r"No space left on device\. Make room.*archive_cache_dir"
        ):
            bucket.storage().path(segment(1))
        assert files(bucket.folder / "cache") == []

    def test_a_segment_that_is_gone_is_named(self, bucket: Bucket) -> None:
        storage = bucket.storage()
        publish(storage, 1, b"ten rows")
        storage.segments()
        bucket.storage(cache="other").remove(segment(1))
        with pytest.raises(HistoryGap, match=re.escape(segment(2).name)):
            storage.paths([segment(2)])


class TestAway:
    @pytest.mark.parametrize(
        ("bucket_name", "settings", "environment", "words"),
        [
            ("nobody-s", {}, {}, "there is no such bucket. Create it"),
            ("other", {"s3_endpoint_url": "http://127.0.0.1:{port}"}, {}, "Is the server up"),
            ("other", {"s3_endpoint_url": "no url"}, {}, "Invalid endpoint: no url. See `s3_end"),
            ("other", {}, {"AWS_ACCESS_KEY_ID": "", "AWS_PROFILE": "x"}, "Set AWS_ACCESS_KEY_ID"),
        ],
    )
    def test_it_says_what_is_wrong_and_what_to_do(
        self,
        bucket: Bucket,
        monkeypatch: pytest.MonkeyPatch,
        bucket_name: str,
        settings: dict[str, str],
        environment: dict[str, str],
        words: str,
    ) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        objects_module._session.cache_clear()
        given = {"s3_endpoint_url": bucket.endpoint_url, "data_dir": str(bucket.folder), **settings}
        given["s3_endpoint_url"] = given["s3_endpoint_url"].format(port=free_port())
        storage = storage_of(Settings(archive_dir=f"s3://{bucket_name}/x", max_retries=0, **given))
        try:
            with pytest.raises((ArchiveUnavailable, ConfigurationError)) as caught:
                storage.segments()
        finally:
            objects_module._session.cache_clear()
        assert words in str(caught.value)

    @pytest.mark.parametrize("code", ["AccessDenied", "SlowDown", "PermanentRedirect"])
    def test_what_the_server_says_is_put_in_our_words(self, bucket: Bucket, code: str) -> None:
        from botocore.exceptions import ClientError

        error = ClientError({"Error": {"Code": code, "Message": "no"}}, "ListObjectsV2")
        told = objects_module._answered("cannot list", error, bucket.objects().place)
        assert {
            "AccessDenied": "refuses the credentials",
            "SlowDown": "Try again later",
            "PermanentRedirect": "s3_region",
        }[code] in str(told)

    async def test_a_query_names_what_is_missing(self, bucket: Bucket) -> None:
        async with Warehouse(
            None, bucket.storage(f"http://127.0.0.1:{free_port()}", attempts=1)
        ) as warehouse:
            with pytest.raises(ArchiveUnavailable, match=f"cannot list s3://{bucket.name}/archive"):
                await warehouse.query("FROM events")

    def test_a_server_that_says_nothing_is_not_waited_for_long(self, bucket: Bucket) -> None:
        released = threading.Event()

        def hanging(exchange: Exchange) -> Exchange:
            released.wait(10)
            return exchange

        with front(bucket.endpoint_url, hanging) as url:
            storage = bucket.storage(url, read_timeout_s=0.05, attempts=2)
            with pytest.raises(ArchiveUnavailable, match=r"[Tt]imeout|timed out"):
                storage.segments()
            released.set()


class TestNaming:
    @pytest.mark.parametrize(
        "url",
        [
            "s3://",
            "s3://x",
            "s3://key:s3cret@bucket/x",
            "s3://bucket/a?x=1",
            "s3://bucket/../x",
            "s3://bucket/a b",
            "gs://bucket/x",
            "http://bucket/s3cret",
        ],
    )
    def test_other_urls_are_refused_and_not_shown(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="archive_dir") as caught:
            load_settings(environment={}, archive_dir=url)
        assert "s3cret" not in str(caught.value)

    def test_directories_are_what_they_were(self, tmp_path: Path) -> None:
        assert storage_of(Settings(data_dir=str(tmp_path))).segments() == []
        settings = Settings(archive_dir="s3://bucket/a/b/")
        assert settings.archive_place == "s3://bucket/a/b"
        with pytest.raises(ConfigurationError, match="is a bucket"):
            settings.archive_path.exists()

    def test_the_library_is_asked_for_where_it_is_missing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(objects_module, "find_spec", lambda _: None)
        with pytest.raises(ConfigurationError, match=re.escape("pip install 'eventlog[s3]'")):
            open_storage("s3://bucket/x")

    def test_a_bucket_s_root_and_the_environment_do(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint_url)
        monkeypatch.setenv("EVENTLOG_DATA_DIR", str(bucket.folder))
        storage = open_storage(f"s3://{bucket.name}")
        assert isinstance(storage, BucketStorage)
        publish(storage, 1, b"x")
        assert bucket.keys() == [segment(1).name]

    def test_credentials_are_in_no_log(
        self, bucket: Bucket, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            with front(bucket.endpoint_url, ignoring_conditions) as url:
                publish(bucket.storage(url), 1, b"x")
            with pytest.raises(ArchiveUnavailable) as caught:
                bucket.storage("http://me:s3cret@127.0.0.1:1", attempts=1).segments()
        for secret in ("s3cret", *list(CREDENTIALS.values())[:2]):
            assert secret not in caplog.text
            assert secret not in str(caught.value)
