"""With a key, only what was signed is opened: at the start and at a reload, whatever was changed and when."""

import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from app import main
from app.engine.engine import EngineOptions
from app.engine.session import ONNX_RUNTIME, Runtime
from app.errors import BadSettings, EngineError
from app.serving import signatures
from app.serving.bundles import open_bundle
from app.serving.signatures import SIGNATURE, SignatureProcessFailed, run_model_signing, verified
from app.settings import Settings
from tests.app.color_bundle import RED, color_spec, image, write_bundle
from tests.app.problem_answers import expect_problem
from tests.app.signed_bundle import Keys, make_keys, sign

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]
KEY = "an-operators-key-of-length"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Path:
    """A signed bundle with a card and labels, which nobody changes."""
    bundle = write_bundle(tmp_path_factory.mktemp("signed") / "colours", color_spec(version="7"))
    (bundle / "README.md").write_text("# Colours\n")
    (bundle / "card.json").write_text("{}")
    (bundle / "labels.txt").write_text("red\ngreen\nblue\n")
    return sign(bundle, keys)


@pytest.fixture
def bundle(original: Path, tmp_path: Path) -> Path:
    """A copy of the signed bundle, to change."""
    return Path(shutil.copytree(original, tmp_path / "colours"))


def change_graph(bundle: Path) -> None:
    content = bytearray((bundle / "fp32.onnx").read_bytes())
    content[-1] ^= 1
    (bundle / "fp32.onnx").write_bytes(content)


def change_labels(bundle: Path) -> None:
    (bundle / "labels.txt").write_text("green\nred\nblue\n")


def change_card(bundle: Path) -> None:
    (bundle / "card.json").write_text('{"safe": true}')


def change_card_to_a_digest_with_a_quote(bundle: Path) -> None:
    """model_signing prints a digest as Python does bytes, and writes its line otherwise where one has a quote."""
    cards = (f'{{"version": {number}}}'.encode() for number in range(1000))
    (bundle / "card.json").write_bytes(next(card for card in cards if b'"' in hashlib.sha256(card).digest()))


def add_graph(bundle: Path) -> None:
    shutil.copy(bundle / "fp32.onnx", bundle / "int8.onnx")


def add_hidden_file(bundle: Path) -> None:
    (bundle / "charts").mkdir()
    (bundle / "charts" / ".hidden").write_text("")


def remove_labels(bundle: Path) -> None:
    (bundle / "labels.txt").unlink()


def swap_two_files(bundle: Path) -> None:
    (bundle / "README.md").rename(bundle / "other")
    (bundle / "labels.txt").rename(bundle / "README.md")
    (bundle / "other").rename(bundle / "labels.txt")


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (change_graph, "changed: fp32.onnx"),
        (change_labels, "changed: labels.txt"),
        (change_card, "changed: card.json"),
        (change_card_to_a_digest_with_a_quote, "changed: card.json"),
        (add_graph, "added: int8.onnx"),
        (add_hidden_file, "added: charts/.hidden"),
        (remove_labels, "missing: labels.txt"),
        (swap_two_files, "changed: README.md, labels.txt"),
    ],
)
def test_what_was_changed_is_not_opened_and_named(bundle: Path, keys: Keys, tamper: Callable[[Path], None], words: str):
    tamper(bundle)
    opened: list[Path] = []
    with pytest.raises(EngineError) as refused:
        open_bundle(EngineOptions(bundle, "cpu", bundle_key=keys.public), bundle, noting(opened))
    assert str(refused.value) == f"The bundle {bundle} is not what was signed with MIXER_BUNDLE_KEY: {words}."
    assert not opened


def test_a_bundle_that_nobody_may_write_to_is_copied_into_folders_that_can_be_removed(bundle: Path, keys: Keys):
    (bundle / "charts").mkdir()
    sign(bundle, keys)
    folders = (bundle / "charts", bundle)
    for folder in folders:
        folder.chmod(0o555)
    try:
        with verified(bundle, keys.public) as copy:
            assert [path.stat().st_mode & 0o777 for path in (copy, copy / "charts")] == [0o700, 0o700]
    finally:
        for folder in folders:
            folder.chmod(0o755)


def noting(opened: list[Path]) -> Runtime:
    """ONNX Runtime, with a note of every graph it is given."""

    def open_one(path: Path, *rest: Any) -> Any:
        opened.append(path)
        return ONNX_RUNTIME.open(path, *rest)

    return Runtime(ONNX_RUNTIME.available, ONNX_RUNTIME.preload, open_one, ONNX_RUNTIME.memory)


