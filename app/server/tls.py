"""The certificate that the service shows: tried before anything starts, and read anew while it goes on.

uvicorn speaks TLS with it.
"""

import ssl
from pathlib import Path

from app.errors import BadSettings
from app.settings import Settings


class Certificate:
    """What every handshake shows: as it was read last. Raises: BadSettings."""

    def __init__(self, settings: Settings, file: Path) -> None:
        self._settings, self._file = settings, file
        self.read_again()
        self.context = self._newest
        self.context.sni_callback = self._show

    def read_again(self) -> None:
        """Show new connections the certificate that is in the files now, with its key.

        Raises: BadSettings, and goes on with what it had.
        """
        newest = _loaded(self._settings, self._file)  # not the same: a handshake may be using it
        key = self._settings.tls_key_file or self._file
        self._newest, self._pem = newest, (key.read_bytes(), self._file.read_bytes())

    def pem(self) -> tuple[bytes, bytes]:
        """The key and the chain as they were read last, for what does not speak TLS by Python's ssl."""
        return self._pem

    def _show(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """OpenSSL asks this in every handshake, whether the client names a server or not."""
        connection.context = self._newest


def certificate_of(settings: Settings) -> Certificate | None:
    """The service's certificate, if it has one. Raises: BadSettings."""
    return None if settings.tls_cert_file is None else Certificate(settings, settings.tls_cert_file)


def _loaded(settings: Settings, certificate: Path) -> ssl.SSLContext:
    key = settings.tls_key_file or certificate
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
    return context


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
