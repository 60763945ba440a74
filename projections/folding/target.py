"""A projection and the build it is folded into."""

from __future__ import annotations

from typing import NamedTuple

from projections.projection import Projection
from projections.storing.build import Build, Role


class Target(NamedTuple):
    """What a pipeline folds, and where it goes."""

    projection: Projection
    build: Build
    role: Role = "serving"
