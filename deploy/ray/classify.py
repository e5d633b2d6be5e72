"""`mixer classify` or `mixer embed` over a Ray cluster: the same sources, rows and errors, into a folder of Parquet.

Ray Data hands shards to actors that have the model, each of which reads, decodes, runs and writes its shards itself:
pictures never go through Ray's object store. Stopped or killed at any moment, the same command with --resume goes on
without a row twice or missing. `python deploy/ray/classify.py s3://bucket/pictures --output s3://bucket/labels`
"""

import pickle
import sys
from collections.abc import Iterable
from typing import Annotated, Any

import pyarrow as pa
import ray
import typer

from app.errors import StartError
from app.settings import load
from cli.bulk.manifest import Run
from cli.bulk.parts import Parts
from cli.bulk.run import ENOUGH, Tally, exceeds
from cli.bulk.shard_writer import ShardWriter
from cli.bulk.shards import Shard, shards_of
from cli.bulk.sources import Sources
from model.errors import MixerError


class Writer:
    """An actor of Ray Data: a column of shards in, what became of each out."""

    def __init__(self, output: str, sources: tuple[str, ...], wanted: dict[str, Any], begun: Run | None) -> None:
        self._writer = ShardWriter(output, sources, wanted, begun)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One row for each shard."""
        parts = [self._writer.write(pickle.loads(shard)) for shard in batch["shard"].to_pylist()]  # noqa: S301 -- the job's own
        return pa.table({"count": [part.count for part in parts], "failures": [part.failures for part in parts]})


def classify(
    sources: Annotated[list[str], typer.Argument(help="As those of `mixer classify`, but for -.")],
    output: Annotated[str, typer.Option(help="Folder or URL for part-*.parquet, which every node can write to.")],
    bundle: Annotated[
        str | None, typer.Option(help="Bundle, at this path on every node. Default: MIXER_BUNDLE.")
    ] = None,
    embeddings: Annotated[bool, typer.Option("--embeddings", help="Embeddings in place of labels.")] = False,
    top_k: Annotated[int | None, typer.Option(help="How many labels for each picture. Default: 5.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Energy below which an answer is uncertain.")] = None,
    coverage: Annotated[float | None, typer.Option("--set", help="Add a set of labels that covers so much.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an output that was stopped.")] = False,
    max_failure_rate: Annotated[float | None, typer.Option(min=0, max=1, help="Above it the job stops.")] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Pictures of one file, done again after a kill.")] = 1000,
    actors: Annotated[int, typer.Option(min=0, help="How many have the model. 0: as fill the cluster.")] = 0,
    cpus: Annotated[int, typer.Option(min=1, help="Processors of each.")] = 1,
) -> None:
    """Classify pictures on all machines of a Ray cluster. Exit code 1 where any, or too many, could not be."""
    wanted = {
        "bundle": bundle, "cpus": cpus, "embeddings": embeddings,
        "top_k": top_k, "threshold": threshold, "coverage": coverage,
    }  # fmt: skip
    ray.init(ignore_reinit_error=True, include_dashboard=False)
    tally = Tally()
    try:
        parts = Parts(output)
        shards = shards_of(Sources(sources, load().max_image_bytes), shard_size)
        waiting = [ray.put(_table(shard)) for shard in parts.rest(shards, tally, resume=resume)]
        if waiting:
            writers = actors or max(1, int(ray.cluster_resources()["CPU"]) // cpus)
            written = ray.data.from_arrow_refs(waiting).map_batches(
                Writer,
                fn_constructor_args=(output, tuple(sources), wanted, parts.begun),
                batch_size=1, batch_format="pyarrow", num_cpus=cpus, compute=ray.data.ActorPoolStrategy(size=writers),
            )  # fmt: skip
            _add(written.iter_rows(), tally, max_failure_rate)
        if not tally.too_many:
            parts.finish()
    except (MixerError, StartError) as error:
        sys.exit(f"classify: {error}")
    typer.echo(f"{output} has {tally.count:,} pictures, {tally.failures:,} of them with an error.", err=True)
    sys.exit(int(bool(tally.failures) if max_failure_rate is None else exceeds(tally, max_failure_rate)))


def _table(shard: Shard) -> pa.Table:
    return pa.table({"shard": [pickle.dumps(shard)]})


def _add(written: Iterable[dict[str, Any]], tally: Tally, max_failure_rate: float | None) -> None:
    """Count what is written, until it ends, or too many pictures failed."""
    for part in written:
        tally.count += part["count"]
        tally.failures += part["failures"]
        if tally.count >= ENOUGH and exceeds(tally, max_failure_rate):
            tally.too_many = True
            return


if __name__ == "__main__":
    typer.run(classify)
