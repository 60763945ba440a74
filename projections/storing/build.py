"""Builds: which stored making of a read model is read, which is being made, which was before. Pure.

A model, `name@version`, may be stored more than once: each making is a build, `name@version.made`.
A partition's shelf says which build of a projection is serving, which is building beside it, and
which was serving before and can be rolled back to, with the checkpoint of each. Readers and
projectors of a version look for the build of that version among the serving and the previous one,
so that programs of two versions can run side by side while one replaces the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Self, get_args

from eventlog.ids import START, EntryId

Role = Literal["serving", "previous", "building"]

ROLES: tuple[Role, ...] = get_args(Role)

READABLE: tuple[Role, ...] = ("serving", "previous")
"""In which a reader looks for its version, the first first."""


class Build(NamedTuple):
    """One making of a projection's read model."""

    name: str
    version: int
    made: str
    """When it was begun: ms since 1970 in hex. A build that is lost is never taken for a later one."""

    @property
    def model(self) -> str:
        """The name its keys and its checkpoint are stored under."""
        return f"{self.name}@{self.mark}"

    @property
    def mark(self) -> str:
        """What a shelf says of it beside the projection's name: `version.made`."""
        return f"{self.version}.{self.made}"

    @classmethod
    def begin(cls, name: str, version: int, now_us: int) -> Self:
        """Return a new build."""
        return cls(name, version, f"{now_us // 1000:x}")

    @classmethod
    def of_mark(cls, name: str, mark: str) -> Self:
        """Return the build that a shelf names."""
        version, _, made = mark.partition(".")
        return cls(name, int(version), made)


def role_field(name: str, role: Role) -> str:
    """Return the field of a shelf that holds the mark of a projection's build in that role."""
    return f"{name}:{role}"


class Shelf:
    """The builds of one partition, with their checkpoints, as of one moment."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.builds: dict[tuple[str, Role], Build] = {}
        self._checkpoints: dict[str, EntryId] = {}
        for field, value in fields.items():
            name, _, role = field.partition(":")
            if role in ROLES:
                self.builds[name, role] = Build.of_mark(name, value)
            else:
                self._checkpoints[field] = EntryId.parse(value)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever projected here, or all memory of it is lost."""
        return not self.builds

    def get(self, name: str, role: Role) -> Build | None:
        """Return a projection's build in a role."""
        return self.builds.get((name, role))

    def role_of(self, name: str, version: int) -> Role | None:
        """Return the role of the build that programs of this version read, None where there is none."""
        for role in READABLE:
            build = self.get(name, role)
            if build is not None and build.version == version:
                return role
        return None

    def readable(self, name: str, version: int) -> Build | None:
        """Return the build that programs of this version read and keep up to date."""
        role = self.role_of(name, version)
        return None if role is None else self.get(name, role)

    def checkpoint(self, build: Build) -> EntryId:
        """Return how far a build is."""
        return self._checkpoints.get(build.model, START)

    def names(self) -> list[str]:
        """Return the projections that have any build here."""
        return sorted({name for name, _ in self.builds})
