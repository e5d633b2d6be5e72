"""The certificate that the service shows, tried before anything starts. uvicorn speaks TLS with it."""

import ssl
from pathlib import Path

from app.errors import BadSettings
from app.settings import Settings


def expect_usable(settings: Settings) -> None:
    """Load the certificate with its key, where there is one, and forget it again.

    Raises: BadSettings.
    """
    if settings.tls_cert_file is None:
        return
    certificate, key = settings.tls_cert_file, settings.tls_key_file or settings.tls_cert_file
    _expect_readable("MIXER_TLS_CERT_FILE", certificate)
    _expect_readable("MIXER_TLS_KEY_FILE", key)
    passwords = iter([settings.tls_key_password.get_secret_value()])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, lambda: next(passwords))  # never asks at the terminal
    except (ssl.SSLError, ValueError) as error:
        raise BadSettings(
            f"MIXER_TLS_CERT_FILE is {certificate}, which cannot be used with the key in {key}: "
            f"{_reason(error, locked=next(passwords, None) is None)}."
        ) from error


def _expect_readable(variable: str, file: Path) -> None:
    try:
        file.read_bytes()
    except OSError as error:
        raise BadSettings(f"{variable} is {file}, which cannot be read: {error.strerror}.") from error


def _reason(error: Exception, *, locked: bool) -> str:
    """OpenSSL itself tells little more than that something is wrong."""
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return "the key is that of another certificate"
    if locked:
        return "the key is encrypted, and MIXER_TLS_KEY_PASSWORD does not open it"
    return "expected a chain of certificates and a key, both in PEM"
