"""TLS: a certificate that cannot be used ends the start in one line; one that can is spoken on every port."""

import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from app.errors import BadSettings
from app.server import tls
from app.settings import Settings, load
from tests.app.certificates import Certificate, certificate
from tests.app.color_bundle import BLUE, image
from tests.app.servers import PATIENCE_S, ROOT, Server, clean_environment, free_port, until

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command makes a certificate here")

KEY, ADMIN = "a-key-of-sixteen-characters", "another-key-for-operators"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("own"), "own")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("other"), "other")


def refusal(**options: object) -> str:
    with pytest.raises(BadSettings) as refused:
        tls.certificate_of(Settings(**options))  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2
    return str(refused.value)


# --- what is tried before anything starts ---


def test_without_a_certificate_nothing_is_expected() -> None:
    assert tls.certificate_of(Settings()) is None


@pytest.mark.process
def test_a_certificate_with_its_key_is_usable(own: Certificate, tmp_path: Path) -> None:
    tls.certificate_of(Settings(tls_cert_file=own.cert, tls_key_file=own.key))
    tls.certificate_of(Settings(tls_cert_file=own.cert, tls_key_file=own.locked_key, tls_key_password=own.password))
    both = tmp_path / "both.pem"
    both.write_bytes(own.key.read_bytes() + own.cert.read_bytes())
    tls.certificate_of(Settings(tls_cert_file=both))


@pytest.mark.process
def test_a_key_of_another_certificate_is_refused(own: Certificate, other: Certificate) -> None:
    assert refusal(tls_cert_file=own.cert, tls_key_file=other.key) == (
        f"MIXER_TLS_CERT_FILE is {own.cert}, which cannot be used with the key in {other.key}: "
        "the key is that of another certificate."
    )


@pytest.mark.process
@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_key_that_stays_locked_is_refused_and_nobody_is_asked_at_the_terminal(
    password: str, own: Certificate
) -> None:
    words = refusal(tls_cert_file=own.cert, tls_key_file=own.locked_key, tls_key_password=password)
    assert f"the key in {own.locked_key}: " in words
    assert words.endswith(": the key is encrypted, and MIXER_TLS_KEY_PASSWORD does not open it.")
    assert own.password not in words


