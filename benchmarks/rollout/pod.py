"""One pod as a local process with an address of its own, and the kubelet that probes and ends it.

Knows nothing of clients, nor which pod replaces which.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.rollout.manifest import ROOT, PodTemplate, Probe

_ENTRYPOINT = ROOT / "deploy" / "entrypoint"


class PodFailedError(Exception):
    """A pod did not start, or did not end as it should; the message says why."""


class Pod:
    """A pod from its start to its end. `on_change` is called whenever it becomes ready, unready or begins to end."""

    def __init__(
        self, name: str, address: str, template: PodTemplate, log: Path, on_change: Callable[["Pod"], None]
    ) -> None:
        self.name, self.address = name, address
        self.is_ready = self.is_terminating = False
        self.ended_after_s = 0.0
        self._became_ready = asyncio.Event()
        self._template = template
        self._log = log
        self._on_change = on_change
        self._process: asyncio.subprocess.Process | None = None
        self._kubelet: asyncio.Task[None] | None = None

    async def start(self, variables: Mapping[str, str]) -> None:
        """Start the container. `variables`: what the image sets, and what this machine needs otherwise."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIXER_")}
        environment = inherited | dict(variables) | self._template.variables
        environment |= {"MIXER_HOST": self.address, "MIXER_ADMIN_HOST": self.address}
        environment.setdefault("MIXER_WORKERS", str(self._template.cpus))  # what the CPU limit comes to
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(_ENTRYPOINT), *self._template.arguments, cwd=ROOT, env=environment, stderr=log
            )
        self._kubelet = asyncio.create_task(self._probe())

    async def ready(self) -> None:
        """Until it is ready the first time. Raises PodFailedError where it ends or does not start."""
        if self._kubelet is None:
            raise PodFailedError(f"{self.name} was never started.")
        waiting = asyncio.create_task(self._became_ready.wait())
        await asyncio.wait((waiting, self._kubelet), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._kubelet.done():
            self._kubelet.result()

    async def end(self) -> None:
        """Delete the pod: preStop, SIGTERM, and SIGKILL when the grace period is over. Raises PodFailedError."""
        process, template = self._running(), self._template
        deleted = time.monotonic()
        self.is_terminating = True
        self._on_change(self)
        self._stop_probes()
        await asyncio.sleep(template.pre_stop_s)
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(deleted + template.grace_s - time.monotonic()):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise PodFailedError(f"{self.name} had not ended after {template.grace_s:g} s, and was killed.") from None
        self.ended_after_s = time.monotonic() - deleted - template.pre_stop_s
        if code:
            raise PodFailedError(f"{self.name} ended with exit code {code}; expected 0. Its log: {self._log}.")

    def kill(self) -> None:
        """At once, where everything ends."""
        self._stop_probes()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise PodFailedError(f"{self.name} was never started.")
        return self._process

    def _stop_probes(self) -> None:
        if self._kubelet is not None:
            self._kubelet.cancel()

    async def _probe(self) -> None:
        template = self._template
        failures = 0
        while not await self._answers(template.startup):
            failures += 1
            if failures >= template.startup.failure_threshold or self._running().returncode is not None:
                raise PodFailedError(f"{self.name} did not start; its log: {self._log}.")
            await asyncio.sleep(template.startup.period_s)
        await asyncio.gather(
            self._keep_probing(template.readiness, self._set_ready),
            self._keep_probing(template.liveness, self._expect_live),
        )

    async def _keep_probing(self, probe: Probe, tell: Callable[[bool], None]) -> None:
        failures = 0
        while True:
            failures = 0 if await self._answers(probe) else failures + 1
            if not failures or failures == probe.failure_threshold:
                tell(not failures)
            await asyncio.sleep(probe.period_s)

    def _set_ready(self, ready: bool) -> None:
        if ready != self.is_ready:
            self.is_ready = ready
            self._on_change(self)
        if ready:
            self._became_ready.set()

    def _expect_live(self, live: bool) -> None:
        if not live:
            raise PodFailedError(f"{self.name} is not live any more; its log: {self._log}.")

    async def _answers(self, probe: Probe) -> bool:
        try:
            async with asyncio.timeout(probe.timeout_s):
                reader, writer = await asyncio.open_connection(self.address, probe.port)
                writer.write(f"GET {probe.path} HTTP/1.1\r\nHost: {self.address}\r\nConnection: close\r\n\r\n".encode())
                status = await reader.readline()
                writer.close()
        except (OSError, TimeoutError):
            return False
        return status.startswith(b"HTTP/1.1 200 ")
