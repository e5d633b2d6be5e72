"""What app/ uses of other packages that they do not promise to keep: a new version that takes it away fails here.

Their versions have an upper bound in pyproject.toml; whoever raises one reads in the failures which file to look at.
"""

import ast
import asyncio
import importlib
import inspect
import io
import logging
import re
import tomllib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httptools
import prometheus_client.utils
import pytest
import uvicorn
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image, ImageFile, JpegImagePlugin, TiffImagePlugin
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware, _TrustedHosts
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

ROOT = Path(__file__).parents[1]
BOUNDED = {
    "server": ("httptools", "uvicorn", "python-multipart", "pillow", "prometheus-client", "starlette"),
    "otel": ("opentelemetry-api", "opentelemetry-sdk"),
}

# Modules that their packages document; whatever comes from another one is an internal.
DOCUMENTED = {
    "uvicorn": {"uvicorn"},
    "python_multipart": {"python_multipart"},
    "PIL": {"PIL.Image", "PIL.ImageChops", "PIL.ImageFile", "PIL.ImageFilter", "PIL.UnidentifiedImageError"},
    "prometheus_client": {"prometheus_client", "prometheus_client.core", "prometheus_client.registry"},
    "opentelemetry": {
        "opentelemetry.context",
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
        "opentelemetry.sdk.resources",
        "opentelemetry.sdk.trace",
        "opentelemetry.sdk.trace.export",
        "opentelemetry.sdk.trace.sampling",
        "opentelemetry.trace",
        "opentelemetry.trace.span",
        "opentelemetry.trace.status",
    },
    "starlette": {
        "starlette.convertors",
        "starlette.exceptions",
        "starlette.middleware.cors",
        "starlette.requests",
        "starlette.responses",
        "starlette.types",
    },
}


class Internal(NamedTuple):
    """`attribute` of `owner`: a value of the type `shape`, or something to call with the parameters `shape`."""

    owner: str
    attribute: str
    shape: type | tuple[str, ...]
    file: str


def _rows(file: str, owner: str, **shapes: type | tuple[str, ...]) -> list[Internal]:
    return [Internal(owner, attribute, shape, file) for attribute, shape in shapes.items()]


PROTOCOL = "uvicorn.protocols.http.httptools_impl.HttpToolsProtocol"
CYCLE = "uvicorn.protocols.http.httptools_impl.RequestResponseCycle"
FLOW = "uvicorn.protocols.http.flow_control.FlowControl"
STATE = "uvicorn.server.ServerState"
SERVER, CONFIG = "uvicorn.Server", "uvicorn.Config"

