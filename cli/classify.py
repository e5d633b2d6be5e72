"""`mixer classify`: pictures without a server, by the server's own code. Each has its line; none stops the others."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.progress import Progress

from app.errors import BadParameter, BadSettings, ServiceError, TooManyBytes
from app.settings import Settings
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
from cli.bulk.outcomes import UNREADABLE, Failure, Labelled
from cli.pulling.child import BundleOption, settings_with
from cli.terminal import console

if TYPE_CHECKING:
    from app.inference.answer import Asked, Certainty, Prediction
    from cli.bulk.formats import Row

STANDARD_INPUT = Path("-")


class Entry(NamedTuple):
    """A path to classify, or its failure where that is known before it is read."""

    path: Path
    failure: Failure | None = None


class Labels(NamedTuple):
    """Which model answered, its predictions as the service gives them, most probable first, and how sure they are."""

    model: Mapping[str, str]
    predictions: "list[Prediction]"
    certainty: "Certainty"


def classify(
    sources: SourcesArgument,
    bundle: BundleOption = None,
    top_k: Annotated[
        int | None, typer.Option(help="How many labels for each picture. Default: 1; with --json or --output 5.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Energy below which an answer is uncertain. Default: the model's, if any.")
    ] = None,
    coverage: Annotated[
        float | None, typer.Option("--set", help="Add a set of labels that has the true one with this probability.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line: path, and what the service answers, or error.")
    ] = False,
    output: OutputOption = None,
    resume: ResumeOption = False,
    max_failure_rate: RateOption = None,
    url: UrlOption = None,
    key: KeyOption = "",
    concurrency: ConcurrencyOption = CONCURRENCY,
    shard_size: ShardOption = SHARD_SIZE,
) -> None:
    """Classify pictures, here by the server's own code or with --url. Exit code 1 where any could not be."""
    from model.data.pillow_warnings import silenced  # noqa: PLC0415

    chosen = settings_with(bundle)
    options = BulkOptions(output, resume, max_failure_rate, url, key, concurrency, shard_size)
    few = 1 if top_k is None and not as_json and output is None else top_k
    asked: Asked = {"top_k": few, "threshold": threshold, "set": coverage}
    try:
        with silenced():
            if _is_plain(sources, options):
                entries = list(entries_of(map(Path, sources)))
                failures = asyncio.run(classify_all(chosen, entries, asked, as_json=as_json))
                raise typer.Exit(1 if failures else 0)
            raise typer.Exit(_run_in_bulk(chosen, sources, asked, options, as_json=as_json))
    except BadParameter as error:
        raise BadSettings(str(error)) from error


def _is_plain(sources: Iterable[str], options: BulkOptions) -> bool:
    """Whether it is what this module does by itself."""
    from cli.bulk.sources import is_plain  # noqa: PLC0415

    is_printed_here = options.output is None and options.url is None and options.max_failure_rate is None
    return is_printed_here and all(map(is_plain, sources))


def _run_in_bulk(
    chosen: Settings, sources: Iterable[str], asked: "Asked", options: BulkOptions, *, as_json: bool
) -> int:
    from cli.bulk.command import Job, run_job  # noqa: PLC0415
    from cli.bulk.labeler import Task  # noqa: PLC0415
    from cli.bulk.sources import Sources  # noqa: PLC0415

    found = Sources(sources, chosen.max_image_bytes)
    echo = partial(_print_row, as_json=as_json)
    return run_job(Job("classify", "classifying", found, Task(False, asked), chosen, options, echo))


def _print_row(model: Mapping[str, str], row: "Row", *, as_json: bool) -> None:
    from cli.bulk import formats  # noqa: PLC0415

    name, outcome = row
    if as_json:
        typer.echo(formats.as_json(row, {part: model[part] for part in ("name", "version", "precision")}))
    elif isinstance(outcome, Labelled):
        certainty: Certainty = {"uncertain": bool(outcome.uncertain)}
        if outcome.label_set is not None:
            certainty["set"] = {"coverage": outcome.label_set.coverage, "labels": list(outcome.label_set.labels)}
        typer.echo(f"{name}: {_labels_in_words(outcome.predictions)}{_in_words(certainty)}")
    elif isinstance(outcome, Failure):
        console.print(f"{name}: {outcome.detail}")


def entries_of(paths: Iterable[Path]) -> Iterator[Entry]:
    """One for each path; for a folder, one for each picture below it and for each file that should be one."""
    for path in paths:
        if path == STANDARD_INPUT:
            yield Entry(path)
        elif os.path.isdir(path):  # noqa: PTH112 -- no error for a name that is too long
            yield from _below(path)
        elif os.path.exists(path):  # noqa: PTH110
            yield Entry(path)
        else:
            yield Entry(path, Failure("missing_file", "It does not exist; expected a picture, a folder or -."))


