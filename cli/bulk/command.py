"""What `mixer classify` and `mixer embed` do with many pictures: everything put together, and the exit code."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.settings import Settings
from cli.bulk.formats import Row
from cli.bulk.labeler import Labeler, Task
from cli.bulk.manifest import Run
from cli.bulk.options import BulkOptions
from cli.bulk.output import Output, Place, opened, place_of
from cli.bulk.progress import progress
from cli.bulk.run import PrintSink, ShardSink, Sink, Tally, exceeds, run
from cli.bulk.sources import Sources
from cli.bulk.stores import require
from cli.terminal import console

Echo = Callable[[Mapping[str, str], Row], None]


@dataclass(frozen=True)
class Job:
    """One command over many pictures. `echo`: prints a row, where there is no output."""

    command: str
    what: str
    sources: Sources
    task: Task
    settings: Settings
    options: BulkOptions
    echo: Echo


def run_job(job: Job) -> int:
    """Do it. Returns the exit code. Raises StartError, MixerError."""
    return asyncio.run(_run(job))


async def _run(job: Job) -> int:
    place = None if job.options.output is None else place_of(job.options.output)
    if place is not None and place.whole is None:
        require("pyarrow", f"Writing {place.path}")
    async with _labeler(job) as labeler:
        if place is None:
            tally = Tally()
            await _consume(job, labeler, PrintSink(lambda row: job.echo(labeler.model, row)), tally, None)
            return _exit_code(job, tally)
        return await _write(job, labeler, place)


async def _write(job: Job, labeler: Labeler, place: Place) -> int:
    asked = {name: value for name, value in job.task.asked.items() if value is not None}
    begun = Run(job.command, job.sources.names, labeler.model, asked)
    output = opened(place, begun, resume=job.options.resume)
    try:
        tally = Tally(output.manifest.count, output.manifest.failures)
        was_complete = output.manifest.is_complete
        if was_complete:
            await asyncio.to_thread(output.expect_all, job.sources.entries())
        else:
            await _consume(job, labeler, ShardSink(output, job.options.shard_size), tally, output)
        if tally.stopped_by is None and not tally.too_many:
            await asyncio.to_thread(output.finish)
        _tell(job, tally, place, was_complete=was_complete)
        return _exit_code(job, tally)
    finally:
        output.close()


async def _consume(job: Job, labeler: Labeler, sink: Sink, tally: Tally, output: Output | None) -> None:
    entries = job.sources.entries()
    rest = entries if output is None else output.rest(entries)
    with progress(job.what, tally.count, job.sources.count) as shown:
        await run(rest, labeler, sink, tally, max_failure_rate=job.options.max_failure_rate, progress=shown)


@asynccontextmanager
async def _labeler(job: Job) -> AsyncIterator[Labeler]:
    options, most = job.options, job.settings.max_image_bytes
    if options.url is not None:
        require("httpx", f"Asking {options.url}")
        from cli.bulk.service_labeler import service  # noqa: PLC0415

        async with service(options.url, options.key, job.task, concurrency=options.concurrency, most=most) as asks:
            yield asks
        return
    from app.server.topology import planned  # noqa: PLC0415
    from cli.bulk.local_labeler import LocalLabeler  # noqa: PLC0415
    from cli.bulk.processes import answering  # noqa: PLC0415

    with answering(planned(job.settings), job.task) as found:
        yield LocalLabeler(found)


def _tell(job: Job, tally: Tally, place: Place, *, was_complete: bool) -> None:
    failed = f", {tally.failures:,} of them with an error (their rows say why)" if tally.failures else ""
    done = f"{place.path} has {tally.count:,} {'picture' if tally.count == 1 else 'pictures'}{failed}"
    if was_complete:
        console.print(f"{done}; it is complete, and nothing is left to do.")
    elif tally.stopped_by is not None:
        console.print(f"mixer: stopped; {done}. Go on with the same command and --resume.")
    elif exceeds(tally, job.options.max_failure_rate):
        rate = job.options.max_failure_rate or 0.0
        ending = "Go on with a higher rate and --resume." if tally.too_many else ""
        console.print(
            f"mixer: {tally.failures:,} of {tally.count:,} pictures failed, more than --max-failure-rate {rate:g}; "
            f"{done}. {ending}".rstrip()
        )
    else:
        console.print(f"{done}.")


def _exit_code(job: Job, tally: Tally) -> int:
    if tally.stopped_by is not None:
        return 128 + tally.stopped_by
    rate = job.options.max_failure_rate
    failed = bool(tally.failures) if rate is None else tally.too_many or exceeds(tally, rate)
    return int(failed)
