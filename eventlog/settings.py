"""Settings: argument > environment > file > default, strict.

An unknown key, a wrong type or a value out of range is a ConfigurationError that names the key and
where it came from. Credentials are masked wherever a setting is shown.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
import platformdirs
from msgspec import Meta

from eventlog.archive_place import bucket_place
from eventlog.errors import ConfigurationError
from eventlog.server_address import SCHEMES, parse_address

Durability = Literal["memory", "fsync", "replicated"]

DEFAULT_HOT_S = 7 * 24 * 3600

DEFAULT_SERVER_URL = "redis://localhost:6379"
"""What `url = "server"` stands for: a server of your own on this machine."""

LOG_FORMAT_VARIABLE = "EVENTLOG_LOG_FORMAT"
"""How a process of ours writes its log: `json` or `text`; else text on a terminal and JSON elsewhere."""

NO_SETTINGS = frozenset({"EVENTLOG_CONFIG", LOG_FORMAT_VARIABLE})
"""Variables that are not of the log but of the process."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All a log needs to know. Seconds end in `_s`, milliseconds in `_ms`, sizes in `_bytes`."""

    url: str | None = None
    """`redis://`, `rediss://` or `unix://`, `redis+cluster://` or `redis+sentinel://`; None runs the
    embedded server in `data_dir`."""
    password: str | None = None
    """Of a server that `url` names without one; never sent to the embedded server."""
    db: Annotated[int, Meta(ge=0, le=15)] = 0
    """The server's database, where the url has none."""
    key_prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z")] = "eventlog"
    """Which log on the server: logs of different prefixes share no key."""
    partition_count: Annotated[int, Meta(ge=1, le=1024)] | None = None
    """Fixed when the log is created (8 where unset); afterwards it must match if given."""
    connect_timeout_s: Annotated[float, Meta(gt=0)] = 5.0
    """How long a connection may take."""
    command_timeout_s: Annotated[float, Meta(gt=0)] = 3.0
    """How long one command may take before it counts as lost."""
    max_retries: Annotated[int, Meta(ge=0, le=100)] = 3
    """How often the log sends a lost call again; each is idempotent."""
    durability: Durability = "memory"
    """What an acknowledged append survives, where the call does not say."""
    dedup_window_s: Annotated[int, Meta(ge=60)] = 24 * 3600
    """How long an event id is remembered at least; at most twice as long."""
    max_event_bytes: Annotated[int, Meta(ge=1024)] = 1024 * 1024
    """The largest event as JSON."""
    data_dir: str | None = None
    """Home of the embedded server; None is the user's data directory."""
    archive_dir: str | None = None
    """Home of the Parquet segments, or `s3://BUCKET/PREFIX`; None is `archive` under `data_dir`."""
    archive_process_count: Annotated[int, Meta(ge=0, le=64)] | None = None
    """Processes that help to archive a backlog; None is one per core, at most 4."""
    reports_dir: str | None = None
    """Home of your own reports for `eventlog report`; None is `reports` under `data_dir`."""
    archive_cache_dir: str | None = None
    """Where segments of a bucket are kept for reading; None is `archive-cache` under `data_dir`."""
    archive_cache_bytes: Annotated[int, Meta(ge=1024**2)] = 10 * 1024**3
    """How much is kept there; what was not used for longest goes first."""
    s3_endpoint_url: str | None = None
    """Of an S3-compatible server; None is what `AWS_ENDPOINT_URL` says, else Amazon's."""
    s3_region: str | None = None
    """Of the bucket; None is what the SDK finds (`AWS_REGION`, `AWS_PROFILE`)."""
    archive_keep_days: dict[str, Annotated[int, Meta(ge=1)]] = {}
    """Days that the archive keeps events of a type, in the environment `bridge.event=30,my.type=7`."""
    spool_dir: str | None = None
    """Where appends wait for a server that is away; None: they fail with LogUnavailable."""
    spool_max_bytes: Annotated[int, Meta(ge=4096)] = 1024**3
    """How much may wait there, all processes together."""
    server_binary: str | None = None
    """A `valkey-server` or `redis-server` for the embedded server; None is the bundled one."""
    chat_history_limit: Annotated[int, Meta(ge=1, le=100_000)] = 500
    """Messages kept hot per conversation at least; older ones come from the archive."""
    chat_history_messages: Annotated[int, Meta(ge=1, le=10_000)] = 50
    """Messages that `bridge.history` gives for a chat, where the call does not say."""
    job_history_messages: Annotated[int, Meta(ge=1, le=10_000)] = 10
    """The same for a session in job mode."""
    transcript_limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    """Appends kept hot per agent transcript at least; older ones come from the archive or the log."""
    hot_s: Annotated[int, Meta(ge=0)] | None = None
    """What has ended or been idle for longer leaves the read models in Redis; 0: nothing does. None is a
    week where server and archive are on this machine, else 0."""
    session_ttl_s: Annotated[int, Meta(ge=1)] = 1800
    """An active session idle for longer becomes dormant."""
    event_buffer_count: Annotated[int, Meta(ge=1)] = 10_000
    """Bridge events that wait to be appended; what comes beyond is dropped and counted."""
    event_buffer_bytes: Annotated[int, Meta(ge=1024)] = 16 * 1024 * 1024
    """The same, by their size as JSON."""
    agent_poll_interval_ms: Annotated[int, Meta(ge=1)] = 500
    """How often a coding agent is asked what is new in a session that is followed."""
    retention_age_s: Annotated[int, Meta(ge=1)] = 7 * 24 * 3600
    """Entries leave the log when they are older, and nobody there needs them any more."""
    retention_max_entries: Annotated[int, Meta(ge=0)] | None = None
    """How many the log keeps at most, all partitions together; None is any number."""
    retention_memory_bytes: Annotated[int, Meta(ge=0)] | None = None
    """What their streams may take of the server's memory together; None is any amount."""
    lease_ttl_ms: Annotated[int, Meta(ge=100)] = 3000
    """A worker silent for longer loses its partitions to the others."""
    http_host: str = "127.0.0.1"
    """Where HTTP listens; any other address than this machine's own needs tokens."""
    http_port: Annotated[int, Meta(ge=0, le=65535)] = 8420
    """0 is any that is free."""
    http_tokens: str | None = None
    """Who may call, as `read:TOKEN,read+write:TOKEN,admin:sha256=DIGEST`; None: whoever reaches it."""
    http_tokens_file: str | None = None
    """The same in a file, one a line."""
    http_origins: str | None = None
    """Pages of other origins that may call, as `https://a.example,https://b.example`; None: none."""
    http_max_body_bytes: Annotated[int, Meta(ge=1024)] = 8 * 1024 * 1024
    """The largest body of a request."""

    @property
    def data_path(self) -> Path:
        """The data directory, absolute."""
        return Path(self.data_dir or platformdirs.user_data_dir("eventlog")).expanduser().absolute()

    @property
    def archive_place(self) -> str:
        """Where the archive is: an absolute path, or a bucket's URL."""
        bucket = bucket_place(self.archive_dir or "")
        return str(bucket or self.archive_path)

    @property
    def archive_path(self) -> Path:
        """The archive directory, absolute. Raises ConfigurationError where it is a bucket."""
        if self.archive_dir is None:
            return self.data_path / "archive"
        if bucket_place(self.archive_dir) is not None:
            raise ConfigurationError(
                "the archive is a bucket, not a directory.",
                remedy="`analytics.storage_of(settings)` gives the storage of either.",
            )
        return Path(self.archive_dir).expanduser().absolute()

    @property
    def reports_path(self) -> Path:
        """The directory of the user's own reports, absolute; it need not be there."""
        if self.reports_dir is None:
            return self.data_path / "reports"
        return Path(self.reports_dir).expanduser().absolute()

    @property
    def archive_cache_path(self) -> Path:
        """Where segments of a bucket are kept for reading, absolute."""
        if self.archive_cache_dir is None:
            return self.data_path / "archive-cache"
        return Path(self.archive_cache_dir).expanduser().absolute()

    @property
    def departed_path(self) -> Path:
        """The folder of what left the read models, absolute: beside the archive's files."""
        is_bucket = bucket_place(self.archive_dir or "") is not None
        return (self.data_path if is_bucket else self.archive_path) / "departed"

    @property
    def leaves_after_s(self) -> int:
        """How long what has ended or is idle stays in the read models at least; 0: for ever.

        What left is in a file that all programs of the log must see. So where nobody said how long,
        it leaves only if they are on one machine, as the server is; and never where the archive is a
        bucket, beside which there is no such file.
        """
        if bucket_place(self.archive_dir or "") is not None:
            return 0
        if self.hot_s is not None:
            return self.hot_s
        return DEFAULT_HOT_S if self._is_on_this_machine else 0

    @property
    def _is_on_this_machine(self) -> bool:
        if self.url is None:
            return True
        several = parse_address(self.url)
        if several is not None:
            return several.is_local
        address = urlsplit(self.url)
        return address.scheme == "unix" or address.hostname in ("localhost", "127.0.0.1", "::1")

    @property
    def longest_block_ms(self) -> int:
        """How long a command may block on the server before the client's own time-out strikes.

        A server wakes blocked clients up to 100 ms late (`hz`).
        """
        timeout_ms = int(self.command_timeout_s * 1000)
        return max(1, timeout_ms - max(200, timeout_ms // 5))

    def masked(self) -> dict[str, Any]:
        """Return the settings for people to read, credentials replaced by `***`."""
        shown = msgspec.structs.asdict(self)
        for name in ("password", "http_tokens"):
            shown[name] = shown[name] and "***"
        for name in ("url", "archive_dir", "s3_endpoint_url"):
            shown[name] = shown[name] and mask_url(shown[name])
        return shown

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{k}={v!r}' for k, v in self.masked().items())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec's own would show rich the password.
        return list(self.masked().items())


def mask_url(text: str) -> str:
    """Return the text with every password and user name inside a URL replaced by `***`.

    >>> mask_url("cannot reach redis://bot:s3cret@db:6379/0")
    'cannot reach redis://***@db:6379/0'
    """
    # Up to the last `@`: a password may hold `/` and `@` that someone forgot to encode.
    text = re.sub(r"(\w+://)\S*@", r"\1***@", text)
    return re.sub(r"([?&]\w*(?:password|username)=)[^&\s'\"]*", r"\1***", text)


def address_of(url: str) -> str:
    """Return where a server is, without credentials and options: one text for one place.

    >>> address_of("redis://bot:s3cret@db/0?socket_timeout=9")
    'redis://db/0'
    >>> address_of("redis+sentinel://b:1,a:1/main")
    'redis+sentinel://a:1,b:1/main'
    """
    scheme, _, rest = url.partition("?")[0].partition("://")
    hosts, slash, path = rest.rpartition("@")[2].partition("/")
    if "+" in scheme:  # several, in whatever order
        hosts = ",".join(sorted(hosts.split(",")))
    return f"{scheme}://{hosts}{slash}{path}"


_ENVIRONMENT = {
    "REDIS_URL": "url",
    "REDIS_PASSWORD": "password",
    "SESSION_TTL_SECONDS": "session_ttl_s",
    **{
        f"EVENTLOG_{name.upper()}": name
        for name in Settings.__struct_fields__
        if name not in ("url", "password", "session_ttl_s")
    },
}
"""Environment variable → setting."""


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment variables that give another process the same settings.

    A password is among them: hand them over as an environment, not on a command line.
    """
    values = msgspec.structs.asdict(settings)
    values["archive_keep_days"] = _as_text(settings.archive_keep_days) or None
    return {
        variable: str(values[name])
        for variable, name in _ENVIRONMENT.items()
        if values[name] is not None
    }


def load_settings(
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
    **arguments: Any,
) -> Settings:
    """Return the settings merged from arguments, environment, TOML file and defaults.

    Arguments that are None count as not given. `file` defaults to `EVENTLOG_CONFIG`, else to
    `eventlog.toml` in the working directory where it exists. Raises ConfigurationError.
    """
    environment = os.environ if environment is None else environment
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    given = _given(arguments)
    layers = (
        _from_file(file, environment),
        ("the environment", _from_environment(environment)),
        ("the arguments", given),
    )
    for source, values in layers:
        merged.update(values)
        sources.update(dict.fromkeys(values, source))
    return _convert(merged, sources)


def change_settings(settings: Settings, **arguments: Any) -> Settings:
    """Return the settings with arguments in place of some, checked alike. None changes nothing."""
    given = _given(arguments)
    values = {**msgspec.structs.asdict(settings), **given}
    return _convert(values, dict.fromkeys(values, "the arguments"))


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: os.fspath(value) if isinstance(value, os.PathLike) else value
        for key, value in arguments.items()
        if value is not None
    }


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    ours = {name for name in environment if name.startswith("EVENTLOG_")} - NO_SETTINGS
    unknown = sorted(ours - _ENVIRONMENT.keys())
    if unknown:
        raise ConfigurationError(
            f"{unknown[0]} is no setting.", remedy=f"Known: {', '.join(sorted(_ENVIRONMENT))}."
        )
    return {_ENVIRONMENT[name]: environment[name] for name in _ENVIRONMENT if environment.get(name)}


def _from_file(file: Path | None, environment: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    in_environment = environment.get("EVENTLOG_CONFIG")
    named = file or (Path(in_environment) if in_environment else None)
    path = named or Path("eventlog.toml")
    if named is None and not path.exists():
        return "no file", {}
    try:
        return str(path), tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read settings from {path}: {error}.") from None


def _named_numbers(text: str) -> dict[str, str]:
    """Return what `name=number,name=number` says; what is no such text is left to be refused.

    >>> _named_numbers("bridge.event=30, my.type=7")
    {'bridge.event': '30', 'my.type': '7'}
    """
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {name.strip(): number.strip() for name, _, number in pairs}


def _as_text(numbers: Mapping[str, int]) -> str:
    return ",".join(f"{name}={number}" for name, number in numbers.items())


def _convert(values: dict[str, Any], sources: dict[str, str]) -> Settings:
    unknown = sorted(values.keys() - set(Settings.__struct_fields__))
    if unknown:
        raise ConfigurationError(
            f"unknown setting {unknown[0]!r} in {sources[unknown[0]]}.",
            remedy=f"Known: {', '.join(Settings.__struct_fields__)}.",
        )
    if isinstance(values.get("archive_keep_days"), str):
        values = {**values, "archive_keep_days": _named_numbers(values["archive_keep_days"])}
    try:
        # Environment variables are text, so numbers written as text are accepted.
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        found = re.search(r"`\$\.(\w+)", str(error))
        name = found[1] if found else "?"
        reason = str(error).split(" - at ")[0]
        raise ConfigurationError(
            f"setting {name!r} from {sources.get(name, 'the arguments')}: {reason}."
        ) from None
    if settings.url == "server":
        settings = msgspec.structs.replace(settings, url=DEFAULT_SERVER_URL)
    schemes = tuple(f"{scheme}://" for scheme in ("redis", "rediss", "unix", *SCHEMES))
    if settings.url is not None and not re.fullmatch(
        rf"({'|'.join(map(re.escape, schemes))})\S*", settings.url
    ):
        # Only what follows the credentials is shown: without a scheme nothing else tells them apart.
        shown = mask_url(settings.url.rpartition("@")[2])
        raise ConfigurationError(
            f"setting 'url' from {sources['url']}: {shown!r} is no server address.",
            remedy=f"Start it with {', '.join(schemes)}, without blanks, or leave it out for the"
            " embedded server.",
        )
    try:
        parse_address(settings.url or "")
    except ValueError:
        shown = mask_url(f"{settings.url}".rpartition("@")[2])
        raise ConfigurationError(
            f"setting 'url' from {sources['url']}: {shown!r} is no address of several servers.",
            remedy="Write it as redis+cluster://user:password@host:port,host:port or as"
            " redis+sentinel://user:password@host:port,host:port/SERVICE, with every `/`, `@`, `:`,"
            " `?` and `#` of user and password percent-encoded.",
        ) from None
    try:
        bucket_place(settings.archive_dir or "")
    except ConfigurationError as error:
        raise ConfigurationError(
            f"setting 'archive_dir' from {sources['archive_dir']}: {error.message}",
            remedy=error.remedy,
        ) from None
    return settings
