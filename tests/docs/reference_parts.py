"""The tables of docs/reference.md, made from the code.

`python -m tests.docs.reference_parts` writes them; `test_reference.py` fails where they differ.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import typer

from analytics.columns import SCHEMA
from analytics.connection import VIEWS, connect
from eventlog import errors
from eventlog import settings as settings_module
from eventlog.event import Event, current_schema
from eventlog.keys import Keys
from eventlog.settings import Settings
from eventlog.vocabulary import VOCABULARY, Message
from service.cli.commands import registered
from service.cli.main import app
from service.http.app import operations
from service.http.problem import STATUSES
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "reference.md"
_SECTION = re.compile(r"(<!-- made by tests/docs: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a markdown table."""
    listed = [list(columns), *map(list, rows)]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in listed]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return "\n".join([lines[0], "|" + "---|" * len(listed[0]), *lines[1:]]) + "\n"


def first_line(documented: Any) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(documented) or "").splitlines()[0]


# --- settings


def field_docs(cls: type) -> dict[str, str]:
    """Return the text under each field of a class."""
    [node] = ast.parse(inspect.getsource(cls)).body
    assert isinstance(node, ast.ClassDef)
    found = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name)
            assert isinstance(text.value, ast.Constant)
            found[field.target.id] = inspect.cleandoc(str(text.value.value))
    return found


def type_words(hint: Any) -> str:
    """Return a type as people write it, with its bounds."""
    if get_origin(hint) is Annotated:
        base, meta = get_args(hint)
        return " ".join([type_words(base), *bound_words(meta)])
    arguments = [each for each in get_args(hint) if each is not type(None)]
    if get_origin(hint) is None:
        return str(hint.__name__)
    if get_origin(hint) is dict and get_origin(arguments[1]) is Annotated:
        return f"table of {type_words(arguments[1])}"
    if get_origin(hint) is dict:
        return "JSON object"
    if get_origin(hint) is list:
        return f"list of {type_words(arguments[0])}"
    if all(isinstance(each, str) for each in arguments):
        return " ".join(f"`{each}`" for each in arguments)
    return " ".join(map(type_words, arguments))


def bound_words(meta: msgspec.Meta) -> list[str]:
    """Return the bounds of a number or text in words."""
    if meta.pattern:
        return [f"matching `{meta.pattern}`"]
    if meta.ge is not None and meta.le is not None:
        return [f"{meta.ge:,} to {meta.le:,}"]
    return [f"≥ {meta.ge:,}" if meta.ge is not None else f"> {meta.gt}"]


def settings() -> str:
    """Return every setting."""
    hints = get_type_hints(Settings, include_extras=True)
    docs = field_docs(Settings)
    variables = {name: each for each, name in settings_module._ENVIRONMENT.items()}
    rows = [
        (
            f"`{field.name}`",
            f"`{variables[field.name]}`",
            type_words(hints[field.name]),
            "-" if field.default in (None, msgspec.NODEFAULT) else f"`{field.default}`",
            docs[field.name],
        )
        for field in msgspec.structs.fields(Settings)
    ]
    return table(("setting", "environment", "type", "default", "meaning"), rows)


# --- events


def events() -> str:
    """Return every event type with its own fields."""
    inherited = {field.name for field in msgspec.structs.fields(Event)}
    rows = []
    for event_type in VOCABULARY:
        fields = [f for f in msgspec.structs.fields(event_type) if f.name not in inherited]
        tag = event_type.__struct_config__.tag
        name = f"`{tag}`<br>`{event_type.__name__}`, schema {current_schema(event_type)}"
        common = {f.name for f in msgspec.structs.fields(Message)} if is_message(event_type) else ()
        own = [field_words(event_type, f) for f in fields if f.name not in common]
        if is_message(event_type):
            own.insert(0, "those of a message")
        rows.append((name, first_line(event_type), "<br>".join(own) or "-"))
    return table(("type", "what happened", "own fields"), rows)


def is_message(event_type: type[Event]) -> bool:
    """Return whether the type has the fields of a message."""
    return issubclass(event_type, Message)


def envelope() -> str:
    """Return the envelope's fields."""
    return _field_list(Event, ())


def message() -> str:
    """Return the fields that message types share."""
    return _field_list(Message, {field.name for field in msgspec.structs.fields(Event)})


def _field_list(event_type: type[Event], without: Iterable[str]) -> str:
    fields = [f for f in msgspec.structs.fields(event_type) if f.name not in without]
    return "".join(f"- {field_words(event_type, field)}\n" for field in fields)


def field_words(event_type: type[Event], field: msgspec.structs.FieldInfo) -> str:
    """Return a field's name, type and default."""
    words = f"`{field.name}` {type_words(get_type_hints(event_type)[field.name])}"
    if field.required:
        return f"{words}, required"
    if field.default in (msgspec.NODEFAULT, None) or field.default == {}:
        return words
    return f"{words}, default `{field.default}`"


# --- errors


def error_codes() -> str:
    """Return every error, indented as the tree is."""
    rows = []

    def walk(error: type[errors.EventLogError], depth: int) -> None:
        rows.append((f"`{error.code}`", "· " * depth + f"`{error.__name__}`", first_line(error)))
        for kin in error.__subclasses__():
            if kin.__module__ == errors.__name__:
                walk(kin, depth + 1)

    walk(errors.EventLogError, 0)
    return table(("code", "class", "meaning"), rows)


# --- commands


