"""Kinds of options: where their values come from, and what they may be. Knows none of the options."""

import re
from typing import Annotated, Any, Literal, get_origin

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.dialects.names import ALL, MEANT, NAMES, NONE
from app.http.prefix import OWN_PATHS, is_prefix
from app.system.environment import Variables
from app.system.spelling import nearest

# What may begin as a path of the service does, and stand in front of what is there.
_MAY_BEGIN_AS = frozenset({"health", "invocations", "ping", "predictions", "v1"})
_ROUTE = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~:@-]+)+")
_ORIGIN = re.compile(r"\*|https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")  # as browsers write it


class Options(BaseSettings):
    """A frozen value of options. What the code says wins over variables; choices are taken in any case."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", cli_kebab_case=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is said in the code, then variables; flags are before both."""
        return init_settings, Variables(settings_cls)

    @field_validator("*", mode="before")
    @classmethod
    def _choices_in_any_case(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[info.field_name or ""].annotation
        return value.lower() if get_origin(kind) is Literal and isinstance(value, str) else value


def split(listed: str) -> tuple[str, ...]:
    """The items of a list that is separated by commas."""
    return tuple(item.strip() for item in listed.split(",") if item.strip())


def _are_origins(listed: str) -> str:
    for origin in split(listed):
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin} is no origin; expected *, or as in https://shop.example:8443.")
    return listed


def _are_dialects(listed: str) -> str:
    names = split(listed)
    for name in names:
        if name not in NAMES and names not in ((ALL,), (NONE,)):
            meant = MEANT.get(name.lower()) or nearest(name.lower(), NAMES)
            every = f"{ALL}, {NONE}, or some of {', '.join(NAMES)}"
            raise ValueError(
                f"{name} is no dialect; expected {every if meant is None else f'{meant}; there are {every}'}."
            )
    return listed


def _is_below_no_path_of_the_service(path: str) -> str:
    plain = path.removesuffix("/")
    if plain and not is_prefix(plain):
        raise ValueError(f"{path} is no path of plain names; expected one as /mixer or /vision/mixer.")
    if plain.split("/")[1:2] and plain.split("/")[1] in OWN_PATHS:
        raise ValueError(f"{path} begins as a path of the service itself does; expected another one.")
    return plain


def _is_free_route(path: str) -> str:
    if path and not _ROUTE.fullmatch(path):
        raise ValueError(f"{path} is no path of plain names; expected one as /predict.")
    if path and path.split("/")[1] in OWN_PATHS - _MAY_BEGIN_AS:
        raise ValueError(f"{path} begins as a path of the service itself does; expected another one.")
    return path


Count = Annotated[int, Field(ge=0, le=256)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Dialects = Annotated[str, AfterValidator(_are_dialects)]
Origins = Annotated[str, AfterValidator(_are_origins)]
PlatformRoute = Annotated[str, AfterValidator(_is_free_route)]
RootPath = Annotated[str, AfterValidator(_is_below_no_path_of_the_service)]
