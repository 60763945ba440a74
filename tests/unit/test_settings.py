from __future__ import annotations

from pathlib import Path

import pytest

from eventlog.errors import ConfigurationError
from eventlog.settings import (
    DEFAULT_SERVER_URL,
    Settings,
    environment_of,
    load_settings,
    mask_url,
)


@pytest.fixture
def no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    return file


@pytest.mark.usefixtures("no_file")
class TestPrecedence:
    def test_nothing_given_is_the_embedded_server_with_the_documented_defaults(self):
        settings = load_settings(environment={})
        assert settings == Settings()
        assert settings.url is None
        assert (settings.connect_timeout_s, settings.command_timeout_s) == (5.0, 3.0)
        assert (settings.max_retries, settings.db) == (3, 0)

    def test_argument_beats_environment_beats_file_beats_default(self, tmp_path):
        file = written(tmp_path, 'key_prefix = "file"\nlease_ttl_ms = 200\ndb = 1\n')
        environment = {"EVENTLOG_KEY_PREFIX": "env", "EVENTLOG_LEASE_TTL_MS": "300"}
        settings = load_settings(environment=environment, file=file, key_prefix="argument")
        assert settings.key_prefix == "argument"
        assert settings.lease_ttl_ms == 300
        assert settings.db == 1
        assert settings.max_retries == 3

    def test_an_argument_that_is_none_was_not_given(self):
        environment = {"REDIS_URL": "redis://elsewhere:1"}
        assert load_settings(environment=environment, url=None).url == "redis://elsewhere:1"

    def test_the_usual_redis_variables_are_read(self):
        environment = {
            "REDIS_URL": "rediss://db:6379",
            "REDIS_PASSWORD": "null",
            "SESSION_TTL_SECONDS": "60",
            "UNRELATED": "x",
        }
        settings = load_settings(environment=environment)
        assert settings.url == "rediss://db:6379"
        assert settings.password == "null"
        assert settings.session_ttl_s == 60

    def test_an_empty_variable_counts_as_unset(self):
        assert load_settings(environment={"REDIS_URL": "", "EVENTLOG_CONFIG": ""}) == Settings()

    def test_the_file_of_the_working_directory_is_found(self, tmp_path):
        (tmp_path / "eventlog.toml").write_text("db = 7")
        assert load_settings(environment={}).db == 7

    def test_the_environment_names_a_file(self, tmp_path):
        file = written(tmp_path, "db = 5")
        assert load_settings(environment={"EVENTLOG_CONFIG": str(file)}).db == 5

    def test_url_server_stands_for_the_local_one(self):
        assert load_settings(environment={}, url="server").url == DEFAULT_SERVER_URL


@pytest.mark.usefixtures("no_file")
class TestRefusals:
    def test_an_unknown_key_is_named_with_its_source(self, tmp_path):
        with pytest.raises(ConfigurationError, match=r"'colour' in .*settings\.toml"):
            load_settings(environment={}, file=written(tmp_path, "colour = 1"))
        with pytest.raises(ConfigurationError, match="'colour' in the arguments"):
            load_settings(environment={}, colour=1)
        with pytest.raises(ConfigurationError, match="EVENTLOG_COLOUR"):
            load_settings(environment={"EVENTLOG_COLOUR": "1"})

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("db", 16),
            ("db", -1),
            ("db", True),
            ("db", "one"),
            ("db", 1.5),
            ("connect_timeout_s", 0),
            ("connect_timeout_s", float("nan")),
            ("partition_count", 0),
            ("max_retries", -1),
            ("durability", "hope"),
            ("key_prefix", "a{b}"),
            ("key_prefix", "line\n"),
            ("key_prefix", ""),
            ("lease_ttl_ms", 99),
            ("password", 5),
            ("data_dir", 5),
        ],
    )
    def test_a_value_out_of_range_names_the_setting(self, name, value):
        with pytest.raises(ConfigurationError, match=f"'{name}' from the arguments"):
            load_settings(environment={}, **{name: value})

    def test_the_source_of_a_bad_value_is_named(self, tmp_path):
        with pytest.raises(ConfigurationError, match="'db' from the environment"):
            load_settings(environment={"EVENTLOG_DB": "99"})
        with pytest.raises(ConfigurationError, match=r"'db' from .*settings\.toml"):
            load_settings(environment={}, file=written(tmp_path, "db = 99"))

    def test_a_named_file_must_be_there_and_be_toml(self, tmp_path):
        with pytest.raises(ConfigurationError, match="nowhere"):
            load_settings(environment={}, file=tmp_path / "nowhere.toml")
        with pytest.raises(ConfigurationError, match=r"settings\.toml"):
            load_settings(environment={}, file=written(tmp_path, "db ="))

    @pytest.mark.parametrize(
        "url",
        ["bot:s3cret@db:6379", "http://bot:s3cret@db", "redis://:s3cret and@db", "s3cret and@db"],
    )
    def test_a_url_that_is_none_is_refused_without_its_credentials(self, url):
        with pytest.raises(ConfigurationError, match="db") as caught:
            load_settings(environment={}, url=url)
        assert "s3cret" not in str(caught.value)
        assert "bot" not in str(caught.value)

    def test_an_empty_url_is_not_the_embedded_server(self):
        with pytest.raises(ConfigurationError, match="no server address"):
            load_settings(environment={}, url="")