def commands() -> str:
    """Return the commands, each with its arguments and options."""
    assert app.registered_callback is not None
    all_commands = registered()
    parts = ["### Options before the command\n\n" + option_table(app.registered_callback.callback)]
    parts += [
        command_part(command.name or command.callback.__name__, command.callback)
        for command in all_commands.registered_commands
        if command.callback is not None
    ]
    for group in all_commands.registered_groups:
        assert group.name is not None
        assert group.typer_instance is not None
        assert group.typer_instance.registered_callback is not None
        parts.append(command_part(group.name, group.typer_instance.registered_callback.callback))
        parts += [
            command_part(f"{group.name} {command.name}", command.callback)
            for command in group.typer_instance.registered_commands
        ]
    return "\n".join(parts)


def command_part(name: str, callback: Callable[..., Any] | None) -> str:
    """Return what a command does and takes."""
    assert callback is not None
    part = f"### eventlog {name}\n\n{inspect.getdoc(callback)}\n"
    if inspect.signature(callback).parameters.keys() - {"context"}:
        part += "\n" + option_table(callback)
    return part


def option_table(callback: Callable[..., Any] | None) -> str:
    """Return the table of a command's arguments and options."""
    assert callback is not None
    hints = get_type_hints(callback, include_extras=True)
    rows = []
    for name, parameter in inspect.signature(callback).parameters.items():
        if name == "context":
            continue
        base, info = get_args(hints[name])[:2]
        if getattr(info, "hidden", False):
            continue
        shown = " ".join(f"`{each}`" for each in option_names(name, base, info))
        rows.append((shown, default_words(parameter), str(info.help)))
    return table(("option", "default", "meaning"), rows)


def option_names(name: str, base: type, info: Any) -> list[str]:
    """Return what is typed for a parameter."""
    if isinstance(info, typer.models.ArgumentInfo):
        return [name.upper()]
    # Inside Annotated the first name given lands where typer keeps a default otherwise.
    given = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
    if given:
        return given
    plain = f"--{name.replace('_', '-')}"
    return [plain, f"--no-{plain[2:]}"] if base is bool else [plain]


def default_words(parameter: inspect.Parameter) -> str:
    """Return the default of a parameter as a user sees it."""
    default = parameter.default
    if default is parameter.empty:
        return "required"
    if default is None:
        return "-"
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"`{getattr(default, 'value', default)}`"


# --- keys and scripts


def keys() -> str:
    """Return every Redis key by an example."""
    example = {
        "partition": 3,
        "group": "projector",
        "model": "sessions@1.19a0c2f",
        "name": "status:active",
        "conversation": "telegram:42",
    }
    feed = {**example, "model": "history@1.19a0c2f", "name": "telegram:42"}
    rows = []
    for name, method in inspect.getmembers(Keys, inspect.isfunction):
        if name.startswith("_"):
            continue
        wanted = [p for p in inspect.signature(method).parameters if p != "self"]
        values = feed if name.startswith("feed") else example
        spelled = method(Keys("eventlog"), *(values[each] for each in wanted))
        listed = spelled if isinstance(spelled, list) else [spelled]
        rows.append(("<br>".join(f"`{each}`" for each in listed), first_line(method)))
    return table(("key", "holds"), sorted(rows))


def scripts() -> str:
    """Return every Lua script with what its header says first."""
    rows = []
    for path in sorted(ROOT.glob("*/lua/*.lua")):
        words = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("--[[").strip()
        rows.append((f"`{path.relative_to(ROOT).as_posix()}`", words))
    return table(("script", "does"), rows)


# --- HTTP


def routes() -> str:
    """Return every route, in the order of the document."""
    rows = [
        (f"`{each.method} {each.path}`", each.scope, first_line(each.handler))
        for each in operations()
    ]
    return table(("route", "scope", "does"), rows)


def problems() -> str:
    """Return the status of every code that a problem document can have."""
    rows = [(f"`{code}`", str(int(status))) for code, status in STATUSES.items()]
    return table(("code", "status"), rows)


# --- SQL views


def views() -> str:
    """Return every view with its columns."""
    connection = connect(ROOT / "no-archive-here")
    parts = []
    for view in VIEWS:
        text = (ROOT / "analytics" / "queries" / f"{view}.sql").read_text(encoding="utf-8")
        comment = " ".join(
            line.removeprefix("--").strip() for line in text.splitlines() if line.startswith("--")
        )
        columns = connection.execute(f"DESCRIBE {view}").fetchall()
        shown = ", ".join(f"`{name}` {kind}" for name, kind, *_ in columns)
        about = comment.removeprefix(f"{view}: ")
        parts.append(f"### {view}\n\n{about[0].upper()}{about[1:]}\n\n{shown}\n")
    connection.close()
    assert set(SCHEMA.names) >= {"partition", "sequence"}
    return "\n".join(parts)


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings,
    "envelope": envelope,
    "message": message,
    "events": events,
    "errors": error_codes,
    "commands": commands,
    "routes": routes,
    "problems": problems,
    "keys": keys,
    "scripts": scripts,
    "views": views,
}


def sections(text: str) -> dict[str, str]:
    """Return the made sections of a page by name."""
    found = {}
    for match in _SECTION.finditer(text):
        start, name, end = match.groups()
        found[name] = match[0].removeprefix(start).removesuffix(end).strip("\n") + "\n"
    return found


def rewritten(text: str) -> str:
    """Return the page with its made sections as the code says."""
    return _SECTION.sub(
        lambda match: f"{match[1]}\n{PARTS[match[2]]().strip()}\n\n{match[3]}", text
    )


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
