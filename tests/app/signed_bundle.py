"""Keys, and bundles that are signed with them as anybody may sign them: with model_signing's own command."""

from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from app.serving.signatures import SIGNATURE, run_model_signing


class Keys(NamedTuple):
    """Both halves, as files in PEM."""

    private: Path
    public: Path


def make_keys(folder: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None) -> Keys:
    folder.mkdir(parents=True, exist_ok=True)
    key = key or ec.generate_private_key(ec.SECP256R1())
    keys = Keys(folder / "key.pem", folder / "public.pem")
    keys.private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    keys.public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return keys


def sign(bundle: Path, keys: Keys) -> Path:
    """The bundle, signed in its own folder."""
    (bundle / SIGNATURE).unlink(missing_ok=True)
    run_model_signing("sign", "key", bundle, "--private_key", keys.private, "--signature", bundle / SIGNATURE)
    return bundle
