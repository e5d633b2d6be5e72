"""Images a second, and milliseconds of the processor for each, of the Python client against a running service.

    python -m benchmarks.client_rate http://127.0.0.1:8000 --images 2000 --concurrency 8 32

Both clients take turns, so that what else runs on the machine meets both.
"""

import argparse
import asyncio
import resource
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path

from mixer_client import AsyncClient, Client

FOLDER = Path(__file__).parents[1] / "examples" / "fashion-mnist"


def images(count: int) -> Iterator[bytes]:
    """Drawings of 28 x 28 pixels, over and over."""
    return islice(cycle([path.read_bytes() for path in sorted(FOLDER.glob("*.png"))]), count)


def with_threads(address: str, count: int, concurrency: int) -> int:
    """How many were answered."""
    with Client(address, timeout_s=60) as client:
        return sum(one.error is None for one in client.classify_many(images(count), concurrency=concurrency, top_k=1))


def with_tasks(address: str, count: int, concurrency: int) -> int:
    """How many were answered."""

    async def asking() -> int:
        async with AsyncClient(address, timeout_s=60) as client:
            results = client.classify_many(images(count), concurrency=concurrency, top_k=1)
            return sum([one.error is None async for one in results])

    return asyncio.run(asking())


def measured(work: Callable[[str, int, int], int], address: str, count: int, concurrency: int) -> str:
    """One line of figures."""
    started, used = time.perf_counter(), _processor_s()
    answered = work(address, count, concurrency)
    rate, each_ms = count / (time.perf_counter() - started), (_processor_s() - used) / count * 1000
    return f"{work.__name__} {concurrency:3}: {rate:6.0f} images/s, {each_ms:.2f} ms each, {answered}/{count} answered"


def _processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    for concurrency in given.concurrency:
        for _ in range(given.rounds):
            for work in (with_threads, with_tasks):
                print(measured(work, given.address, given.images, concurrency), flush=True)


if __name__ == "__main__":
    main()
