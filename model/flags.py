"""The options of a command from a pydantic model: an option for each field, parsed by typer and validated by pydantic.

Errors have one line. typer is imported only to parse. Knows none of the options.
"""

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from model.errors import FlagError
from model.old_names import renamed_flags

if TYPE_CHECKING:
    from typer import TyperException

Options = TypeVar("Options", bound=BaseModel)
Value = TypeVar("Value")
_POSITIONAL, _TOGGLE, _SWITCH = object(), object(), object()
Positional = Annotated[Value, _POSITIONAL]  # a field that is given without its name
Toggle = Annotated[Value, _TOGGLE]  # a field that is true where its name is given, without a value
Switch = Annotated[Value, _SWITCH]  # the same, and false where its name is given after "no-"


@dataclass(frozen=True)
class Word:
    """In a field's annotation: it may also be given without its flag, and is then called `name` in the help."""

    name: str


_METAVARS = {int: "INTEGER", float: "NUMBER", bool: "true|false", Path: "PATH"}


def parse(options: type[Options], flags: Sequence[str], command: str) -> Options:
    """Options of a command from its flags, by old names too, and where the class has a prefix from the environment.

    --help ends it. Raises: FlagError with one line that names the option, its value and what was expected.
    """
    try:
        return options(**_given(options, renamed_flags(flags), command))
    except ValidationError as error:
        raise FlagError(_one_line(error, options, command)) from error


def _given(options: type[BaseModel], flags: Sequence[str], command: str) -> dict[str, Any]:
    """The flags' values as text, by the names of the fields."""
    if not flags:
        return {}
    import typer  # noqa: PLC0415

    def collect(**values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    collect.__doc__ = options.__doc__
    collect.__signature__ = inspect.Signature(list(_parameters(options)))  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(collect)
    try:
        given = app(list(flags), prog_name=command, standalone_mode=False)
    except typer.TyperException as error:
        raise FlagError(f"{_usage_error(error, options, command)}. See {command} --help.") from error
    if not isinstance(given, Mapping):  # --help has been answered
        raise SystemExit(given)
    return _with_words(options, dict(given))


def _with_words(options: type[BaseModel], given: dict[str, Any]) -> dict[str, Any]:
    """What was given without a flag, by the field that it stands for. Raises FlagError where both are given."""
    for name, word in _words(options):
        value = given.pop(word.name.lower(), None)
        if value is not None and name in given:
            flag = _flag(name, options.model_fields[name])
            raise FlagError(f"{word.name} is {value!r} and {flag} {given[name]!r}; expected one of the two.")
        if value is not None:
            given[name] = value
    return given


def _words(options: type[BaseModel]) -> Iterator[tuple[str, Word]]:
    for name, field in options.model_fields.items():
        for mark in field.metadata:
            if isinstance(mark, Word):
                yield name, mark


def _parameters(options: type[BaseModel]) -> Iterator[inspect.Parameter]:
    """Each field as a parameter for typer, the class's own before inherited ones.

    None is required here: pydantic tells what is missing.
    """
    import typer  # noqa: PLC0415

    for name, word in _words(options):
        argument = typer.Argument(help=_help(options.model_fields[name]), metavar=word.name, show_default=False)
        yield _parameter(word.name.lower(), str | None, argument)
    owners = [inspect.get_annotations(owner) for owner in options.__mro__]
    depth = {name: next(i for i, owned in enumerate(owners) if name in owned) for name in options.model_fields}
    for name in sorted(depth, key=depth.__getitem__):
        field = options.model_fields[name]
        shown = {"help": _help(field), "metavar": _metavar(name, field), "show_default": False}
        kind: Any = str | None
        make: Callable[..., Any] = typer.Option
        words = [_flag(name, field)]
        if _POSITIONAL in field.metadata:
            make, words = typer.Argument, []
        if _TOGGLE in field.metadata:
            kind, shown["metavar"] = bool | None, None
        if _SWITCH in field.metadata:
            kind, shown["metavar"], words = bool | None, None, [f"{words[0]}/--no-{words[0].removeprefix('--')}"]
        yield _parameter(field.alias or name, kind, make(*words, **shown))


def _parameter(name: str, kind: Any, of_typer: Any) -> inspect.Parameter:
    annotation = Annotated[kind, of_typer]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _flag(name: str, field: FieldInfo) -> str:
    return f"--{(field.alias or name).replace('_', '-')}"


def _help(field: FieldInfo) -> str:
    """The field's description, with its default."""
    description = field.description or ""
    if field.is_required():
        return f"{description} Required."
    if field.default is None or not str(field.default) or _TOGGLE in field.metadata or "Default: " in description:
        return description
    default = str(field.default)
    return f"{description} Default: {default.lower() if isinstance(field.default, bool) else default}."


def _metavar(name: str, field: FieldInfo) -> str:
    if _POSITIONAL in field.metadata:
        return name.upper()
    kind: Any = field.annotation
    if get_origin(kind) in (Union, UnionType):
        kind = next(alternative for alternative in get_args(kind) if alternative is not type(None))
    return "|".join(map(str, get_args(kind))) if get_origin(kind) is Literal else _METAVARS.get(kind, "TEXT")


def _usage_error(error: "TyperException", options: type[BaseModel], command: str) -> str:
    unknown = getattr(error, "option_name", None)
    flags = [_flag(name, field) for name, field in options.model_fields.items() if _POSITIONAL not in field.metadata]
    if unknown is None or unknown in flags:
        return error.format_message().rstrip(".")
    near = difflib.get_close_matches(unknown, flags, n=1)
    return f"{unknown} is no option of {command}" + (f"; the nearest is {near[0]}" if near else "")


def _one_line(error: ValidationError, options: type[BaseModel], command: str) -> str:
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if not first["loc"]:
        return f"{message}."
    name = str(first["loc"][0])
    shown_name = _shown_name(name, options)
    if first["type"] == "missing":
        return f"{shown_name} is missing. See {command} --help."
    shown_value = "" if "key" in name else f" is {first['input']!r}"
    return f"{shown_name}{shown_value}: {message[0].lower() + message[1:]}."


def _shown_name(name: str, options: type[BaseModel]) -> str:
    """The variable, where the class has a prefix for them; else the flag, or the argument."""
    prefix = str(options.model_config.get("env_prefix") or "")
    if prefix:
        return f"{prefix}{name}".upper()
    field = options.model_fields.get(name)
    return name.upper() if field is not None and _POSITIONAL in field.metadata else f"--{name.replace('_', '-')}"
