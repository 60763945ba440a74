"""Several servers that tests start: a cluster with replicas, and a primary with sentinels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from tests.certificates import Certificates
from tests.support import RawServer, eventually_sync

NODE_TIMEOUT_MS = 1000
"""After which a silent node counts as failed: short, and longer than a busy machine pauses one."""


class Cluster:
    """Primaries, each with a replica where asked for, on TCP ports of this machine."""

    def __init__(
        self,
        folder: Path,
        *,
        primary_count: int = 3,
        replicas: bool = True,
        tls: Certificates | None = None,
        binary: str | None = None,
        **options: str | int,
    ) -> None:
        count = primary_count * (2 if replicas else 1)
        self._primary_count = primary_count
        self._tls = tls
        self._binary = binary
        self.nodes = [self._node(folder / f"node{number}", options) for number in range(count)]

    def _node(self, folder: Path, options: Mapping[str, str | int]) -> RawServer:
        folder.mkdir(parents=True)
        chosen: dict[str, str | int] = {
            "cluster_enabled": "yes",
            "cluster_node_timeout": NODE_TIMEOUT_MS,
            "cluster_replica_validity_factor": 0,
            "repl_diskless_sync_delay": 0,
            "appendonly": "yes",
            "hz": 100,
            **({"tls_cluster": "yes"} if self._tls else {}),
            **options,
        }
        return RawServer(folder, tcp=True, tls=self._tls, binary=self._binary, **chosen)

    @property
    def url(self) -> str:
        """The address, by its first and its last node."""
        ports = (self.nodes[0].port, self.nodes[-1].port)
        places = ",".join(f"127.0.0.1:{port}" for port in ports)
        if self._tls:
            return f"rediss+cluster://{places}?{self._tls.query}"
        return f"redis+cluster://{places}"

    def start(self) -> Self:
        """Return when all slots are served and every replica follows."""
        try:
            for node in self.nodes:
                node.start()
            self._form()
        except BaseException:
            self.stop()
            raise
        return self

    def _form(self) -> None:
        primaries, replicas = (
            self.nodes[: self._primary_count],
            self.nodes[self._primary_count :],
        )
        bounds = [
            REDIS_CLUSTER_HASH_SLOTS * n // self._primary_count
            for n in range(self._primary_count + 1)
        ]
        for number, node in enumerate(primaries):
            self.ask(node, "CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            self.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            self.ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", node.port)
        eventually_sync(self._is_known_to_all)
        for node, primary in zip(replicas, primaries, strict=False):
            self.ask(node, "CLUSTER", "REPLICATE", self.id_of(primary))
        eventually_sync(self.is_whole, timeout_s=20)

    def mend(self) -> None:
        """Start what was killed, and return when the cluster is whole again."""
        for node in self.nodes:
            if not node.is_running:
                node.start()
        eventually_sync(self.is_whole, timeout_s=20)

    def stop(self) -> None:
        """End every node that runs."""
        for node in self.nodes:
            node.kill()

    def ask(self, node: RawServer, *command: Any) -> Any:
        """Return a node's reply."""
        with node.client(decode_responses=True) as client:
            return client.execute_command(*command)

    def id_of(self, node: RawServer) -> str:
        """Return the node's id in the cluster."""
        return str(self.ask(node, "CLUSTER", "MYID"))

    def primary_of(self, key: str) -> RawServer:
        """Return the node that serves a key's slot now, as the live nodes say."""
        slot = key_slot(key.encode())
        for node in self._live():
            for first, last, primary, *_ in self.ask(node, "CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return self._at(int(primary[1]))
        raise AssertionError(f"nobody serves slot {slot}")

    def replica_of(self, primary: RawServer) -> RawServer:
        """Return the node that follows a primary."""
        for node in self._live():
            role = self.ask(node, "ROLE")
            if role[0] == "slave" and int(role[2]) == primary.port:
                return node
        raise AssertionError(f"nobody follows {primary.port}")

    def move(self, key: str, to: RawServer, *, chunk: int = 10) -> Iterator[int]:
        """Move a key's slot, yielding what slot it is after each step."""
        slot, source = key_slot(key.encode()), self.primary_of(key)
        self.ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(to))
        yield slot
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, chunk):
            self.ask(source, "MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
            yield slot
        for node in (to, source, *self.primaries()):
            self.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", self.id_of(to))
        yield slot

    def move_at_once(self, key: str, to: RawServer) -> Iterator[int]:
        """Let the servers move a key's slot by themselves, yielding what slot it is meanwhile.

        Of Valkey 9 and later, which hands the slot over when all of it is there.
        """
        slot, source = key_slot(key.encode()), self.primary_of(key)
        node_id = self.id_of(to)
        self.ask(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", node_id)
        yield slot
        while self.primary_of(key) is not to:
            for job in self.ask(source, "CLUSTER", "GETSLOTMIGRATIONS"):
                told = job if isinstance(job, dict) else dict(zip(job[::2], job[1::2], strict=True))
                assert told["state"] not in ("failed", "cancelled"), told
            yield slot

    def is_whole(self) -> bool:
        """Whether every live node sees all slots served, and every replica follows."""
        for node in self._live():
            state = str(self.ask(node, "CLUSTER", "INFO"))
            if "cluster_state:ok" not in state:
                return False
            role = self.ask(node, "ROLE")
            if role[0] == "slave" and role[3] != "connected":
                return False
        followed = [node for node in self.primaries() if self.ask(node, "ROLE")[2]]
        return len(self.nodes) == self._primary_count or len(followed) == self._primary_count

    def _is_known_to_all(self) -> bool:
        told = [str(self.ask(node, "CLUSTER", "INFO")) for node in self.nodes]
        return all(f"cluster_known_nodes:{len(self.nodes)}" in text for text in told)

    def _live(self) -> list[RawServer]:
        return [node for node in self.nodes if node.is_running]

    def primaries(self) -> list[RawServer]:
        """Return the live nodes that serve slots."""
        return [node for node in self._live() if self.ask(node, "ROLE")[0] == "master"]

    def _at(self, port: int) -> RawServer:
        return next(node for node in self.nodes if node.port == port)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


SERVICE = "main"
"""What the sentinels call the primary."""

PASSWORD = "s3c/ret"
SENTINEL_PASSWORD = "s3ntinel"


class SentinelServer(RawServer):
    """A server that watches others."""

    def __init__(
        self, folder: Path, primary: RawServer, tls: Certificates | None, binary: str | None
    ) -> None:
        super().__init__(folder, tcp=True, tls=tls, binary=binary)
        self._config = folder / "sentinel.conf"  # which it writes itself as well
        listening = (f"{name.replace('_', '-')} {v}\n" for name, v in self.listening.items())
        self._config.write_text(
            f"{''.join(listening)}"
            "bind 127.0.0.1\n"
            f"dir {folder}\n"
            f"logfile {folder / 'raw.log'}\n"
            f"requirepass {SENTINEL_PASSWORD}\n"
            f"sentinel sentinel-pass {SENTINEL_PASSWORD}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 2\n"
            f"sentinel auth-pass {SERVICE} {PASSWORD}\n"
            f"sentinel down-after-milliseconds {SERVICE} {NODE_TIMEOUT_MS}\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
        )

    def _command(self) -> list[str]:
        return [self._binary, str(self._config), "--sentinel"]


class SentinelSet:
    """A primary, its replica, and three sentinels; all want a password."""

    def __init__(
        self, folder: Path, *, tls: Certificates | None = None, binary: str | None = None
    ) -> None:
        self._tls = tls
        folders = [folder / name for name in ("first", "second", "s1", "s2", "s3")]
        for each in folders:
            each.mkdir(parents=True)
        common: dict[str, str | int] = {
            "requirepass": PASSWORD,
            "masterauth": PASSWORD,
            "appendonly": "yes",
            "repl_diskless_sync_delay": 0,
            "hz": 100,
        }
        first, second = (
            RawServer(each, tcp=True, tls=tls, binary=binary, **common) for each in folders[:2]
        )
        second.options["replicaof"] = f"127.0.0.1 {first.port}"
        self.servers = [first, second]
        self.sentinels = [SentinelServer(each, first, tls, binary) for each in folders[2:]]

    @property
    def url(self) -> str:
        """The address, by its sentinels."""
        places = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        scheme, tls = ("rediss", f"&{self._tls.query}") if self._tls else ("redis", "")
        login = f":{quote(PASSWORD, safe='')}"
        options = f"sentinel_password={SENTINEL_PASSWORD}{tls}"
        return f"{scheme}+sentinel://{login}@{places}/{SERVICE}?{options}"

    def start(self) -> Self:
        """Return when the replica follows and the sentinels know each other."""
        try:
            for each in (*self.servers, *self.sentinels):
                each.start()
            eventually_sync(self.is_whole, timeout_s=20)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End all that runs."""
        for each in (*self.sentinels, *self.servers):
            each.kill()

    @property
    def primary(self) -> RawServer:
        """Which server the first sentinel names."""
        port = int(self._ask(self.sentinels[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
        return next(server for server in self.servers if server.port == port)

    def follow(self, server: RawServer) -> None:
        """Have a server that runs again follow the primary; sentinels see to it, but after ten seconds."""
        self._ask(server, "REPLICAOF", "127.0.0.1", self.primary.port)

    def is_whole(self) -> bool:
        """Whether every sentinel knows the others and a replica that follows."""
        for each in self.sentinels:
            told = self._ask(each, "INFO", "sentinel")
            if f"slaves=1,sentinels={len(self.sentinels)}" not in str(told):
                return False
        role = self._ask(self.primary, "ROLE")
        return role[0] == "master" and len(role[2]) == 1

    def _ask(self, server: RawServer, *command: Any) -> Any:
        password = SENTINEL_PASSWORD if isinstance(server, SentinelServer) else PASSWORD
        with server.client(password=password, decode_responses=True) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
