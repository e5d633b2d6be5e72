"""What only people can say of a model, from card.toml. Knows no numbers and no format of a card."""

import shutil
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from model.errors import ExportError

NAME = "card.toml"


class _Value(BaseModel):
    """A frozen value that accepts no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSheet(_Value):
    """A data set that the model was made with. splits: how many pictures for what. collected: how and by whom."""

    name: str
    source: str = ""
    link: str = ""
    license: str = ""
    splits: str = ""
    collected: str = ""


class Risk(_Value):
    """What may do harm, and what is done about it."""

    name: str
    mitigation: str = ""


class CardProse(_Value):
    """overview: what the model is. uses: what it is good for. hub_datasets: names of data sets on the Hugging Face hub.

    All of it may contain Markdown.
    """

    overview: str = ""
    owners: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    tradeoffs: tuple[str, ...] = ()
    risks: tuple[Risk, ...] = ()
    references: tuple[str, ...] = ()
    hub_datasets: tuple[str, ...] = ()
    data: tuple[DataSheet, ...] = ()


def read_prose(bundle: Path) -> CardProse:
    """The bundle's card.toml; nothing where there is none. Raises ExportError, naming the first wrong entry."""
    path = bundle / NAME
    try:
        return CardProse.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return CardProse()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ExportError(f"{path}: {where}: {first['msg']}; expected {', '.join(CardProse.model_fields)}.") from error
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} cannot be read: {error}") from error


def bring_prose(checkpoint: Path, bundle: Path) -> None:
    """Copy the checkpoint's card.toml, where it has one, in place of the bundle's. Raises ExportError."""
    if (checkpoint / NAME).is_file():
        try:
            shutil.copyfile(checkpoint / NAME, bundle / NAME)
        except OSError as error:
            raise ExportError(f"{bundle / NAME} cannot be written: {error}") from error