INTERNALS = [
    *_rows(
        "server/connection.py",
        PROTOCOL,
        cycle=RequestResponseCycle,
        flow=FlowControl,
        headers=list,
        loop=asyncio.AbstractEventLoop,
        parser=httptools.HttpRequestParser,
        pipeline=deque,
        scope=dict,
        server_state=ServerState,
        timeout_keep_alive=int,
        timeout_keep_alive_task=asyncio.TimerHandle,
        transport=asyncio.Transport,
        url=bytes,
        _unset_keepalive_if_required=(),
        connection_lost=("exc",),
        connection_made=("transport",),
        data_received=("data",),
        on_body=("body",),
        on_headers_complete=(),
        on_message_complete=(),
        on_response_complete=(),
        pause_writing=(),
        resume_writing=(),
        shutdown=(),
        timeout_keep_alive_handler=(),
    ),
    *_rows(
        "server/connection.py",
        CYCLE,
        disconnected=bool,
        keep_alive=bool,
        message_event=asyncio.Event,
        response_complete=bool,
        scope=dict,
        transport=asyncio.Transport,
    ),
    *_rows(
        "server/flow_control.py",
        FLOW,
        __init__=("transport",),
        _transport=asyncio.Transport,
        read_paused=bool,
        pause_reading=(),
        resume_reading=(),
    ),
    *_rows("server/refusals.py", PROTOCOL, headers=list, parser=httptools.HttpRequestParser, url=bytes),
    *_rows("server/framing.py", PROTOCOL, headers=list, parser=httptools.HttpRequestParser, url=bytes),
    *_rows("server/connection.py", STATE, default_headers=list, total_requests=int),
    *_rows("server/uvicorn_server.py", PROTOCOL, __init__=("config", "server_state", "app_state", "_loop")),
    *_rows(
        "server/uvicorn_server.py",
        SERVER,
        config=uvicorn.Config,
        force_exit=bool,
        lifespan=object,
        on_tick=("counter",),
        server_state=ServerState,
        servers=list,
        should_exit=bool,
        shutdown=("sockets",),
        startup=("sockets",),
    ),
    *_rows("server/serve.py", SERVER, run=("sockets",)),
    *_rows("server/uvicorn_server.py", "uvicorn.Server.lifespan", state=dict),
    *_rows("server/uvicorn_server.py", STATE, connections=set),
    *_rows("http/forwarded.py", "uvicorn.middleware.proxy_headers", ProxyHeadersMiddleware=type, _TrustedHosts=type),
    *_rows(
        "http/forwarded.py",
        "uvicorn.middleware.proxy_headers._TrustedHosts",
        get_trusted_client_address=("x_forwarded_for",),
    ),
    *_rows(
        "http/forwarded.py",
        "uvicorn.middleware.proxy_headers.ProxyHeadersMiddleware",
        trusted_hosts=_TrustedHosts,
    ),
    *_rows(
        "server/uvicorn_server.py",
        CONFIG,
        http_protocol_class=type,
        limit_concurrency=int,
        load=(),
        loaded=bool,
        ssl=type(None),
    ),
    *_rows("server/serve.py", CONFIG, is_ssl=bool),
    *_rows("http/body.py", "python_multipart.multipart", parse_options_header=("value",)),
    *_rows("http/multipart.py", "python_multipart.multipart", MultipartParser=type, parse_options_header=("value",)),
    *_rows("http/multipart.py", "python_multipart.exceptions", FormParserError=type),
    *_rows(
        "http/multipart.py",
        "python_multipart.multipart.MultipartParser",
        __init__=("boundary", "callbacks", "max_size", "max_header_count", "max_header_size"),
        logger=logging.Logger,
        write=("data",),
    ),
    *_rows("decoding/cost_checks.py", "PIL.TiffImagePlugin", TILELENGTH=int, TILEWIDTH=int, TiffImageFile=type),
    *_rows(
        "decoding/cost_checks.py", "PIL.TiffImagePlugin.TiffImageFile", tag_v2=TiffImagePlugin.ImageFileDirectory_v2
    ),
    *_rows("decoding/cost_checks.py", "PIL.ImageFile.ImageFile", tile=list),
    *_rows("decoding/cost_checks.py", "PIL.ImageFile.ImageFile.tile[0]", codec_name=str),
    *_rows("decoding/cost_checks.py", "PIL.JpegImagePlugin", JpegImageFile=type),
    *_rows("decoding/cost_checks.py", "PIL.JpegImagePlugin.JpegImageFile", layers=int),
    *_rows("decoding/decoder.py", "PIL.JpegImagePlugin", JpegImageFile=type),
    *_rows("decoding/decoder.py", "PIL.JpegImagePlugin.JpegImageFile", draft=("mode", "size")),
    *_rows("decoding/decoder.py", "PIL.ImageFile.ImageFile", decodermaxblock=int, fp=io.BytesIO, info=dict, tile=list),
    *_rows("decoding/decoder.py", "PIL.ImageFile.ImageFile.tile[0]", args=tuple, codec_name=str, offset=int),
    *_rows("decoding/decoder.py", "PIL.TiffImagePlugin", TiffImageFile=type),
    *_rows("decoding/decoder.py", "PIL.TiffImagePlugin.TiffImageFile", is_animated=bool),
    *_rows("decoding/tiff.py", "PIL.TiffImagePlugin", TILELENGTH=int, TILEWIDTH=int, TiffImageFile=type),
    *_rows("decoding/tiff.py", "PIL.TiffImagePlugin.TiffImageFile", tag_v2=TiffImagePlugin.ImageFileDirectory_v2),
    *_rows("decoding/tiff.py", "PIL.TiffImagePlugin.TiffImageFile.tag_v2", offset=int),
    *_rows("decoding/decoder.py", "PIL.Image", DecompressionBombError=type),
    *_rows("telemetry/logs.py", "PIL", __file__=str),
    *_rows("http/problems.py", "starlette.routing", Match=type),
    *_rows("api/endpoint.py", "starlette.routing", Match=type),
    *_rows("telemetry/instruments.py", "prometheus_client.utils", floatToGoString=("d",)),
    *_rows(
        "telemetry/metrics.py",
        "prometheus_client.openmetrics.exposition",
        generate_latest=("registry", "escaping", "version"),
    ),
    *_rows(
        "telemetry/otlp.py",
        "opentelemetry.sdk.trace",  # documented, but only for those that a tracer makes
        ReadableSpan=(
            "name",
            "context",
            "parent",
            "resource",
            "attributes",
            "events",
            "links",
            "kind",
            "instrumentation_info",
            "status",
            "start_time",
            "end_time",
            "instrumentation_scope",
        ),
    ),
    *_rows("telemetry/otlp.py", "opentelemetry.sdk.trace.TracerProvider", sampler=Sampler),
    *_rows("telemetry/otlp.py", "opentelemetry.sdk.util.instrumentation", InstrumentationScope=type),
    *_rows("http/body.py", "starlette.requests.Request", receive=()),
    *_rows("http/request_log.py", 'starlette: scope["route"]', path=str),
]


