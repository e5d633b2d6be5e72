"""New bundles in place of old ones while the service goes on. Knows nothing of how bundles are opened.

A reload is asked for by a count in the shared memory, which every worker reads: all follow, whichever was asked. A
bundle is opened beside the one that serves, and takes over once it is warm and its canary has got its answer.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, Field

from app.errors import DeadlinePassed, QueueFull, ServiceError, StartError
from app.serving.bundles import State, find_bundles, log_passed_over, state_of
from app.serving.canary import HealthFailure, failure_of
from app.serving.changes import NOTHING, changes, in_words, nothing_has_changed
from app.serving.health import Health
from app.serving.loading import ModelFactory, expect_default
from app.serving.registry import Model, Models
from app.system.threads import Threads
from app.system.worker_context import WorkerContext
from app.telemetry.metrics import Metrics

_LOOK_S = 0.1  # between looks at the shared memory
_LOOK_AGAIN_S = 0.05  # while somebody waits for all workers, or a canary for a place
_PATIENCE_S = 600.0

log = logging.getLogger("mixer.reload")


class ReloadRefused(ServiceError):
    """A bundle cannot take over; what was served before goes on."""

    status, code, title = 409, "reload_refused", "Reload refused"


class Outcome(BaseModel):
    """What became of one bundle, or of what else is read anew, if it was refused."""

    name: str
    outcome: Literal["unchanged", "swapped", "added", "removed", "refused"]
    reason: str | None = Field(default=None, description="Why it was refused.")
    changes: list[str] = Field(
        default_factory=list,
        description="Of a swapped one what is another than before: labels added, removed or at another index, ...",
    )


class ReloadBody(BaseModel):
    """What became of every bundle, in each of so many processes."""

    workers: int
    models: list[Outcome]


class Source(NamedTuple):
    """Models, and where they come from. `default`: the bundle that must be there, if any; `title`: before its name.

    `model_name`: what the only bundle is called instead of its folder's name.
    """

    folder: Path
    models: Models
    model_factory: ModelFactory
    default: str = ""
    title: str = ""
    model_name: str = ""


class _Refused(Exception):
    """Why a bundle does not take over."""


class Reload:
    """Reloads when asked, one at a time. `default`: the bundle that must be there, if any.

    `model_name`: what the only bundle is called instead of its folder's name. `timeout_s`: how long a canary may take,
    and wait for its place before. `reload_hooks`: what else is read anew, by name; raises StartError where it cannot
    be, and goes on as it was. `beside`: other models, that are no part of those that are served.
    """

    def __init__(
        self,
        folder: Path,
        models: Models,
        model_factory: ModelFactory,
        health: Health,
        worker: WorkerContext,
        metrics: Metrics,
        *,
        model_name: str = "",
        default: str,
        timeout_s: float,
        reload_hooks: Mapping[str, Callable[[], None]],
        beside: Sequence[Source] = (),
    ) -> None:
        self._reload_hooks, self._beside = reload_hooks, beside
        self._folder, self._model_name, self._default = folder, model_name, default
        self._models, self._model_factory, self._health = models, model_factory, health
        self._worker, self._metrics = worker, metrics
        self._timeout_s = timeout_s
        self._followed = worker.reloads_asked()  # what is opened after this needs no other reload
        worker.reloaded(self._followed, 0)
        self._outcomes: list[Outcome] = []
        self._asked = asyncio.Event()
        self._opener = Threads(1, "reload")

    def ask(self) -> None:
        """Have this process and all others reload soon."""
        self._worker.ask_for_reload()
        self._asked.set()

    async def now(self) -> ReloadBody:
        """Reload, and wait until every worker has. Raises ReloadRefused, DeadlinePassed."""
        self.ask()
        asked = self._worker.reloads_asked()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while self._followed < asked or self._others_behind(asked):  # noqa: ASYNC110 -- no event crosses processes
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError:
            raise DeadlinePassed(f"The reload takes more than {_PATIENCE_S:.0f} s; it goes on.") from None
        others = self._worker.reloads_of_others()
        _expect_no_refusal(self._outcomes, {number: refused for number, (_, refused) in others.items()})
        return ReloadBody(workers=1 + len(others), models=self._outcomes)

    async def watch(self) -> None:
        """Follow for ever."""
        while True:
            asked = self._worker.reloads_asked()
            if asked > self._followed:
                await self._follow(asked)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._asked.wait()
            self._asked.clear()

    def close(self) -> None:
        """Let the thread end."""
        self._opener.stop()

    def _others_behind(self, asked: int) -> bool:
        return any(followed < asked for followed, _ in self._worker.reloads_of_others().values())

    async def _follow(self, asked: int) -> None:
        self._outcomes = await self._reload_safely()
        for one in self._outcomes:
            self._metrics.reloads.labels(one.outcome).inc()
            level = logging.ERROR if one.outcome == "refused" else logging.INFO
            log.log(level, "reload: %s", in_words(one.name, one.outcome, one.reason, one.changes))
        if nothing_has_changed(one.outcome for one in self._outcomes):
            log.info("reload: %s", NOTHING)
        self._health.review()
        self._followed = asked
        self._worker.reloaded(asked, sum(one.outcome == "refused" for one in self._outcomes))

    async def _reload_safely(self) -> list[Outcome]:
        try:
            served = Source(self._folder, self._models, self._model_factory, self._default, model_name=self._model_name)
            outcomes = [outcome for source in (served, *self._beside) for outcome in await self._reload(source)]
            return [*outcomes, *await self._run_reload_hooks()]
        except Exception:
            log.exception("the reload failed")
            reason = "The reload itself failed; the service's log says why."
            return [Outcome(name=self._folder.name, outcome="refused", reason=reason)]

    async def _run_reload_hooks(self) -> list[Outcome]:
        refused = []
        for name, read in self._reload_hooks.items():
            try:
                await self._opener.call(read)
            except StartError as error:
                refused.append(Outcome(name=name, outcome="refused", reason=str(error)))
        return refused

    async def _reload(self, source: Source) -> list[Outcome]:
        folder, models = source.folder, source.models
        try:
            found = await self._opener.call(find_bundles, folder, source.model_name)
            expect_default(source.default, found)
            if self._worker.number == 0:  # once, and not by each worker
                await self._opener.call(log_passed_over, folder)
        except (StartError, OSError) as error:
            return [Outcome(name=source.title + folder.name, outcome="refused", reason=str(error))]
        outcomes = [await self._renewed(source, name, bundle) for name, bundle in found.items()]
        outcomes += [_removed(models, model.name, found) for model in models if model.name not in found]
        return [one.model_copy(update={"name": source.title + one.name}) for one in outcomes]

    async def _renewed(self, source: Source, name: str, bundle: Path) -> Outcome:
        running = source.models.get(name)
        try:
            if running is not None and running.failure is None and await self._state(bundle) == running.state:
                running.card = await self._opener.call(source.model_factory.read_card, bundle)
                return Outcome(name=name, outcome="unchanged")
            model = await self._proved(source, name, bundle)
        except (_Refused, StartError, OSError) as error:
            return Outcome(name=name, outcome="refused", reason=str(error))
        except Exception:
            log.exception("the bundle %s cannot be opened", bundle)
            return Outcome(name=name, outcome="refused", reason="It cannot be opened; the service's log says why.")
        source.models.take(model)
        if running is None:
            return Outcome(name=name, outcome="added")
        return Outcome(
            name=name, outcome="swapped", changes=changes(running.classifier.engine, model.classifier.engine)
        )

    async def _state(self, bundle: Path) -> State:
        return await self._opener.call(state_of, bundle)

    async def _proved(self, source: Source, name: str, bundle: Path) -> Model:
        running, opened = source.models.get(name), await self._opener.call(source.model_factory.open, bundle)
        engine = opened.engine
        if running is not None and engine.fallback is not None and running.classifier.engine.fallback is None:
            raise _Refused(f"It would run on the {engine.provider} now: {engine.fallback}")
        model = source.model_factory.build(name, opened)
        model.failure = await self._failure(model)
        if model.failure is not None:
            raise _Refused(model.failure.words)
        return model

    async def _failure(self, model: Model) -> HealthFailure | None:
        """What its canary finds. While the queue is full, it waits for a place. Raises: _Refused where none comes."""
        until = time.monotonic() + self._timeout_s
        while True:
            try:
                return await failure_of(model.classifier, timeout_s=self._timeout_s, lost_provider=model.lost_provider)
            except QueueFull as error:
                if time.monotonic() >= until:
                    raise _Refused(f"The canary picture got no place in {self._timeout_s:g} s: {error}") from None
            await asyncio.sleep(_LOOK_AGAIN_S)


def _removed(models: Models, name: str, found: Mapping[str, Path]) -> Outcome:
    if not any(model.name in found for model in models):
        return Outcome(name=name, outcome="refused", reason="Its bundle is gone, and no other can take its place.")
    models.remove(name)
    return Outcome(name=name, outcome="removed")


def _expect_no_refusal(outcomes: list[Outcome], refused_by_others: Mapping[int, int]) -> None:
    reasons = [f"{one.name} was refused: {one.reason}" for one in outcomes if one.outcome == "refused"]
    others = [str(number) for number, refused in refused_by_others.items() if refused]
    if others:
        reasons.append(f"Worker {', '.join(others)} refused a bundle; the service's log says why.")
    if reasons:
        raise ReloadRefused(" ".join(reasons))
