"""Certificates of one day, made by the openssl command."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """A self-signed one for 127.0.0.1 with its key, and the same key encrypted."""

    cert: Path
    key: Path
    locked_key: Path
    password: str


def certificate(folder: Path, name: str) -> Certificate:
    password = "open sesame"
    cert, key, locked = (folder / f"{name}{end}" for end in (".crt", ".key", ".locked.key"))
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "1",
        "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert),
    )  # fmt: skip
    openssl("pkey", "-in", str(key), "-aes256", "-passout", f"pass:{password}", "-out", str(locked))
    return Certificate(cert, key, locked, password)


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)
