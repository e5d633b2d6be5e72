"""Names of version 0.2 that are still read, and their current ones. Knows nothing of their meaning."""

from collections.abc import Mapping, Sequence
from typing import Any

OLD_NAMES = {
    "lanes": "instances",
    "licence": "license",
    "max_picture_bytes": "max_image_bytes",
    "max_picture_pixels": "max_image_pixels",
    "max_pictures_per_request": "max_images_per_request",
    "optimiser": "optimizer",
    "optimisers": "optimizers",
}


def renamed(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same values by current names. Where both names are given, the current one counts."""
    old = {OLD_NAMES[name]: value for name, value in given.items() if name in OLD_NAMES}
    return old | {name: value for name, value in given.items() if name not in OLD_NAMES}


def renamed_flags(flags: Sequence[str]) -> list[str]:
    """--max-picture-bytes=1 becomes --max-image-bytes=1; other arguments are unchanged."""
    return [_renamed_flag(flag) for flag in flags]


def _renamed_flag(flag: str) -> str:
    name, equals, value = flag.partition("=")
    today = OLD_NAMES.get(name.removeprefix("--").replace("-", "_")) if name.startswith("--") else None
    return flag if today is None else f"--{today.replace('_', '-')}{equals}{value}"
