"""A collector that keeps the spans it is sent by OTLP, as opentelemetry-proto decodes them."""

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.app.servers import PATIENCE_S


@dataclass
class Collector:
    """`url`: its endpoint. `status`: what it answers. `hold`: not set while it is to keep its clients waiting."""

    url: str = ""
    status: int = 200
    hold: threading.Event = field(default_factory=threading.Event)
    spans: list[Any] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)

    def add(self, headers: dict[str, str], body: bytes) -> None:
        """Keep what was posted."""
        plain = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        with self.news:
            self.headers.append(headers)
            for one in ExportTraceServiceRequest.FromString(plain).resource_spans:
                self.resources.append(values_of(one.resource))
                self.spans += [span for scope in one.scope_spans for span in scope.spans]
            self.news.notify_all()

    def wait_for(self, condition: Callable[[list[Any]], Any]) -> Any:
        """What is true of the spans, once it is."""
        with self.news:
            return self.news.wait_for(lambda: condition(self.spans), PATIENCE_S) or condition(self.spans)

    def wait_for_requests(self, count: int) -> None:
        """Until it has been asked so often, whatever it answered."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.headers) >= count, PATIENCE_S)

    def of_trace(self, trace_id: str, least: int = 1) -> dict[str, Any]:
        """The spans of one trace by their names, once it has so many."""
        own = self.wait_for(
            lambda spans: len(own := [one for one in spans if one.trace_id.hex() == trace_id]) >= least and own
        )
        assert own, [(one.name, one.trace_id.hex()) for one in self.spans]
        return {span.name: span for span in own}


def values_of(told: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in told.attributes}


def ms_of(span: Any) -> float:
    """How long a span is."""
    return float(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens."""
    collector = Collector()
    collector.hold.set()

    class _Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.hold.wait(PATIENCE_S)
            collector.add({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        collector.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()
