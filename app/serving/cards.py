"""The model card in a bundle's folder: README.md and card.json as mixer card writes them. Knows nothing of its content.

A card is read when its bundle is opened or reloaded. One that cannot be shown is told in the log and stops nothing.
"""

import json
import logging
from pathlib import Path
from typing import NamedTuple

from app.errors import ServiceError

MARKDOWN, JSON = "README.md", "card.json"
_MOST_BYTES = 1 << 20  # of either file

log = logging.getLogger("mixer.cards")


class NoCard(ServiceError):
    """The bundle has no model card."""

    status, code, title = 404, "no_card", "No model card"


class Card(NamedTuple):
    """For people and for programs, in UTF-8."""

    markdown: bytes
    json: bytes


def read_card(bundle: Path) -> Card | None:
    """The card of a bundle's folder; None where it has no card.json, which tells a card from any other README.md."""
    try:
        if not (bundle / JSON).is_file():
            return None
        card = Card(_read(bundle / MARKDOWN), _read(bundle / JSON))
        card.markdown.decode()
        json.loads(card.json.decode())
    except (OSError, ValueError, RecursionError) as error:  # ValueError: of the text and of JSON, too
        log.warning("the model card of %s is not shown: %s", bundle, error)
        return None
    return card


def _read(path: Path) -> bytes:
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path.name} is missing, or no file.")
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"{path.name} has more than {_MOST_BYTES} bytes; expected at most that.")
    return content
