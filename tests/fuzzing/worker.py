"""The process that is fuzzed, and may die of it.

Called as python -m tests.fuzzing.worker guided|random TARGET FOLDER RUNS SEED, or --reproduce TARGET FILE. Guided by
atheris, inputs
that reach new places in Python code are kept in FOLDER/corpus and changed further; at random, which is several times as
fast, seeds and the corpus are changed as they come.
"""

import gc
import heapq
import random
import resource
import sys
import traceback
import warnings
from hashlib import sha256
from pathlib import Path
from typing import Any

from app.telemetry import logs
from tests.fuzzing.blackbox import BlackBox
from tests.fuzzing.bounds import MOST_LEAKED_BYTES, Bounds, held_bytes
from tests.fuzzing.targets import Cost, Finding, Target, target_named

INSTRUMENTED = {"PIL", "app", "model", "python_multipart"}
GUIDED_S = 60
_COLLECT_EVERY = 20_000
_DEAREST, _FROM_THE_DEAREST = 40, 0.003  # which take a hundred times as long as others
_MOST_OF_A_KIND = 3  # of findings at the same place


class Dearest:
    """The inputs that cost the most so far, of time or of memory: what is like them may cost more still."""

    def __init__(self) -> None:
        self._heaps: tuple[list[tuple[float, bytes]], list[tuple[float, bytes]]] = ([], [])

    def add(self, payload: bytes, cost: Cost) -> None:
        """Keep it if it is one of them."""
        for heap, spent in zip(self._heaps, cost, strict=True):
            if len(heap) < _DEAREST or spent > heap[0][0]:
                heapq.heappush(heap, (spent, payload))
            if len(heap) > _DEAREST:
                heapq.heappop(heap)

    def choice(self, rng: random.Random) -> bytes:
        """One of them."""
        return rng.choice(rng.choice(self._heaps))[1]


class Watched:
    """A target whose every input is noted before and judged after."""

    def __init__(self, target: Target, box: BlackBox, suspects: Path) -> None:
        self._target, self._box, self._suspects = target, box, suspects
        self._bounds = Bounds()
        self._first_held = 0
        self._known: dict[str, int] = {}
        self.dearest = Dearest()
        suspects.mkdir(parents=True, exist_ok=True)
        warnings.showwarning = _raise_warning

    def __call__(self, payload: bytes) -> None:
        self._box.begin(payload)
        try:
            with self._bounds:
                checked = self._target.check(payload)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 -- whatever it is, it is a finding
            self._note(payload, error)
        else:
            cost = Cost(self._bounds.cpu_s, self._bounds.peak_bytes)
            self._box.end(checked, cost)
            self.dearest.add(payload, cost)
        if self._box.begun % _COLLECT_EVERY == 0:
            self._collect()

    def _collect(self) -> None:
        """What is left over belongs to no input in particular."""
        gc.collect()
        held = held_bytes()
        self._first_held = self._first_held or held
        if gc.garbage:
            self._note(b"", Finding(f"{len(gc.garbage)} objects cannot be collected."))
        if held - self._first_held > MOST_LEAKED_BYTES:
            self._note(b"", Finding(f"{(held - self._first_held) / 1e6:.0f} MB more are held than at first."))

    def _note(self, payload: bytes, error: BaseException) -> None:
        place = place_of(error)
        self._known[place] = self._known.get(place, 0) + 1
        if self._known[place] <= _MOST_OF_A_KIND:
            path = self._suspects / sha256(payload).hexdigest()[:16]
            path.write_bytes(payload)
            path.with_suffix(".txt").write_text(place + "\n" + "".join(traceback.format_exception(error))[-4000:])


def place_of(error: BaseException) -> str:
    """What is the same for two findings with one cause: the error's type, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    words = str(error).split(" ")[0:2] if isinstance(error, Finding) else []
    return " ".join([type(error).__name__, where, *(word for word in words if word.isalpha())])


def _raise_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    raise Finding(f"A warning: {message}.")


def at_random(name: str, folder: Path, runs: int, seed: int) -> None:
    target = target_named(name)
    rng = random.Random(seed)
    pool = list(target.seeds().values())
    pool += [path.read_bytes() for path in sorted((folder / "corpus").glob("*"))]
    with BlackBox(folder / "blackbox", target.kinds) as box:
        watched = Watched(target, box, folder / "suspects")
        for payload in pool[:runs]:
            watched(payload)
        for _ in range(runs - len(pool)):
            seed = watched.dearest.choice(rng) if rng.random() < _FROM_THE_DEAREST else rng.choice(pool)
            payload = target.mutated(seed, rng.choice(pool), rng)
            watched(payload)
            if rng.random() < 0.01:
                pool[rng.randrange(len(pool))] = payload  # so that changes pile up


def guided(name: str, folder: Path, runs: int, seed: int) -> None:
    import atheris  # noqa: PLC0415 -- it is installed by scripts/fuzz, and only there

    hooks = atheris.import_hook.HookManager(INSTRUMENTED, set(), enable_loader_override=True, trace_dataflow=False)
    with hooks:
        target = target_named(name)
    watched = Watched(target, BlackBox(folder / "blackbox", target.kinds), folder / "suspects")
    with_coverage(atheris, target, watched, folder, runs, seed)


def with_coverage(atheris: Any, target: Target, watched: Watched, folder: Path, runs: int, seed: int) -> None:
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    pool = list(target.seeds().values())
    for name, payload in target.seeds().items():
        (corpus / sha256(name.encode()).hexdigest()[:16]).write_bytes(payload)

    def mutate(payload: bytes, most_bytes: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.1:
            payload = atheris.Mutate(payload, most_bytes)
        elif rng.random() < 0.5:
            payload = rng.choice(pool)  # what is many changes away from a picture is refused at the door
        return target.mutated(payload, rng.choice(pool), rng)[:most_bytes]

    options = {
        "runs": runs,
        "max_total_time": GUIDED_S,
        "seed": seed,
        "max_len": target.most_bytes,
        "len_control": 0,
        "rss_limit_mb": 0,
        "timeout": 1_000_000,  # whoever started this one knows better what a hang is
        "reload": 0,
        "artifact_prefix": f"{folder}/",
    }
    signals = [f"-handle_{name}=0" for name in ("segv", "abrt", "bus", "fpe", "ill", "int", "term")]
    arguments = ["fuzz", *[f"-{name}={value}" for name, value in options.items()], *signals, str(corpus)]
    atheris.Setup(arguments, watched, custom_mutator=mutate)
    atheris.Fuzz()


def reproduce(name: str, path: Path) -> int:
    """Check one file in an ordinary process, and say what it costs. 1 where it is a finding."""
    target = target_named(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target.check(next(iter(target.seeds().values())))
    warnings.showwarning = _raise_warning
    bounds = Bounds()
    try:
        with bounds:
            checked = target.check(path.read_bytes())
    except BaseException:  # noqa: BLE001 -- whatever it is, it is a finding
        _say(traceback.format_exc())
        return 1
    _say(f"{checked.kind}: {checked.outcome}, {bounds.cpu_s:.3f} s, {bounds.peak_bytes / 1e6:.0f} MB\n")
    return 0


def _say(words: str) -> None:
    sys.stdout.write(words)
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logs.configure("text", "info")  # as in the service: what it writes all the same is a finding
    if arguments[0] == "--reproduce":
        return reproduce(arguments[1], Path(arguments[2]))
    mode, name, folder, runs, seed = arguments
    {"guided": guided, "random": at_random}[mode](name, Path(folder), int(runs), int(seed))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
