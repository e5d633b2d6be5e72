"""Signed bundles: a copy of a bundle that is proved to hold what the owner of a key has signed, and nothing else.

What is verified is what is read: the bundle is copied first, to where nobody else may write, and opened from there.
The signature is one of OpenSSF Model Signing (model_signing), which verifies it in a process of its own: its libraries
would cost every worker 53 MB. Knows nothing of graphs or cards.
"""

import base64
import binascii
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

from app.errors import BadSettings, EngineError, StartError
from app.system.private_folder import private_folder

SIGNATURE = "model.sig"  # in the bundle's folder
_KEY = "key.pem"  # beside the copy
_VARIABLE = "MIXER_BUNDLE_KEY"
_MODULE = "model_signing"
_PATIENCE_S = 600.0
_MOST_CHARACTERS = 300
_ELLIPTIC_CURVE = bytes.fromhex("06072a8648ce3d0201")  # the object identifier id-ecPublicKey, in DER
_DIFFERENCES = {  # in the words of model_signing
    "changed:": re.compile(r"Hash mismatch for '([^']+)'"),
    "added:": re.compile(r"Extra files found in model '[^']*': ([^'\"\]]+)"),
    "missing:": re.compile(r"Missing files in model '[^']*': ([^'\"\]]+)"),
}
_UNSIGNED = ".git*"  # what a signature leaves out, and nothing here reads


class SignatureProcessFailed(Exception):
    """model_signing has refused; in its words, in one line."""


@contextmanager
def verified(bundle: Path, key: Path | None) -> Iterator[Path]:
    """A folder to open `bundle` from: a verified copy as long as the context lasts; without a key the bundle itself.

    Raises: EngineError where the bundle is not what was signed with the private half of `key`, and from then on with
    the bundle's own path where the copy's was named; BadSettings where `key` is no public key in PEM.
    """
    if key is None:
        yield bundle
        return
    pem = _public_key(key)
    with ExitStack() as stack:
        try:
            copy = stack.enter_context(private_folder("mixer-verified-")) / "bundle"
        except OSError as error:
            why = f"{error.strerror}; see TMPDIR"
            raise EngineError(f"The bundle {bundle} cannot be copied to verify it: {why}.") from error
        try:
            _copy(bundle, copy, pem)
            _expect_signed(bundle, copy)
            yield copy
        except StartError as error:
            raise type(error)(str(error).replace(str(copy), str(bundle))) from error


def run_model_signing(*arguments: object) -> None:
    """One of model_signing's own commands. Raises SignatureProcessFailed."""
    command = [sys.executable, "-I", "-m", _MODULE, *map(str, arguments)]  # -I: no module of the working directory
    try:
        done = subprocess.run(  # noqa: S603 -- no shell, and the arguments are paths
            command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise SignatureProcessFailed(f"It took more than {_PATIENCE_S:.0f} s.") from None
    if done.returncode:
        raise SignatureProcessFailed(_reason(done.stderr.splitlines()))


def is_installed() -> bool:
    """Whether model_signing is there: the extra `signing`."""
    return find_spec(_MODULE) is not None


def _public_key(key: Path) -> bytes:
    """The key's PEM. Raises BadSettings."""
    if not is_installed():
        raise BadSettings(f"{_VARIABLE} is set and needs model-signing; install it with: scripts/install cpu,signing")
    try:
        pem = key.read_bytes()
    except OSError as error:
        raise BadSettings(f"{_VARIABLE} is {key}, which cannot be read: {error.strerror}.") from error
    if b"PRIVATE KEY" in pem:
        raise BadSettings(f"{_VARIABLE} is {key}, a private key; expected the public one: openssl ec -in {key} -pubout")
    if not _is_elliptic(pem):
        raise BadSettings(f"{_VARIABLE} is {key}; expected a public key in PEM, on the curve P-256, P-384 or P-521.")
    return pem


def _is_elliptic(pem: bytes) -> bool:
    block = re.search(rb"-----BEGIN PUBLIC KEY-----(.*?)-----END PUBLIC KEY-----", pem, re.DOTALL)
    try:
        return block is not None and _ELLIPTIC_CURVE in base64.b64decode(block[1])
    except binascii.Error:
        return False


def _copy(bundle: Path, copy: Path, key: bytes) -> None:
    """Copy the bundle, and put the key beside the copy.

    Raises: EngineError; a single file has no place for a signature, and pipes cannot be copied.
    """
    if not bundle.is_dir():
        raise EngineError(f"The bundle {bundle} is no folder; {_VARIABLE} is set: expected one with {SIGNATURE}.")
    if not (bundle / SIGNATURE).is_file():
        raise EngineError(f"The bundle {bundle} has no {SIGNATURE}; {_VARIABLE} is set: expected it to be signed.")
    try:
        copy.with_name(_KEY).write_bytes(key)
        shutil.copytree(bundle, copy, symlinks=True, ignore=shutil.ignore_patterns(_UNSIGNED))
        for folder, _, _ in os.walk(copy):
            Path(folder).chmod(0o700)  # it has the bundle's mode, which may be read-only
    except shutil.Error as error:
        path, _, why = error.args[0][0]
        raise EngineError(f"The bundle {bundle} cannot be copied to verify it: {path}: {why}") from error
    except OSError as error:
        raise EngineError(f"The bundle {bundle} cannot be copied to verify it: {error}") from error


def _expect_signed(bundle: Path, copy: Path) -> None:
    """Verify the copy, whose signature goes out of it. Links in it are refused. Raises EngineError."""
    signature, key = (copy / SIGNATURE).replace(copy.with_name(SIGNATURE)), copy.with_name(_KEY)
    try:
        run_model_signing("verify", "key", copy, "--signature", signature, "--public_key", key)
    except SignatureProcessFailed as error:
        raise EngineError(f"The bundle {bundle} is not what was signed with {_VARIABLE}: {error}") from error


def _reason(lines: Sequence[str]) -> str:
    """What differs, where that was found; else the last line, without what begins it."""
    last = " ".join(next((line for line in reversed(lines) if line.strip()), "no reason given").split())
    last = last.replace(r"\'", "'")  # model_signing prints lists: a digest with a quote in it has all quotes escaped
    words = [f"{what} {', '.join(found)}" for what, one in _DIFFERENCES.items() if (found := one.findall(last))]
    reason = "; ".join(words) or last.partition("failed with error: ")[2] or last
    return f"{reason[:_MOST_CHARACTERS].rstrip('. ')}."
