"""Prometheus takes /metrics in OpenMetrics by itself, and keeps the exemplars of sampled requests."""

import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.app.collector import collecting
from tests.app.color_bundle import RED, image
from tests.app.servers import PATIENCE_S, free_port, until
from tests.faults.wire import served

PROMETHEUS = shutil.which("prometheus")
TRACE = "0af7651916cd43dd8448eb211c80319c"

pytestmark = [pytest.mark.process, pytest.mark.skipif(PROMETHEUS is None, reason="needs Debian's prometheus")]


def exemplars_in(port: int) -> list[Any]:
    query = f"query=mixer_request_seconds_bucket&start={time.time() - 600}&end={time.time() + 600}"
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/api/v1/query_exemplars?{query}", timeout=PATIENCE_S
        ) as told:
            return [one for series in json.load(told)["data"] for one in series["exemplars"]]
    except OSError:  # it does not listen yet
        return []


def test_prometheus_keeps_the_trace_of_a_request(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with served(bundle, "--workers", "2") as server:
            server.wait_until_serving(2)
            headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
            asked = urllib.request.Request(f"http://127.0.0.1:{server.port}/classify", image(RED), headers)
            urllib.request.urlopen(asked, timeout=PATIENCE_S).close()
            targets = [{"targets": [f"127.0.0.1:{server.port}"]}]
            scrape = {"job_name": "mixer", "scrape_interval": "1s", "static_configs": targets}
            (tmp_path / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scrape]}), encoding="utf-8")
            command = [
                str(PROMETHEUS), f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage",
            ]  # fmt: skip
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as prometheus:
                try:
                    until(lambda: bool(exemplars_in(port)))
                    (kept,) = exemplars_in(port)
                finally:
                    prometheus.kill()
    assert kept["labels"]["trace_id"] == TRACE
    assert float(kept["value"]) > 0