class TestMasking:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("redis://bot:pw@db:6379/0", "redis://***@db:6379/0"),
            ("rediss://:p/w@d@db", "rediss://***@db"),
            ("unix:///run/x.sock?db=1&password=pw&x=1", "unix:///run/x.sock?db=1&password=***&x=1"),
            ("redis://db?username=bot&ssl_password=pw", "redis://db?username=***&ssl_password=***"),
            ("no redis://a:pw@x nor redis://b:pw@y", "no redis://***@x nor redis://***@y"),
            ("redis://db:6379/0", "redis://db:6379/0"),
            ("mail alice@example.org", "mail alice@example.org"),
        ],
    )
    def test_credentials_in_urls_are_cut_out(self, text, shown):
        assert mask_url(text) == shown

    def test_settings_never_show_their_credentials(self):
        settings = Settings(url="redis://bot:s3cret@db", password="hunter2", db=3)
        for shown in (repr(settings), str(settings), str(list(settings.__rich_repr__()))):
            assert "s3cret" not in shown
            assert "hunter2" not in shown
            assert "***" in shown
            assert "3" in shown
        assert settings.masked()["url"] == "redis://***@db"

    def test_an_unset_password_is_shown_as_unset(self):
        assert Settings().masked()["password"] is None


class TestPaths:
    def test_the_archive_lives_in_the_data_directory_unless_it_is_named(self, tmp_path):
        assert Settings(data_dir=str(tmp_path)).archive_path == tmp_path / "archive"
        assert Settings(archive_dir=str(tmp_path)).archive_path == tmp_path

    def test_paths_are_absolute(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert Settings(data_dir="data").data_path == tmp_path / "data"
        assert Settings(data_dir="~/data").data_path == tmp_path / "home" / "data"
        assert Settings().data_path.is_absolute()


def test_another_process_gets_the_same_settings_by_its_environment() -> None:
    settings = load_settings(
        environment={}, url="redis://bot:s3cret@db:6379/1", lease_ttl_ms=500, key_prefix="a:b"
    )
    assert load_settings(environment=environment_of(settings)) == settings


def test_days_to_keep_come_from_file_environment_and_argument(tmp_path: Path) -> None:
    file = tmp_path / "eventlog.toml"
    file.write_text('archive_keep_days = { "bridge.event" = 30 }')
    assert load_settings(environment={}, file=file).archive_keep_days == {"bridge.event": 30}
    named = {"EVENTLOG_ARCHIVE_KEEP_DAYS": "bridge.event=7, shop.sold=90"}
    settings = load_settings(environment=named, file=file)
    assert settings.archive_keep_days == {"bridge.event": 7, "shop.sold": 90}
    assert load_settings(environment=environment_of(settings)) == settings
    for wrong in ("bridge.event", "bridge.event=soon", "bridge.event=0", "=3=4"):
        with pytest.raises(ConfigurationError, match="archive_keep_days"):
            load_settings(environment={"EVENTLOG_ARCHIVE_KEEP_DAYS": wrong})