def test_a_file_that_cannot_be_read_is_named(own: Certificate, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    assert refusal(tls_cert_file=missing) == (
        f"MIXER_TLS_CERT_FILE is {missing}, which cannot be read: No such file or directory."
    )
    assert refusal(tls_cert_file=own.cert, tls_key_file=tmp_path) == (
        f"MIXER_TLS_KEY_FILE is {tmp_path}, which cannot be read: Is a directory."
    )


def test_a_file_that_holds_something_else_is_refused(own: Certificate, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate", encoding="utf-8")
    for options in ({"tls_cert_file": junk}, {"tls_cert_file": own.cert, "tls_key_file": junk}):
        assert refusal(**options).endswith(": expected a chain of certificates and a key, both in PEM.")
    assert f"the key in {own.cert}: expected" in refusal(tls_cert_file=own.cert)  # there is none in it


def test_a_key_without_a_certificate_is_refused(own: Certificate) -> None:
    with pytest.raises(BadSettings, match=r"^tls_key_file is .*; expected tls_cert_file beside it\.$"):
        load(["--tls-key-file", str(own.key)])


def test_a_password_is_not_shown_by_accident() -> None:
    assert "sesame" not in repr(load(["--tls-key-password", "open sesame"]))


@pytest.mark.process
def test_a_service_that_cannot_use_its_certificate_starts_no_worker(
    own: Certificate, other: Certificate, bundle: Path
) -> None:
    flags = ["--bundle", str(bundle), "--tls-cert-file", str(own.cert), "--tls-key-file", str(other.key)]
    ended = subprocess.run(
        [sys.executable, "-m", "cli", "serve", "--workers", "2", "--port", str(free_port()), *flags],
        cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        f"mixer: MIXER_TLS_CERT_FILE is {own.cert}, which cannot be used with the key in {other.key}: "
        "the key is that of another certificate."
    ]


# --- renewed ---


class Files:
    """Where a service looks for its certificate; what is there changes."""

    def __init__(self, folder: Path, first: Certificate) -> None:
        self.cert, self.key = folder / "service.crt", folder / "service.key"
        self.hold(first.cert, first.key)

    def hold(self, cert: Path, key: Path) -> None:
        self.cert.write_bytes(cert.read_bytes())
        self.key.write_bytes(key.read_bytes())


def shown_in_a_handshake(context: ssl.SSLContext, server_name: str | None = None) -> bytes:
    """The certificate that a client gets to see, in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    client = trusting.wrap_bio(to_client, to_server, server_hostname=server_name)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (client, server):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def in_binary(file: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(file.read_text(encoding="ascii"))


@pytest.mark.process
@pytest.mark.parametrize("server_name", [None, "service.example"])
def test_a_renewed_certificate_is_shown_to_whoever_connects_next(
    server_name: str | None, own: Certificate, other: Certificate, tmp_path: Path
) -> None:
    files = Files(tmp_path, own)
    certificate = tls.certificate_of(Settings(tls_cert_file=files.cert, tls_key_file=files.key))
    assert certificate is not None
    assert shown_in_a_handshake(certificate.context, server_name) == in_binary(own.cert)
    for renewed in (other, own, other):
        files.hold(renewed.cert, renewed.key)
        certificate.read_again()
        assert shown_in_a_handshake(certificate.context, server_name) == in_binary(renewed.cert)


def test_one_that_cannot_be_used_changes_nothing(own: Certificate, other: Certificate, tmp_path: Path) -> None:
    files = Files(tmp_path, own)
    certificate = tls.certificate_of(Settings(tls_cert_file=files.cert, tls_key_file=files.key))
    assert certificate is not None
    files.hold(other.cert, own.key)
    with pytest.raises(BadSettings, match="the key is that of another certificate"):
        certificate.read_again()
    files.cert.unlink()
    with pytest.raises(BadSettings, match="which cannot be read"):
        certificate.read_again()
    assert shown_in_a_handshake(certificate.context) == in_binary(own.cert)


@pytest.mark.process
def test_a_reload_shows_a_renewed_certificate_and_refuses_a_bad_one(
    own: Certificate, other: Certificate, bundle: Path, tmp_path: Path
) -> None:
    """Connections that are open go on with the old one."""
    files, port = Files(tmp_path, own), free_port()
    flags = {
        "bundle": bundle, "port": port, "workers": 2, "instances": 1, "admin-keys": f"me:{ADMIN}",
        "tls-cert-file": files.cert, "tls-key-file": files.key,
    }  # fmt: skip
    command = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    both = ssl.create_default_context(cafile=str(own.cert))
    both.load_verify_locations(other.cert)
    url = f"https://127.0.0.1:{port}"

    def shown() -> set[bytes]:
        """By both workers."""
        seen = set()
        for _ in range(8):
            with both.wrap_socket(running.connect(), server_hostname="127.0.0.1") as connection:
                seen.add(connection.getpeercert(binary_form=True) or b"")
        return seen

    with (
        Server("-m", "cli", "serve", *command, port=port) as running,
        httpx.Client(verify=both, base_url=url, timeout=PATIENCE_S) as client,
    ):
        running.wait_until_serving(workers=2)
        assert shown() == {in_binary(own.cert)}
        assert client.get("/health/live").status_code == 200
        files.hold(other.cert, own.key)
        refused = client.post("/admin/reload", headers={"x-api-key": ADMIN})
        assert refused.status_code == 409
        assert "the key is that of another certificate" in refused.json()["detail"]
        running.wait_for("reload: MIXER_TLS_CERT_FILE refused: .*the key is that of another certificate", 2)
        assert shown() == {in_binary(own.cert)}
        files.hold(other.cert, other.key)
        assert client.post("/admin/reload", headers={"x-api-key": ADMIN}).status_code == 200
        assert shown() == {in_binary(other.cert)}
        files.hold(own.cert, own.key)
        reloads = len(running.wait_for("reload: .* unchanged"))
        running.signal(signal.SIGHUP)
        running.wait_for("reload: .* unchanged", reloads + 2)
        until(lambda: shown() == {in_binary(own.cert)})  # the line tells of the bundle, which comes first
        assert client.get("/health/live").status_code == 200  # the same connection all along
        assert not [line for line in running.lines if "Traceback" in line]


# --- a service of several workers that speaks it ---


@pytest.fixture(scope="module")
def service(own: Certificate, bundle: Path) -> Iterator[tuple[Server, int]]:
    port, admin_port = free_port(), free_port()
    flags = {
        "bundle": bundle, "port": port, "workers": 2, "instances": 1, "admin-port": admin_port,
        "api-keys": f"phone:{KEY}",
        "admin-keys": f"me:{ADMIN}", "tls-cert-file": own.cert, "tls-key-file": own.locked_key,
        "tls-key-password": own.password,
    }  # fmt: skip
    command = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    with Server("-m", "cli", "serve", *command, port=port) as running:
        running.wait_until_serving(workers=2)
        yield running, admin_port


@pytest.fixture
def trust(own: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(own.cert))


@pytest.mark.process
def test_pictures_are_classified_over_https(service: tuple[Server, int], trust: ssl.SSLContext) -> None:
    running, _ = service
    assert [line for line in running.lines if f"starting on https://127.0.0.1:{running.port}" in line]
    with httpx.Client(verify=trust, base_url=f"https://127.0.0.1:{running.port}", timeout=PATIENCE_S) as client:
        for _ in range(8):
            answer = client.post("/classify", content=image(BLUE, size=(300, 300)), headers={"x-api-key": KEY})
            assert answer.http_version == "HTTP/1.1"
            assert answer.json()["predictions"][0]["label"] == "blue"
        assert client.post("/classify", content=image(BLUE)).status_code == 401
        files = [("file", (f"{index}.png", image(BLUE))) for index in range(3)]
        many = client.post("/classify/batch", files=files, headers={"x-api-key": KEY})
        assert [one["predictions"][0]["label"] for one in many.json()["results"]] == ["blue"] * 3


@pytest.mark.process
def test_every_worker_speaks_it_and_any_of_them_answers_operators(
    service: tuple[Server, int], trust: ssl.SSLContext
) -> None:
    running, admin_port = service
    for _ in range(8):
        public = httpx.Client(verify=trust, base_url=f"https://127.0.0.1:{running.port}", timeout=PATIENCE_S)
        private = httpx.Client(verify=trust, base_url=f"https://127.0.0.1:{admin_port}", timeout=PATIENCE_S)
        with public, private:
            assert public.get("/health/ready").json() == {"status": "ready"}
            assert public.get("/metrics").status_code == 404
            assert "mixer_connections" in private.get("/metrics").text
            assert private.get("/model", headers={"x-api-key": KEY}).json()["provider"] == "cpu"
            assert private.post("/admin/reload", headers={"x-api-key": KEY}).status_code == 401


@pytest.mark.process
def test_who_does_not_know_the_certificate_does_not_trust_it(service: tuple[Server, int]) -> None:
    running, _ = service
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://127.0.0.1:{running.port}/health/live", timeout=PATIENCE_S)


def test_nothing_is_answered_without_tls_or_with_an_old_one(service: tuple[Server, int], trust: ssl.SSLContext) -> None:
    running, _ = service
    with running.connect() as plain:
        plain.sendall(b"GET /health/live HTTP/1.1\r\nHost: service\r\n\r\n")
        with suppress(ConnectionResetError):
            assert b"HTTP/1.1 200" not in plain.recv(65536)
    trust.minimum_version = ssl.TLSVersion.TLSv1_3
    with trust.wrap_socket(running.connect(), server_hostname="127.0.0.1") as modern:
        assert modern.version() == "TLSv1.3"
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with running.connect() as connection, pytest.raises((ssl.SSLError, ConnectionResetError)):
        old.wrap_socket(connection)


def test_a_client_that_says_nothing_holds_nobody_up(service: tuple[Server, int], trust: ssl.SSLContext) -> None:
    running, _ = service
    silent = [running.connect() for _ in range(32)]
    try:
        answer = httpx.get(f"https://127.0.0.1:{running.port}/health/live", verify=trust, timeout=PATIENCE_S)
        assert answer.json() == {"status": "live"}
    finally:
        for connection in silent:
            connection.close()


@pytest.mark.process
def test_told_to_stop_it_answers_what_it_has_begun(own: Certificate, bundle: Path, trust: ssl.SSLContext) -> None:
    port = free_port()
    payload = image(BLUE, size=(64, 64))
    command = [
        "-m", "cli", "serve", "--bundle", str(bundle), "--port", str(port), "--workers", "1",
        "--tls-cert-file", str(own.cert), "--tls-key-file", str(own.key),
    ]  # fmt: skip
    head = f"POST /classify HTTP/1.1\r\nHost: service\r\nContent-Length: {len(payload)}\r\nExpect: 100-continue\r\n\r\n"
    with Server(*command, port=port) as running:
        running.wait_until_serving()
        with trust.wrap_socket(running.connect(), server_hostname="127.0.0.1") as connection:
            connection.sendall(head.encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
            connection.sendall(payload[:50])
            running.signal(signal.SIGTERM)
            running.wait_for("Shutting down")
            connection.sendall(payload[50:])
            answer = _read_all(connection)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["predictions"][0]["label"] == "blue"
        assert running.exit_code() == 0
        assert not [line for line in running.lines if "Traceback" in line]


def _read_all(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


@pytest.mark.process
def test_handshakes_that_nobody_ends_count_as_connections(
    own: Certificate, bundle: Path, trust: ssl.SSLContext
) -> None:
    port = free_port()
    command = [
        "-m", "cli", "serve", "--bundle", str(bundle), "--port", str(port), "--workers", "1",
        "--max-connections", "4", "--tls-cert-file", str(own.cert), "--tls-key-file", str(own.key),
    ]  # fmt: skip
    with Server(*command, port=port) as running, ExitStack() as held:
        running.wait_until_serving()
        silent = [held.enter_context(running.connect()) for _ in range(12)]
        assert silent[-1].recv(1) == b""  # the last of them is closed at once
        for connection in silent:
            connection.close()

        def has_noticed() -> bool:
            try:
                answer = httpx.get(f"https://127.0.0.1:{port}/health/live", verify=trust, timeout=PATIENCE_S)
            except httpx.TransportError:
                return False
            return answer.status_code == 200

        until(has_noticed)
