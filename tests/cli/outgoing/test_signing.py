"""`mixer sign`: what it signs is verified; keys that cannot sign are told in one line, and nothing is written."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from app.serving import signatures
from app.serving.signatures import SIGNATURE, verified
from export.outgoing import package
from tests.app.color_bundle import color_spec, write_bundle
from tests.app.signed_bundle import Keys, make_keys
from tests.cli.conftest import mixer

__all__ = ["mixer"]
pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "colours", color_spec())


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return make_keys(tmp_path / "keys")


def test_what_is_signed_is_verified_and_signing_again_takes_what_is_there_then(
    mixer: Callable[..., int], bundle: Path, keys: Keys, capsys: pytest.CaptureFixture[str]
):
    for content in ("red", "green"):
        (bundle / "labels.txt").write_text(content)
        assert mixer("sign", bundle, "--key", keys.private) == 0
        assert capsys.readouterr().out == f"{bundle}/{SIGNATURE}: the signature of all that {bundle} holds\n"
        with verified(bundle, keys.public) as folder:
            assert (folder / "labels.txt").read_text() == content
    assert sorted(path.name for path in bundle.iterdir()) == ["fp32.onnx", "labels.txt", SIGNATURE]


def encrypted(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    secret = serialization.BestAvailableEncryption(b"a password")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret)
    (folder / "encrypted.pem").write_bytes(pem)
    return folder / "encrypted.pem"


def of_rsa(folder: Path) -> Path:
    return make_keys(folder / "rsa", rsa.generate_private_key(65537, 2048)).private


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "none.pem", "which cannot be read: No such file or directory; openssl ecparam"),
        (encrypted, "which has a password; expected one without"),
        (lambda folder: make_keys(folder / "halves").public, "expected a private key in PEM"),
        (of_rsa, "cannot be signed"),
    ],
)
def test_a_key_that_cannot_sign_is_told(
    mixer: Callable[..., int],
    bundle: Path,
    tmp_path: Path,
    make: Callable[[Path], Path],
    words: str,
    capsys: pytest.CaptureFixture[str],
):
    assert mixer("sign", bundle, "--key", make(tmp_path)) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert not (bundle / SIGNATURE).exists()


def test_a_key_in_the_bundle_which_would_be_pushed_with_it_is_not_signed_with(
    mixer: Callable[..., int], bundle: Path, keys: Keys, capsys: pytest.CaptureFixture[str]
):
    shutil.move(keys.private, bundle / "key.pem")
    assert mixer("sign", bundle, "--key", bundle / "key.pem") == 2
    assert f"which is within the bundle {bundle}; expected a key outside of it." in capsys.readouterr().err
    assert not (bundle / SIGNATURE).exists()


def test_what_is_no_bundle_is_not_signed(
    mixer: Callable[..., int], tmp_path: Path, keys: Keys, capsys: pytest.CaptureFixture[str]
):
    assert mixer("sign", tmp_path / "keys", "--key", keys.private) == 2
    assert "keys is no bundle; expected a folder with fp32.onnx" in capsys.readouterr().err


def test_a_bundle_with_links_is_not_signed(
    mixer: Callable[..., int], bundle: Path, keys: Keys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.move(bundle / "fp32.onnx", tmp_path / "elsewhere.onnx")
    (bundle / "fp32.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    assert mixer("sign", bundle, "--key", keys.private) == 2
    assert "symlink" in capsys.readouterr().err


def test_without_the_extra_the_command_that_installs_it_is_told(
    mixer: Callable[..., int],
    bundle: Path,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(signatures, "find_spec", lambda name: None)
    assert mixer("sign", bundle, "--key", keys.private) == 2
    assert "scripts/install cpu,signing" in capsys.readouterr().err


def test_a_push_knows_a_signature_by_the_same_name():
    assert package.SIGNATURE == SIGNATURE