# --- the objects that have them, as they are while the service uses them ---


class _Wire(asyncio.Transport):
    """To nobody."""

    def write(self, data: object) -> None: ...

    def close(self) -> None: ...

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def _answering(scope: Any, receive: Any, send: Any) -> None:
    await Response()(scope, receive, send)


async def _answered_once() -> HttpToolsProtocol:
    """A connection that has had one request, and waits for another."""
    config = uvicorn.Config(_answering, log_config=None, ws="none", limit_concurrency=9)
    protocol = HttpToolsProtocol(config=config, server_state=ServerState(), app_state={})
    protocol.connection_made(_Wire())
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: service\r\n\r\n")
    await asyncio.gather(*protocol.tasks)
    return protocol


class _Brief(uvicorn.Server):
    """Ends as soon as it has started."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets=[])
        self.should_exit = True


async def _server() -> uvicorn.Server:
    server = _Brief(uvicorn.Config(Starlette(), log_config=None, ws="none", limit_concurrency=9, lifespan="on"))
    await server.serve()
    return server


async def _matched_route() -> Any:
    seen: list[Any] = []

    async def endpoint(request: Request) -> Response:
        seen.append(request.scope["route"])
        return Response()

    scope = {"type": "http", "method": "GET", "path": "/here", "headers": [], "query_string": b"", "root_path": ""}

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None: ...

    await Starlette(routes=[Route("/here", endpoint)])({**scope, "app": None}, receive, send)
    return seen[0]


def _image(kind: str) -> Any:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, kind)
    return Image.open(io.BytesIO(file.getvalue()))


@pytest.fixture(scope="module")
def owners() -> dict[str, Any]:
    async def made() -> dict[str, Any]:
        protocol, server = await _answered_once(), await _server()
        parser = MultipartParser(b"boundary", {})
        return {
            PROTOCOL: protocol,
            CYCLE: protocol.cycle,
            FLOW: protocol.flow,
            STATE: protocol.server_state,
            SERVER: server,
            "uvicorn.Server.lifespan": server.lifespan,
            CONFIG: server.config,
            "uvicorn.middleware.proxy_headers._TrustedHosts": _TrustedHosts("127.0.0.1"),
            "uvicorn.middleware.proxy_headers.ProxyHeadersMiddleware": ProxyHeadersMiddleware(_answering),
            "python_multipart.multipart.MultipartParser": parser,
            "PIL.TiffImagePlugin.TiffImageFile": _image("TIFF"),
            "PIL.TiffImagePlugin.TiffImageFile.tag_v2": _image("TIFF").tag_v2,
            "PIL.JpegImagePlugin.JpegImageFile": _image("JPEG"),
            "PIL.ImageFile.ImageFile": _image("BMP"),
            "PIL.ImageFile.ImageFile.tile[0]": _image("BMP").tile[0],
            "opentelemetry.sdk.trace.TracerProvider": TracerProvider(shutdown_on_exit=False),
            "starlette.requests.Request": Request({"type": "http"}),
            'starlette: scope["route"]': await _matched_route(),
        }

    return asyncio.run(made())


# --- they are there ---


def _parameters(function: Any) -> tuple[str, ...]:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(name for name, one in inspect.signature(function).parameters.items() if one.kind not in kinds)


def what_is_wrong(internal: Internal, owner: Any) -> str | None:
    """One line that says which file needs what, and what there is in its place."""
    needs = f"app/{internal.file} needs {internal.attribute} of {internal.owner}"
    if not hasattr(owner, internal.attribute):
        return f"{needs}, which has none."
    value = getattr(owner, internal.attribute)
    if isinstance(internal.shape, tuple):
        if not callable(value) or _parameters(value) != internal.shape:
            found = _parameters(value) if callable(value) else type(value).__name__
            return f"{needs}, which is {found}; expected a function of {internal.shape}."
    elif not isinstance(value, internal.shape):
        return f"{needs}, which is {type(value).__name__}; expected {internal.shape.__name__}."
    return None


@pytest.mark.parametrize("internal", INTERNALS, ids=lambda one: f"{one.file}-{one.owner}.{one.attribute}")
def test_what_a_file_needs_is_there_in_the_shape_it_needs(internal: Internal, owners: dict[str, Any]) -> None:
    owner = owners[internal.owner] if internal.owner in owners else importlib.import_module(internal.owner)
    assert (wrong := what_is_wrong(internal, owner)) is None, wrong


@pytest.mark.parametrize(
    ("internal", "words"),
    [
        (Internal("here", "gone", int, "a.py"), "app/a.py needs gone of here, which has none."),
        (Internal("here", "text", int, "a.py"), "app/a.py needs text of here, which is str; expected int."),
        (
            Internal("here", "call", ("b",), "a.py"),
            "app/a.py needs call of here, which is ('a',); expected a function of ('b',).",
        ),
        (
            Internal("here", "text", (), "a.py"),
            "app/a.py needs text of here, which is str; expected a function of ().",
        ),
    ],
)
def test_what_is_gone_or_different_is_said_with_the_file_that_needs_it(internal: Internal, words: str) -> None:
    class Here:
        text = "text"

        @staticmethod
        def call(a: int) -> None: ...

    assert what_is_wrong(internal, Here) == words


def test_they_still_mean_what_they_meant() -> None:
    assert prometheus_client.utils.floatToGoString(1e7) == "1e+07"  # type: ignore[no-untyped-call]
    assert (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH) == (322, 323)
    assert _image("JPEG").layers == 3
    assert isinstance(_image("BMP"), ImageFile.ImageFile)
    assert issubclass(JpegImagePlugin.JpegImageFile, ImageFile.ImageFile)
    assert issubclass(FormParserError, Exception)


# --- the table is complete ---


def _imported(file: Path) -> Iterator[str]:
    """Every module, and every name of one, that a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_documented(name: str) -> bool:
    documented = DOCUMENTED[name.partition(".")[0]]
    return name in documented or (name.partition(".")[0] != "PIL" and name.rpartition(".")[0] in documented)


