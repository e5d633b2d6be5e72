"""`mixer sign`: a bundle's signature, for services with MIXER_BUNDLE_KEY. Needs the extra signing."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from model.errors import ExportError, MixerError


def sign(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle folder to sign.")],
    key: Annotated[Path, typer.Option(metavar="KEY.pem", help="Private key in PEM, on P-256, P-384 or P-521.")],
) -> None:
    """Sign every file of a bundle: write model.sig into it, in place of an earlier one.

    A service with MIXER_BUNDLE_KEY, the public key, serves it as long as no file is changed, added or removed.
    """
    from app.serving.bundles import is_one  # noqa: PLC0415
    from app.serving.signatures import SIGNATURE, SignatureProcessFailed, is_installed, run_model_signing  # noqa: PLC0415

    if not is_installed():
        raise MixerError("This command needs model-signing; install it with: scripts/install cpu,signing")
    if not bundle.is_dir() or not is_one(bundle):
        raise ExportError(f"{bundle} is no bundle; expected a folder with fp32.onnx, fp16.onnx or int8.onnx.")
    _expect_private_key(key, bundle)
    with TemporaryDirectory(prefix="mixer-sign-") as folder:
        new = Path(folder) / SIGNATURE
        ignored = ("--ignore-paths", bundle / SIGNATURE)
        try:
            run_model_signing("sign", "key", bundle, "--private_key", key, "--signature", new, *ignored)
        except SignatureProcessFailed as error:
            raise ExportError(f"{bundle} cannot be signed: {error}") from error
        _put(new.read_bytes(), bundle / SIGNATURE)
    typer.echo(f"{bundle / SIGNATURE}: the signature of all that {bundle} holds")


def _expect_private_key(key: Path, bundle: Path) -> None:
    """Raises ExportError; for a key in the bundle as well, which would go wherever that goes."""
    if bundle.resolve() in key.resolve().parents:
        raise ExportError(f"--key is {key}, which is within the bundle {bundle}; expected a key outside of it.")
    try:
        pem = key.read_bytes()
    except OSError as error:
        made = "openssl ecparam -name prime256v1 -genkey -noout -out KEY.pem makes one"
        raise ExportError(f"--key is {key}, which cannot be read: {error.strerror}; {made}.") from error
    if b"ENCRYPTED" in pem:
        raise ExportError(
            f"--key is {key}, which has a password; expected one without: openssl ec -in {key} -out PLAIN"
        )
    if b"PRIVATE KEY" not in pem:
        raise ExportError(f"--key is {key}; expected a private key in PEM, on the curve P-256, P-384 or P-521.")


def _put(content: bytes, path: Path) -> None:
    """Raises ExportError."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)
