"""A target that does everything that must not happen, so that a test sees it found."""

import os
import random
import signal
import time
import warnings

from tests.fuzzing.targets import ACCEPTED, Checked, Finding
from tests.pace import slowness


class Fuzzed:
    """The third of its four inputs is the misdeed that the variable MISDEED names."""

    kinds = ("deed",)
    most_bytes = 100

    def seeds(self) -> dict[str, bytes]:
        return {name: name.encode() for name in ("one", "two", os.environ.get("MISDEED", "three"), "four")}

    def mutated(self, payload: bytes, partner: bytes, rng: random.Random) -> bytes:
        return b"nothing"

    def check(self, payload: bytes) -> Checked:
        if payload.startswith(b"raise"):
            raise ZeroDivisionError
        deed = _DEEDS.get(payload)
        if deed is not None:
            deed()
        return Checked("deed", ACCEPTED)

    def close(self) -> None:
        """It holds nothing."""


def _find() -> None:
    raise Finding("This is a finding.")


def _warn() -> None:
    warnings.warn("something is odd", RuntimeWarning, stacklevel=1)


def _burn() -> None:
    end = time.process_time() + 6 * slowness()  # of a pace that may triple meanwhile, and be over the limit still
    while time.process_time() < end:
        pass


def _fill() -> None:
    bytearray(b"x" * 110_000_000)


def _talk() -> None:
    os.write(2, b"a line\n")


_DEEDS = {
    b"find": _find,
    b"warn": _warn,
    b"burn": _burn,
    b"fill": _fill,
    b"talk": _talk,
    b"crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    b"leave": lambda: os._exit(7),
    b"sleep": lambda: time.sleep(1000),
}
