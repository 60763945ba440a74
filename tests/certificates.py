"""An authority of the tests' own, and what servers and clients need of it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple, Self

import trustme


class Certificates(NamedTuple):
    """Files: the authority's certificate, and one for 127.0.0.1 with its key, of both sides."""

    authority: Path
    own: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Return new ones in that folder."""
        made = cls(folder / "ca.pem", folder / "own.pem")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(made.authority)
        own = authority.issue_cert("127.0.0.1")
        own.private_key_and_cert_chain_pem.write_to_path(made.own)
        return made

    @property
    def of_server(self) -> dict[str, str | int]:
        """A server's options. It wants a certificate of who comes, too, as servers do by default."""
        return {
            "tls_ca_cert_file": str(self.authority),
            "tls_cert_file": str(self.own),
            "tls_key_file": str(self.own),
            "tls_replication": "yes",
        }

    @property
    def of_client(self) -> dict[str, str]:
        """redis-py's options of a connection, and those of a URL."""
        return {
            "ssl_ca_certs": str(self.authority),
            "ssl_certfile": str(self.own),
            "ssl_keyfile": str(self.own),
        }

    @property
    def query(self) -> str:
        """The end of a URL."""
        return "&".join(f"{name}={value}" for name, value in self.of_client.items())

    def context(self) -> ssl.SSLContext:
        """Return what a bare socket is wrapped with."""
        context = ssl.create_default_context(cafile=str(self.authority))
        context.load_cert_chain(self.own)
        return context