def test_a_signed_bundle_is_opened_from_its_copy_and_nothing_of_that_stays(bundle: Path, keys: Keys):
    opened: list[Path] = []
    found = open_bundle(EngineOptions(bundle, "cpu", bundle_key=keys.public), bundle, noting(opened))
    assert found.engine.spec.version == "7"
    assert found.card is not None
    assert opened
    for path in opened:
        assert path.name == "fp32.onnx"
        assert not path.is_relative_to(bundle)
        assert not path.exists()


def test_what_is_changed_after_it_was_verified_is_not_read(bundle: Path, keys: Keys):
    before = (bundle / "fp32.onnx").read_bytes()
    with verified(bundle, keys.public) as folder:
        change_graph(bundle)
        assert (folder / "fp32.onnx").read_bytes() == before
        assert folder.parent.stat().st_mode & 0o777 == 0o700


def test_without_a_key_a_bundle_is_opened_where_it_is(bundle: Path):
    with verified(bundle, None) as folder:
        assert folder == bundle


def test_an_error_of_the_copy_names_the_bundle(bundle: Path, keys: Keys):
    with pytest.raises(EngineError, match=f"^{bundle}/fp32.onnx is odd$"), verified(bundle, keys.public) as folder:
        raise EngineError(f"{folder}/fp32.onnx is odd")


def test_the_signature_of_another_key_does_not_count(bundle: Path, keys: Keys, tmp_path: Path):
    sign(bundle, make_keys(tmp_path / "other"))
    with pytest.raises(EngineError, match="is not what was signed with MIXER_BUNDLE_KEY: Key mismatch"):
        open_bundle(EngineOptions(bundle, "cpu", bundle_key=keys.public), bundle)


def test_a_signature_that_claims_the_right_key_does_not_count_either(bundle: Path, keys: Keys, tmp_path: Path):
    genuine = (bundle / SIGNATURE).read_text().split('"hint":"')[1].split('"')[0]
    sign(bundle, make_keys(tmp_path / "other"))
    forged = (bundle / SIGNATURE).read_text()
    (bundle / SIGNATURE).write_text(forged.replace(forged.split('"hint":"')[1].split('"')[0], genuine))
    with pytest.raises(EngineError, match="is not what was signed with MIXER_BUNDLE_KEY"):
        open_bundle(EngineOptions(bundle, "cpu", bundle_key=keys.public), bundle)


@pytest.mark.parametrize("content", ["", "{}", "no JSON", '{"verificationMaterial": {}}'])
def test_what_is_no_signature_is_told_in_one_line(bundle: Path, keys: Keys, content: str):
    (bundle / SIGNATURE).write_text(content)
    with pytest.raises(EngineError, match="is not what was signed with MIXER_BUNDLE_KEY: ") as refused:
        open_bundle(EngineOptions(bundle, "cpu", bundle_key=keys.public), bundle)
    assert "\n" not in str(refused.value)


def test_without_a_signature_it_is_not_opened(bundle: Path, keys: Keys):
    (bundle / SIGNATURE).unlink()
    with pytest.raises(EngineError, match=r"colours has no model.sig; MIXER_BUNDLE_KEY is set"):
        open_bundle(EngineOptions(bundle, "cpu", bundle_key=keys.public), bundle)


def test_a_single_graph_cannot_be_signed(bundle: Path, keys: Keys):
    with pytest.raises(EngineError, match=r"fp32.onnx is no folder; MIXER_BUNDLE_KEY is set"):
        open_bundle(EngineOptions(bundle, "cpu", bundle_key=keys.public), bundle / "fp32.onnx")


