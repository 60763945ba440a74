"""Which file may import which, and what every script says of itself. Pure, on sources as text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

MAY_IMPORT: dict[str, frozenset[str]] = {
    "eventlog": frozenset(),
    "projections": frozenset({"eventlog"}),
    "consumers": frozenset({"eventlog"}),
    "analytics": frozenset({"eventlog"}),
    "bridge": frozenset({"eventlog", "projections", "consumers", "analytics"}),
    "service": frozenset({"eventlog", "projections", "consumers", "analytics", "bridge"}),
}
"""The product's packages, lowest first; each may import itself besides."""
BESIDE = frozenset({"tests", "bench", "examples", "docs"})
"""Folders that use the product and that it must not know."""

_IMPORTERS = frozenset({"import_module", "__import__"})
_READERS = frozenset({"load_script", "files"})
"""Functions that take another package's data files by its name."""

Sources = Mapping[str, str]
"""Path relative to the repository → the file's text."""


def forbidden_edges(sources: Sources) -> list[str]:
    """Return every import against the layers, as `file:line: target`."""
    found = []
    for path, source in sources.items():
        package = path.split("/")[0]
        allowed = MAY_IMPORT[package] | {package}
        found += [
            f"{path}:{line}: {target}"
            for line, target in (*imports(path, source), *_named(_READERS, source))
            if target.split(".")[0] in (MAY_IMPORT.keys() | BESIDE) - allowed
        ]
    return found


def imports(path: str, source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted target) of each import, wherever it stands in the file.

    `from a import b` yields `a.b`, which may be a module or a name in `a`.
    """
    module = _module(path)
    package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            above = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
    yield from _named(_IMPORTERS, source)


def _named(functions: frozenset[str], source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of each call of one of the functions whose first argument is a text."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=function, args=[ast.Constant(value=str(text)), *_]):
                if _name(function) in functions:
                    yield node.lineno, text


def cycles(sources: Sources) -> list[list[str]]:
    """Return cycles of files importing each other, each once, the smallest path first in it."""
    edges = _file_edges(sources)
    found: set[tuple[str, ...]] = set()
    done: set[str] = set()

    def visit(path: str, trail: list[str]) -> None:
        if path in trail:
            cycle = trail[trail.index(path) :]
            first = cycle.index(min(cycle))
            found.add(tuple(cycle[first:] + cycle[:first]))
            return
        if path in done:
            return
        for target in sorted(edges[path]):
            visit(target, [*trail, path])
        done.add(path)

    for path in sorted(edges):
        visit(path, [])
    return sorted(map(list, found))


def _file_edges(sources: Sources) -> dict[str, set[str]]:
    by_module = {_module(path): path for path in sources}
    edges: dict[str, set[str]] = {path: set() for path in sources}
    for path, source in sources.items():
        for _, target in imports(path, source):
            # `from a import b`: the module a.b where there is one, else a name of a.
            file = by_module.get(target) or by_module.get(target.rpartition(".")[0])
            if file is not None and file != path:
                edges[path].add(file)
    return edges


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


# --- Lua --------------------------------------------------------------------------------------


def header_faults(path: str, source: str) -> list[str]:
    """Return what the header of a script lacks: KEYS, ARGV where it has any, Returns.

    Before it there may be a line of flags for the server.
    """
    source = re.sub(r"^#!lua flags=\S+\n", "", source)
    header, _, body = source.partition("--]]")
    if not header.startswith("--[[") or not body:
        return [f"{path}: does not start with a --[[ header --]]"]
    body = _without_comments(body)
    wanted = {
        "KEYS": r"^KEYS\s+\S",
        "Returns": r"^Returns\b",
        **({"ARGV": r"^ARGV\s+\S"} if "ARGV" in body else {}),
    }
    return [
        f"{path}: the header does not name {word}"
        for word, pattern in wanted.items()
        if not re.search(pattern, header, re.MULTILINE)
    ]


def _without_comments(lua: str) -> str:
    return re.sub(r"--[^\n]*", "", re.sub(r"--\[\[.*?\]\]", "", lua, flags=re.DOTALL))


# --- keys -------------------------------------------------------------------------------------

_PIECE_OF_KEY = re.compile(r"\}:|(?:^|:)(?:stream|head|dedup|lease|model|members|shelf):(?=\S|$)")


def spelled_keys(path: str, source: str) -> list[str]:
    """Return where a file spells a Redis key itself, as `file:line: text`."""
    if path.endswith(".lua"):
        lua = _without_comments(source)
        built = re.findall(r"KEYS\[[^\]]*\]\s*\.\.|redis\.call\('\w+',\s*'[^']*:[^']*'", lua)
        quoted = [text for text in re.findall(r"'([^'\n]*)'", lua) if _PIECE_OF_KEY.search(text)]
        return [f"{path}: {text}" for text in built + quoted]
    tree = ast.parse(source)
    prose = {id(_docstring(node)) for node in ast.walk(tree)}
    return [
        f"{path}:{node.lineno}: {node.value}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in prose
        and _PIECE_OF_KEY.search(node.value)
    ]


def _docstring(node: ast.AST) -> ast.expr | None:
    """Return the constant of a statement that is only text: it documents what is above it."""
    return node.value if isinstance(node, ast.Expr) else None
