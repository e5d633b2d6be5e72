"""The service as an application of Ray Serve: one replica is one process of it, with its own queue, limits and metrics.

Settings are MIXER_ variables, as for `mixer serve`; those of ports, connections, TLS and workers have no meaning here.
Run `serve run deploy/ray/serve.yaml`. Knows nothing of pictures.
"""

import os

import ray
from ray import serve
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import NotReady
from app.http import forwarded
from app.main import create_service
from app.server.topology import planned
from app.settings import load
from app.telemetry import logs


@serve.deployment
@serve.ingress()
class MixerServe:
    """One replica. The deployment's options are in serve.yaml."""

    def __init__(self) -> None:
        """Open and warm every model, before Ray sends a request. Raises StartError, which Ray shows."""
        cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
        settings = planned(load().model_copy(update={"workers": 1, "grpc_port": 0}), max(1, int(cpus)))
        logs.configure(settings.log_format, settings.log_level)
        self._service = create_service(settings)
        self._root_path = settings.root_path

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """What Ray calls for each request; it begins and ends its lifespan, too."""
        proxies = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")
        inner = forwarded.behind(proxies, self._service.app, self._root_path)

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await inner(scope, receive, send)  # uvicorn takes what is no coroutine function for an older kind

        return application

    def check_health(self) -> None:
        """As /health/ready, which Ray asks for every few seconds. Raises NotReady: Ray replaces the replica."""
        if (reason := self._service.unready()) is not None:
            raise NotReady(reason)


application = MixerServe.bind()
