"""Read models: how far they are, and rebuilding one."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from starlette.responses import Response

from eventlog.errors import ConfigurationError
from eventlog.event import Name
from projections.building.rebuilding import begin
from projections.projecting.status import ModelStatus, PartitionStatus
from projections.projection import Projection
from projections.registry import find_projection
from service.http.endpoint import json_response
from service.http.links import segment
from service.http.listing import Asked
from service.http.operation import Routes
from service.http.refusal import Refusal
from service.wiring import Service

routes = Routes("projections")


class Model(msgspec.Struct, frozen=True):
    """One projection's read model in one partition."""

    name: str
    version: int | None
    position: str
    lag_count: int
    previous_version: int | None
    building_version: int | None
    building_position: str | None


class ProjectedPartition(msgspec.Struct, frozen=True):
    """One partition's projecting."""

    partition: int
    head: str
    lag_count: int
    oldest_age_ms: int
    owner: str | None
    rate_per_s: float
    last_error: str | None
    models: list[Model]


class Projections(msgspec.Struct, frozen=True):
    """How far the read models are."""

    partitions: list[ProjectedPartition]


class OfProjection(Asked, frozen=True):
    """A projection by its name."""

    name: Name


class RebuildProgress(msgspec.Struct, frozen=True):
    """How far the rebuild of a projection is."""

    name: str
    is_running: bool
    version: int | None
    """Of what is being built."""
    folded_count: int
    entry_count: int
    """Entries to fold, as of now."""
    serving_version: int | None
    progress: str
    """The path of this."""


@routes.get("/v1/projections")
async def list_projections(service: Service) -> Projections:
    """Return how far each read model is, by partition."""
    return Projections([_partition(each) for each in await service.projector.status()])


@routes.post(
    "/v1/projections/{name}/rebuild", scope="admin", answer=RebuildProgress, statuses=(202,)
)
async def rebuild_projection(service: Service, asked: OfProjection) -> Response:
    """Begin to build a read model anew, beside the one that serves; it is swapped in when it is done.

    The projectors of `eventlog up` build it. Where one is being built already, it is joined.
    """
    projection = _known(service, asked.name)
    await begin(service.log, projection, past=service.past)
    progress = _progress(projection.name, await service.projector.status())
    response = json_response(progress, 202)
    response.headers["Location"] = progress.progress
    return response


@routes.get("/v1/projections/{name}/rebuild")
async def get_rebuild(service: Service, asked: OfProjection) -> RebuildProgress:
    """Return how far the rebuild of a projection is; nothing is running where it is done."""
    projection = _known(service, asked.name)
    return _progress(projection.name, await service.projector.status())


def _known(service: Service, name: str) -> Projection:
    try:
        return find_projection(service.projections, name)
    except ConfigurationError as error:
        raise Refusal("not_found", error.message, remedy=error.remedy) from None


def _partition(status: PartitionStatus) -> ProjectedPartition:
    told = {**status._asdict(), "head": str(status.head)}
    return ProjectedPartition(**{**told, "models": [_model(each) for each in status.models]})


def _model(model: ModelStatus) -> Model:
    building = model.building_position
    told = {**model._asdict(), "position": str(model.position)}
    return Model(**{**told, "building_position": None if building is None else str(building)})


def _progress(name: str, statuses: Iterable[PartitionStatus]) -> RebuildProgress:
    models = [(s.head.n, m) for s in statuses for m in s.models if m.name == name]
    built = [
        (head, model.building_position.n)
        for head, model in models
        if model.building_position is not None
    ]
    building = {m.building_version for _, m in models if m.building_version is not None}
    serving = {m.version for _, m in models if m.version is not None}
    return RebuildProgress(
        name,
        bool(building),
        max(building, default=None),
        sum(done for _, done in built),
        sum(head for head, _ in built),
        max(serving, default=None),
        f"/v1/projections/{segment(name)}/rebuild",
    )
