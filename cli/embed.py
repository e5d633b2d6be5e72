"""`mixer embed`: the embedding of every picture, by the second output of the model's graph."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from cli.bulk.options import (
    CONCURRENCY,
    SHARD_SIZE,
    BulkOptions,
    ConcurrencyOption,
    KeyOption,
    OutputOption,
    RateOption,
    ResumeOption,
    ShardOption,
    SourcesArgument,
    UrlOption,
)
from cli.pulling.child import BundleOption, settings_with

if TYPE_CHECKING:
    from cli.bulk.formats import Row


def embed(
    sources: SourcesArgument,
    bundle: BundleOption = None,
    output: OutputOption = None,
    resume: ResumeOption = False,
    max_failure_rate: RateOption = None,
    url: UrlOption = None,
    key: KeyOption = "",
    concurrency: ConcurrencyOption = CONCURRENCY,
    shard_size: ShardOption = SHARD_SIZE,
) -> None:
    """Embed pictures: a vector for each, as JSON lines or into a file. Exit code 1 where any could not be."""
    from cli.bulk.command import Job, run_job  # noqa: PLC0415
    from cli.bulk.labeler import Task  # noqa: PLC0415
    from cli.bulk.sources import Sources  # noqa: PLC0415
    from model.data.pillow_warnings import silenced  # noqa: PLC0415

    chosen = settings_with(bundle)
    options = BulkOptions(output, resume, max_failure_rate, url, key, concurrency, shard_size)
    task = Task(embeds=True, asked={})
    job = Job("embed", "embedding", Sources(sources, chosen.max_image_bytes), task, chosen, options, _print)
    with silenced():
        raise typer.Exit(run_job(job))


def _print(model: Mapping[str, str], row: "Row") -> None:
    from cli.bulk.formats import as_json  # noqa: PLC0415

    del model  # the same for all, and a vector says nothing of it
    typer.echo(as_json(row))
