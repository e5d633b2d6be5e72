"""Options of a command from its flags, with errors of one line. Knows none of the options."""

from collections.abc import Sequence
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

from model.errors import FlagError
from model.old_names import renamed_flags

Options = TypeVar("Options", bound=BaseSettings)


def parse(options: type[Options], flags: Sequence[str], command: str) -> Options:
    """Options of a command from its flags, by old names too, and, where the class has a prefix, from the environment.

    Raises: FlagError with one line that names the option, its value and what was expected.
    """
    try:
        return options(_cli_parse_args=renamed_flags(flags), _cli_prog_name=command, _cli_exit_on_error=False)
    except ValidationError as error:
        raise FlagError(_one_line(error, options)) from error
    except SettingsError as error:
        raise FlagError(f"{str(error).removeprefix('error parsing CLI: ')}. See {command} --help.") from error


def _one_line(error: ValidationError, options: type[BaseSettings]) -> str:
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if not first["loc"]:
        return f"{message}."
    name = str(first["loc"][0])
    prefix = options.model_config.get("env_prefix", "")
    shown_name = f"{prefix}{name}".upper() if prefix else f"--{name.replace('_', '-')}"
    shown_value = "" if first["type"] == "missing" or "key" in name else f" is {first['input']!r}"
    return f"{shown_name}{shown_value}: {message[0].lower() + message[1:]}."
