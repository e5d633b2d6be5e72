"""The batcher under any sequence of arrivals, cancellations, deadlines, failures and a shutdown. Time is virtual."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.errors import DeadlinePassed, NotReady, QueueFull
from app.inference.admission import Limits
from app.inference.batcher import Batcher
from app.inference.permits import BackgroundPermits, Permit
from app.inference.waiters import Answered
from tests.app.fakes import Poison, RecordingObserver
from tests.app.virtual_time import VirtualTimeLoop, clock_at, now

pytestmark = pytest.mark.heavy

_TURNS = 12  # of the event loop, after which nothing happens by itself any more
_SECONDS = st.sampled_from([0.0, 0.5, 0.5, 1.0, 2.5])


@dataclass(eq=False)
class Client:
    """Somebody who holds a place, and what is known of the item."""

    number: int
    deadline: float
    poisoned: bool
    task: "asyncio.Task[Answered[int]]" = field(init=False)
    decoded: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int | None = None  # the how-manieth item it was
    left: bool = False
    runs: int = 0


@dataclass(eq=False)
class Row:
    """An item in the background."""

    number: int
    poisoned: bool
    runs: int = 0


@dataclass(eq=False)
class Background:
    """Items that are run behind everybody, as one task."""

    rows: list[Row]
    deadline: float
    held: int
    task: "asyncio.Task[list[Answered[int]]]" = field(init=False)
    left: bool = False


Asked = Client | Row


class Instances:
    """A run that ends when it is told to, and fails where an item is poisoned."""

    def __init__(self, expect_wanted: Callable[[list[Asked]], None]) -> None:
        self.running: list[tuple[list[Asked], asyncio.Future[None]]] = []
        self._expect_wanted = expect_wanted

    async def __call__(self, batch: list[Asked]) -> list[int]:
        self._expect_wanted(batch)
        run = batch, asyncio.get_running_loop().create_future()
        self.running.append(run)
        try:
            await run[1]
        finally:
            self.running.remove(run)
        if any(client.poisoned for client in batch):
            raise Poison
        return [client.number * 10 for client in batch]


class Machine(RuleBasedStateMachine):
    """Every rule is something that happens to a batcher; every invariant holds whatever has happened."""

    @initialize(
        instances=st.integers(1, 3),
        max_batch_size=st.sampled_from([1, 2, 3, 4, 4]),
        max_wait_s=st.sampled_from([0.0, 0.0, 1.0]),
        queue_capacity=st.sampled_from([1, 4, 8, 24]),
    )
    def open(self, **limits: Any) -> None:
        self.limits = Limits(**limits)
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.observer = RecordingObserver()
        self.clients: list[Client] = []
        self.background: list[Background] = []
        self.asked = 0
        self.ran: list[Client] = []
        self.broken: list[str] = []
        self.closing: asyncio.Task[None] | None = None
        self.instances = Instances(self._expect_wanted)
        self.batcher: Batcher[Asked, int] = Batcher(self.instances, self.limits, self.observer)

    # --- what happens ---

    @rule(poisoned=st.booleans(), timeout_s=st.sampled_from([1.0, 3.0, 1000.0]), decoding=st.booleans())
    def arrive(self, *, poisoned: bool, timeout_s: float, decoding: bool) -> None:
        self._do(lambda: self._admit(1, 0 if poisoned else -1, timeout_s, decoding, math.inf))

    @rule(count=st.integers(1, 4), culprit=st.integers(0, 6), timeout_s=st.sampled_from([0.5, 1000.0, 1000.0]))
    def arrive_together(self, *, count: int, culprit: int, timeout_s: float) -> None:
        self._do(lambda: self._admit(count, culprit, timeout_s, False, now() + timeout_s))

    @rule(count=st.integers(1, 6), culprit=st.integers(0, 12), timeout_s=st.sampled_from([1.0, 1000.0, 1000.0]))
    def arrive_in_background(self, *, count: int, culprit: int, timeout_s: float) -> None:
        self._do(lambda: self._admit_in_background(count, culprit, now() + timeout_s))

    @precondition(lambda self: self._in_background())
    @rule(which=st.integers(0, 100))
    def leave_the_background(self, which: int) -> None:
        background = self._in_background()[which % len(self._in_background())]

        def leave() -> None:
            background.left = True
            background.task.cancel()

        self._do(leave)

    @precondition(lambda self: any(not client.decoded.is_set() for client in self._inside()))
    @rule(which=st.integers(0, 100))
    def decoded(self, which: int) -> None:
        undecoded = [client for client in self._inside() if not client.decoded.is_set()]
        self._do(undecoded[which % len(undecoded)].decoded.set)

    @precondition(lambda self: self._inside())
    @rule(which=st.integers(0, 100))
    def hang_up(self, which: int) -> None:
        client = self._inside()[which % len(self._inside())]

        def leave() -> None:
            client.left = True
            client.task.cancel()

        self._do(leave)

    @precondition(lambda self: self.instances.running)
    @rule(which=st.integers(0, 100))
    def finish(self, which: int) -> None:
        done = self.instances.running[which % len(self.instances.running)][1]
        self._do(lambda: done.set_result(None))

    @rule(seconds=_SECONDS)
    def wait(self, seconds: float) -> None:
        self.runner.run(self._clock_at(self.now() + seconds))

    @precondition(lambda self: self.closing is None and self.asked > 3)
    @rule(drain_timeout_s=_SECONDS)
    def close(self, drain_timeout_s: float) -> None:
        def begin() -> None:
            self.closing = asyncio.create_task(self.batcher.close(drain_timeout_s))

        self._do(begin)

    # --- what holds ---

    @invariant()
    def no_run_was_wrong(self) -> None:
        assert self.broken == []

    @invariant()
    def places_are_those_inside(self) -> None:
        held = sum(background.held for background in self._in_background())
        assert self.observer.in_flight == len(self._inside()) + held <= self.limits.queue_capacity

    @invariant()
    def who_waits_is_known(self) -> None:
        waiting = [client for client in self._inside() if client.asked and not client.runs]
        rows = [row for background in self._in_background() for row in background.rows if not row.runs]
        assert self.observer.waiting <= len(waiting) + len(rows)  # who cannot be answered in time waits for no instance

    @invariant()
    def nobody_waits_beyond_the_deadline(self) -> None:
        assert all(client.deadline > self.now() for client in self._inside() if client.asked)

    @invariant()
    def instances_and_batches_keep_their_limits(self) -> None:
        assert len(self.instances.running) <= self.limits.instances
        assert all(1 <= len(batch) <= self.limits.max_batch_size for batch, _ in self.instances.running)

    @invariant()
    def no_instance_is_idle_while_somebody_waits(self) -> None:
        waits = len(self.batcher._waiting)
        due = self.limits.max_wait_s == 0 or waits >= self.limits.max_batch_size
        assert not (waits and due) or len(self.instances.running) == self.limits.instances or self._is_closed()

    @invariant()
    def first_come_first_served(self) -> None:
        order = [client.asked for client in self.ran]
        assert order == sorted(order)
        for batch, _ in self.instances.running:
            asked = [one.asked for one in batch if isinstance(one, Client)]
            assert asked == sorted(asked)  # type: ignore[type-var]
            assert len(asked) in (0, len(batch))  # and nobody shares a run with the background
            assert asked or len(batch) <= self.batcher.background_batch_size

    @invariant()
    def everybody_who_is_gone_got_what_fits(self) -> None:
        for client in self.clients:
            if client.task.done():
                self._expect_outcome(client)
        for background in self.background:
            if background.task.done():
                self._expect_outcome_of(background)

    def teardown(self) -> None:
        """Whatever has happened before, an end is an end for everybody."""
        if not hasattr(self, "runner"):
            return
        for client in self._inside():
            self._do(client.decoded.set)
        if self.closing is None:
            self.close(2.0)
        self.runner.run(self._clock_at(self.now() + 10.0))
        assert self.closing is not None
        assert self.closing.done()
        assert self._inside() == self._in_background() == []
        assert self.instances.running == []
        assert (self.observer.waiting, self.observer.in_flight) == (0, 0)
        self.everybody_who_is_gone_got_what_fits()
        self.no_run_was_wrong()
        loop = self.runner.get_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self.runner.close()
        assert loop.complaints == []

    # --- how ---

    def now(self) -> float:
        return self.runner.get_loop().time()

    def _inside(self) -> list[Client]:
        return [client for client in self.clients if not client.task.done()]

    def _in_background(self) -> list[Background]:
        return [background for background in self.background if not background.task.done()]

    def _is_closed(self) -> bool:
        return self.closing is not None and self.closing.done()

    def _do(self, action: Callable[[], object]) -> None:
        async def act() -> None:
            action()
            await _settled()

        self.runner.run(act())

    async def _clock_at(self, when: float) -> None:
        await clock_at(when)
        await _settled()

    def _admit(self, count: int, culprit: int, timeout_s: float, decoding: bool, deadline: float) -> None:
        room = self._room()
        try:
            permits = self.batcher.admit_all(count, deadline)
        except QueueFull:
            assert count > room or deadline < math.inf
            return
        except NotReady:
            assert self.closing is not None
            return
        assert count <= room
        assert self.closing is None
        for index, permit in enumerate(permits):
            client = Client(len(self.clients) + 1, now() + timeout_s, poisoned=index == culprit)
            client.task = asyncio.create_task(self._live(client, permit))
            self.clients.append(client)
            if not decoding:
                client.decoded.set()

    def _room(self) -> int:
        return self.limits.queue_capacity - len(self._inside()) - sum(one.held for one in self._in_background())

    def _admit_in_background(self, count: int, culprit: int, deadline: float) -> None:
        room = self._room()
        try:
            permits = self.batcher.admit_in_background(count, deadline)
        except QueueFull:
            held = max(1, min(count, self.limits.queue_capacity // 8))
            in_background = sum(one.held for one in self._in_background())
            assert held > min(room, max(1, self.limits.queue_capacity // 2) - in_background) or deadline < math.inf
            return
        except NotReady:
            assert self.closing is not None
            return
        assert permits.held <= room
        rows = [Row(100 * len(self.background) + index, index == culprit) for index in range(count)]
        background = Background(rows, deadline, permits.held)
        background.task = asyncio.create_task(self._run_behind(background, permits))
        self.background.append(background)

    async def _run_behind(self, background: Background, permits: BackgroundPermits[Asked, int]) -> list[Answered[int]]:
        with permits:
            return await asyncio.gather(*permits.answers(background.rows, background.deadline))

    async def _live(self, client: Client, permit: Permit[Asked, int]) -> Answered[int]:
        with permit:
            await client.decoded.wait()
            self.asked += 1
            client.asked = self.asked
            return await permit.answer(client, client.deadline)

    def _expect_wanted(self, batch: list[Asked]) -> None:
        for row in batch:
            row.runs += isinstance(row, Row)
        for client in (one for one in batch if isinstance(one, Client)):
            if client.left or client.task.done():
                self.broken.append(f"{client.number} runs, and nobody waits for it.")
            if client.deadline <= now():
                self.broken.append(f"{client.number} runs at {now()}, after its deadline, {client.deadline}.")
            if not client.runs:
                self.ran.append(client)
            client.runs += 1

    def _expect_outcome_of(self, background: Background) -> None:
        if background.task.cancelled():
            assert background.left
            return
        error = background.task.exception()
        if error is None:
            answers = [answered.answer for answered in background.task.result()]
            assert answers == [row.number * 10 for row in background.rows]
        elif isinstance(error, Poison):
            assert any(row.poisoned and row.runs for row in background.rows)
        elif isinstance(error, DeadlinePassed):
            assert background.deadline <= self.now()
        else:
            assert isinstance(error, NotReady)
            assert self.closing is not None

    def _expect_outcome(self, client: Client) -> None:
        if client.task.cancelled():
            assert client.left
            return
        error = client.task.exception()
        if error is None:
            answered = client.task.result()
            assert answered.answer == client.number * 10
            assert 1 <= answered.batch_size <= self.limits.max_batch_size
            assert not client.poisoned
        elif isinstance(error, Poison):
            assert client.poisoned
            assert client.runs
        elif isinstance(error, DeadlinePassed):
            assert client.deadline <= self.now()
        else:
            assert isinstance(error, NotReady)
            assert self.closing is not None


async def _settled() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)