FILES = sorted((ROOT / "app").rglob("*.py"))


def test_every_file_that_imports_something_undocumented_has_rows() -> None:
    undocumented = {
        (file.relative_to(ROOT / "app").as_posix(), name)
        for file in FILES
        for name in _imported(file)
        if name.partition(".")[0] in DOCUMENTED and not _is_documented(name)
    }
    assert undocumented  # or this test looks at nothing
    named = {(internal.file, internal.owner) for internal in INTERNALS}
    named |= {(internal.file, f"{internal.owner}.{internal.attribute}") for internal in INTERNALS}
    missing = {(file, name) for file, name in undocumented if (file, name) not in named}
    assert not missing, f"{sorted(missing)} have no rows in INTERNALS; expected one for each attribute that is used."


@pytest.mark.parametrize("internal", INTERNALS, ids=lambda one: f"{one.file}-{one.owner}.{one.attribute}")
def test_no_row_is_about_something_that_its_file_does_not_use(internal: Internal) -> None:
    source = (ROOT / "app" / internal.file).read_text(encoding="utf-8")
    assert re.search(rf"\b{internal.attribute}\b", source), f"app/{internal.file} has no {internal.attribute}."


# --- their versions are bounded ---


def _requirements(lines: list[str]) -> dict[str, Requirement]:
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(one.name): one for one in found}


@pytest.mark.parametrize(("extra", "name"), [(extra, name) for extra, names in BOUNDED.items() for name in names])
def test_a_package_whose_internals_are_used_has_bounds_that_admit_the_pinned_version(extra: str, name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = _requirements(project["optional-dependencies"][extra])[canonicalize_name(name)].specifier
    assert {one.operator for one in bounds} == {">=", "<"}, f"{name} is {str(bounds)!r}; expected >= and <."
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = _requirements([line for line in lines if re.match(r"[\w.-]+==", line)])
    (pinned,) = pins[canonicalize_name(name)].specifier
    assert bounds.contains(pinned.version), f"{name} is pinned to {pinned.version}; expected {bounds}."