def test_a_link_to_a_file_elsewhere_is_refused(bundle: Path, keys: Keys, tmp_path: Path):
    (bundle / "fp32.onnx").rename(tmp_path / "elsewhere.onnx")
    (bundle / "fp32.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(EngineError, match=r"fp32.onnx' because it is a symlink"):
        open_bundle(EngineOptions(bundle, "cpu", bundle_key=keys.public), bundle)


def test_a_pipe_is_refused_and_not_waited_for(bundle: Path, keys: Keys):
    os.mkfifo(bundle / "pipe")
    with pytest.raises(EngineError, match="cannot be copied to verify it"):
        open_bundle(EngineOptions(bundle, "cpu", bundle_key=keys.public), bundle)


def test_what_git_keeps_beside_a_bundle_is_not_signed_and_not_read(bundle: Path, keys: Keys):
    (bundle / ".git").mkdir()
    (bundle / ".git" / "config").write_text("")
    (bundle / ".gitattributes").write_text("")
    with verified(bundle, keys.public) as folder:
        assert not list(folder.glob(".git*"))


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_the_longer_curves_are_known_too(bundle: Path, tmp_path: Path, curve: ec.EllipticCurve):
    keys = make_keys(tmp_path / "longer", ec.generate_private_key(curve))
    with verified(sign(bundle, keys), keys.public) as folder:
        assert (folder / "fp32.onnx").is_file()


def test_where_nothing_can_be_copied_that_is_told(bundle: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(bundle / "none"))
    with (
        pytest.raises(EngineError, match="cannot be copied to verify it: No such file or directory; see TMPDIR"),
        verified(bundle, keys.public),
    ):
        pass


# --- the key ---


def test_a_key_that_is_not_there_is_told(bundle: Path, tmp_path: Path):
    with (
        pytest.raises(BadSettings, match=r"MIXER_BUNDLE_KEY is \S+none.pem, which cannot be read: No such file"),
        verified(bundle, tmp_path / "none.pem"),
    ):
        pass


def test_the_private_half_is_refused_with_the_command_that_makes_the_other(bundle: Path, keys: Keys):
    with (
        pytest.raises(BadSettings, match=r"a private key; .*openssl ec -in \S+ -pubout"),
        verified(bundle, keys.private),
    ):
        pass


def test_a_key_of_another_kind_is_told(bundle: Path, tmp_path: Path):
    other = make_keys(tmp_path / "rsa", rsa.generate_private_key(65537, 2048))
    with pytest.raises(BadSettings, match="expected a public key in PEM, on the curve"), verified(bundle, other.public):
        pass


@pytest.mark.parametrize("content", ["", "-----BEGIN PUBLIC KEY-----\nA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_key_is_told(bundle: Path, tmp_path: Path, content: str):
    (tmp_path / "key.pem").write_text(content)
    with pytest.raises(BadSettings, match="expected a public key in PEM"), verified(bundle, tmp_path / "key.pem"):
        pass


def test_without_the_extra_the_command_that_installs_it_is_told(
    bundle: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(signatures, "find_spec", lambda name: None)
    with pytest.raises(BadSettings, match="scripts/install cpu,signing"), verified(bundle, keys.public):
        pass


def test_what_the_process_says_last_is_told(tmp_path: Path):
    with pytest.raises(SignatureProcessFailed, match="No such command 'nothing'"):
        run_model_signing("nothing")


# --- the whole service ---


@asynccontextmanager
async def served(bundle: Path, key: Path) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(bundle=bundle, bundle_key=key, provider="cpu", instances=1, decode_threads=1, admin_keys=KEY)
    application = main.create_service(settings).app
    async with (
        application.router.lifespan_context(application),
        httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://service") as client,
    ):
        yield client


async def version(http: httpx.AsyncClient) -> str:
    return str((await http.post("/classify", content=image(RED))).json()["model"]["version"])


async def reloaded(http: httpx.AsyncClient) -> httpx.Response:
    return await http.post("/admin/reload", headers={"X-API-Key": KEY})


async def test_a_reload_takes_what_is_signed_and_nothing_else(bundle: Path, keys: Keys):
    async with served(bundle, keys.public) as http:
        (bundle / "fp32.onnx").unlink()
        write_bundle(bundle, color_spec(version="8"))
        expect_problem(await reloaded(http), 409, "reload_refused", "changed: fp32.onnx")
        assert await version(http) == "7"
        sign(bundle, keys)
        assert (await reloaded(http)).json()["models"][0]["outcome"] == "swapped"
        assert await version(http) == "8"


async def test_a_card_that_was_changed_is_not_shown_though_the_graphs_are_the_same(bundle: Path, keys: Keys):
    async with served(bundle, keys.public) as http:
        change_card(bundle)
        expect_problem(await reloaded(http), 409, "reload_refused", "changed: card.json")
        card = await http.get("/model/card", headers={"Accept": "application/json"})
        assert card.json() == {}


async def test_the_key_is_read_again_at_a_reload(bundle: Path, keys: Keys, tmp_path: Path):
    key = Path(shutil.copy(keys.public, tmp_path / "trusted.pem"))
    async with served(bundle, key) as http:
        shutil.copy(make_keys(tmp_path / "new").public, key)
        expect_problem(await reloaded(http), 409, "reload_refused", "Key mismatch")
        assert await version(http) == "7"


def test_one_unsigned_bundle_of_a_folder_stops_the_start(bundle: Path, keys: Keys):
    write_bundle(bundle.parent / "unsigned", color_spec())
    with pytest.raises(EngineError, match=r"unsigned has no model.sig"):
        main.create_service(Settings(bundle=bundle.parent, bundle_key=keys.public, provider="cpu", instances=1))
