"""`mixer embed`: the embedding of every picture, by the second output of the model's graph."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from app import settings
from cli.bulk.command import Job, run_job
from cli.bulk.formats import Row, as_json
from cli.bulk.labeler import Task
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
from cli.bulk.sources import Sources


def embed(
    sources: SourcesArgument,
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder or .onnx file. Default: MIXER_BUNDLE.")] = None,
    output: OutputOption = None,
    resume: ResumeOption = False,
    max_failure_rate: RateOption = None,
    url: UrlOption = None,
    key: KeyOption = "",
    concurrency: ConcurrencyOption = CONCURRENCY,
    shard_size: ShardOption = SHARD_SIZE,
) -> None:
    """Embed pictures: a vector for each, as JSON lines or into a file. Exit code 1 where any could not be."""
    chosen = settings.load()
    if bundle is not None:
        chosen = chosen.model_copy(update={"bundle": bundle})
    options = BulkOptions(output, resume, max_failure_rate, url, key, concurrency, shard_size)
    task = Task(embeds=True, asked={})
    job = Job("embed", "embedding", Sources(sources, chosen.max_image_bytes), task, chosen, options, _print)
    raise typer.Exit(run_job(job))


def _print(model: Mapping[str, str], row: Row) -> None:
    del model  # the same for all, and a vector says nothing of it
    typer.echo(as_json(row))
