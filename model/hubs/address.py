"""An address as it may be told and kept. Imports nothing that fetches."""

import re

_USER = re.compile(r"(?<=://)[^/?#\s@]*(?:@[^/?#\s@]*)*@")


def without_user(text: str) -> str:
    """`text` without the user and password of the addresses in it: a mirror may need them, and nobody else."""
    return _USER.sub("", text)
