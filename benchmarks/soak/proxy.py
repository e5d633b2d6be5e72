"""nginx in front of two services, with the configuration that the project ships. Knows nothing of requests."""

import asyncio
import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.serving.environments import ROOT
from benchmarks.serving.server import free_ports
from benchmarks.soak.instances import Instance, InstanceFailedError

CONFIGURATION = ROOT / "deploy" / "nginx.conf"
_INSTANCES = ("mixer-1:8000", "mixer-2:8000")
_LISTEN = "listen 8080;"
_TIMEOUT_S = 10.0
_PAUSE_S = 0.02
_AROUND = """
{user}worker_processes 2;
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    log_format tries '$upstream_status';
    access_log {folder}/tries.txt tries;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{site}
}}
"""


def found() -> str | None:
    """Where nginx is, if it is. Debian's place for it is not on everybody's PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def configuration(folder: Path, port: int, instances: Sequence[int]) -> str:
    """The shipped file between what stands around it; only addresses are others, and files are in `folder`."""
    site = CONFIGURATION.read_text(encoding="utf-8").replace(_LISTEN, f"listen 127.0.0.1:{port};")
    for name, instance in zip(_INSTANCES, instances, strict=True):
        site = site.replace(name, f"127.0.0.1:{instance}")
    user = "" if os.geteuid() else f"user {pwd.getpwuid(0).pw_name};\n"
    return _AROUND.format(user=user, folder=folder, site=site)


class Proxy:
    """One nginx. `current`: where clients connect; it is never told to stop while they do."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self.current: Instance

    async def start(self, instances: Sequence[int]) -> None:
        """In front of services on these ports. Raises InstanceFailedError."""
        nginx = found()
        if nginx is None:
            raise InstanceFailedError("nginx is not installed; expected it on the PATH (apt-get install nginx-light).")
        (port,) = free_ports(1)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "tries.txt").unlink(missing_ok=True)
        written = self._folder / "nginx.conf"
        written.write_text(configuration(self._folder, port, instances), encoding="utf-8")
        log = self._folder / "nginx.txt"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: ASYNC220 -- starts at once
                [nginx, "-e", "stderr", "-p", str(self._folder), "-c", str(written)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.current = Instance("nginx", port, process, log)
        await _until_listening(self.current)

    async def stop(self) -> None:
        """Gracefully. Raises InstanceFailedError where it does not end, or not with 0."""
        process = self.current.process
        process.terminate()
        try:
            code = await asyncio.to_thread(process.wait, _TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise InstanceFailedError(f"nginx had not ended {_TIMEOUT_S:g} s after SIGTERM.") from None
        if code:
            raise InstanceFailedError(f"nginx ended with {code}: {self.current.log.read_text(errors='replace')[-300:]}")

    def sent_on(self) -> Counter[str]:
        """Requests for which nginx asked more than one instance, by what those before the last said; 502: nothing."""
        lines = (self._folder / "tries.txt").read_text(encoding="utf-8").splitlines()
        tries = [re.split(r" [,:] |, ", line) for line in lines]
        return Counter(", then ".join(said[:-1]) for said in tries if len(said) > 1)


async def _until_listening(nginx: Instance) -> None:
    until = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < until:
        if nginx.process.poll() is not None:
            break
        with suppress(OSError), socket.create_connection(("127.0.0.1", nginx.port), timeout=1):
            return
        await asyncio.sleep(_PAUSE_S)
    said = nginx.log.read_text(errors="replace").strip()
    raise InstanceFailedError(f"nginx does not listen: {said[-300:] or 'it said nothing'}")
