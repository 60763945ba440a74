"""The OpenAPI 3.1 document, made from the route table and the structs that it names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec

from service.http.operation import Operation
from service.http.problem import MEDIA_TYPE, Problem

_REFERENCES = "#/components/schemas/{name}"
_SECURITY = "token"


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the document."""
    kinds = _kinds(operations)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCES)
    schema_of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(
            each, schema_of, components
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "eventlog",
            "version": version("eventlog"),
            "description": "An event-sourced message log for chat bots and AI-agent bridges.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": tag} for tag in dict.fromkeys(each.tag for each in operations)],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {_SECURITY: {"type": "http", "scheme": "bearer"}},
        },
    }


def _kinds(operations: Iterable[Operation]) -> list[Any]:
    found: dict[Any, None] = {Problem: None}
    for each in operations:
        found.update(dict.fromkeys(k for k in (each.asked, each.body, each.answer) if k))
    return list(found)


def _operation(
    each: Operation, schema_of: dict[Any, Any], components: dict[str, Any]
) -> dict[str, Any]:
    summary, _, description = each.text.partition("\n\n")
    told: dict[str, Any] = {
        "operationId": each.name,
        "tags": [each.tag],
        "summary": " ".join(summary.split()),
        "parameters": _parameters(each, schema_of, components),
        "responses": _responses(each, schema_of),
        "security": [] if each.scope == "open" else [{_SECURITY: []}, {}],
    }
    scope = "" if each.scope == "open" else f"Needs the scope `{each.scope}`."
    told["description"] = " ".join(f"{description} {scope}".split())
    if each.body is not None:
        told["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema_of[each.body]}},
        }
    return told


def _parameters(
    each: Operation, schema_of: dict[Any, Any], components: dict[str, Any]
) -> list[dict[str, Any]]:
    if each.asked is None:
        return []
    schema = components[schema_of[each.asked]["$ref"].rpartition("/")[2]]
    in_path = set(re.findall(r"\{(\w+)\}", each.path))
    needed = set(schema.get("required", ()))
    return [
        {
            "name": name,
            "in": "path" if name in in_path else "query",
            "required": name in in_path or name in needed,
            "schema": described,
        }
        for name, described in schema["properties"].items()
    ]


def _responses(each: Operation, schema_of: dict[Any, Any]) -> dict[str, Any]:
    schema = schema_of[each.answer] if each.answer is not None else {}
    content = {media: {"schema": schema} for media in each.media}
    told: dict[str, Any] = {}
    for status in each.statuses:
        has_body = status != HTTPStatus.NO_CONTENT
        phrase = HTTPStatus(status).phrase
        told[str(status)] = {"description": phrase} | ({"content": content} if has_body else {})
    problem = {
        "description": "A problem.",
        "content": {MEDIA_TYPE: {"schema": schema_of[Problem]}},
    }
    return {**told, "4XX": problem, "5XX": problem}