def _below(folder: Path) -> list[Entry]:
    from model.data.scan import scan, shown  # noqa: PLC0415

    found = scan(folder)
    entries = [Entry(file.path) for file in found.images]
    for path, reason in found.unreadable:
        entries.append(Entry(path, Failure(UNREADABLE, f"It {reason.removeprefix(shown(path)).lstrip()}")))
    return sorted(entries) or [Entry(folder, Failure("no_pictures", "It holds no pictures."))]


async def classify_all(chosen: Settings, entries: list[Entry], asked: "Asked", *, as_json: bool) -> int:
    """Print every entry's labels or failure, in order. Returns how many could not be classified."""
    failures = 0
    with Progress(console=console, transient=True, disable=len(entries) == 1 or not console.is_terminal) as progress:
        task = progress.add_task("classifying", total=len(entries))
        async for path, outcome in _outcomes(chosen, entries, asked):
            progress.advance(task)
            failures += isinstance(outcome, Failure)
            _print(path, outcome, as_json=as_json)
    return failures


async def _outcomes(
    chosen: Settings, entries: list[Entry], asked: "Asked"
) -> AsyncIterator[tuple[Path, Labels | Failure]]:
    """Each path with its labels or its failure, in order; a bounded number of them is under way at any time."""
    from app import composition  # noqa: PLC0415
    from app.inference.answer import wanted_of  # noqa: PLC0415
    from app.serving.bundles import find_bundles, open_bundle  # noqa: PLC0415
    from app.telemetry.metrics import Metrics  # noqa: PLC0415

    bundles = find_bundles(chosen.bundle)
    bundle = bundles.get(chosen.default_model) or next(iter(bundles.values()))
    engine = open_bundle(composition.engine_options(chosen), bundle).engine
    decoding = composition.build_decoding(chosen)
    classifier = composition.build_classifier(chosen, engine, Metrics(), decoding)
    wanted = wanted_of(classifier.spec, asked)
    window = min(chosen.queue_capacity, 2 * engine.instances * engine.max_batch_size)

    async def outcome(entry: Entry) -> Labels | Failure:
        if entry.failure is not None:
            return entry.failure
        try:
            with classifier.admit() as (permit,):
                payload = await asyncio.to_thread(_read, entry.path, chosen.max_image_bytes)
                deadline = asyncio.get_running_loop().time() + chosen.request_timeout_s
                classified = await classifier.classify(permit, payload, wanted=wanted, deadline=deadline)
        except ServiceError as error:
            return Failure(error.code, str(error))
        except OSError as error:
            return Failure(UNREADABLE, f"It cannot be read: {error.strerror}.")
        return Labels(classifier.named, classified.predictions, classified.certainty)

    pending: list[tuple[Path, asyncio.Task[Labels | Failure]]] = []
    for entry in entries:
        if len(pending) == window:
            first, task = pending.pop(0)
            yield first, await task
        pending.append((entry.path, asyncio.create_task(outcome(entry))))
    for first, task in pending:
        yield first, await task
    decoding.close()


def _read(path: Path, most: int) -> bytes:
    """A whole file; of a pipe, whose length is not known, at most `most` bytes. Raises TooManyBytes, OSError."""
    from cli.bulk.entries import read_local  # noqa: PLC0415

    if path != STANDARD_INPUT and path.is_file():
        return read_local(str(path), most)
    with open(sys.stdin.fileno() if path == STANDARD_INPUT else path, "rb", closefd=path != STANDARD_INPUT) as file:
        payload = file.read(most + 1)
    if len(payload) > most:
        raise TooManyBytes(f"It has more than {most} bytes; expected at most MIXER_MAX_IMAGE_BYTES.")
    return payload


def _print(path: Path, outcome: Labels | Failure, *, as_json: bool) -> None:
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    if as_json:
        typer.echo(json.dumps({"path": name, **_as_json(outcome)}, ensure_ascii=False))
    elif isinstance(outcome, Failure):
        console.print(f"{name}: {outcome.detail}")
    else:
        words = _labels_in_words(outcome.predictions)
        typer.echo(f"{name}: {words}{_in_words(outcome.certainty)}")


def _labels_in_words(best: "Iterable[Prediction]") -> str:
    return ", ".join(f"{one['label']} {one['probability']:.1%}" for one in best)


def _as_json(outcome: Labels | Failure) -> dict[str, object]:
    if isinstance(outcome, Failure):
        return {"error": outcome._asdict()}
    return {"model": outcome.model, "predictions": outcome.predictions, **outcome.certainty}


def _in_words(certainty: "Certainty") -> str:
    uncertain = " (uncertain)" if certainty.get("uncertain") else ""
    return uncertain + (f"; set: {', '.join(certainty['set']['labels'])}" if "set" in certainty else "")
