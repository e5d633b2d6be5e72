"""The command line: `mixer serve | classify | inspect | key`, and what its neighbours add. Loads no torch."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from app import settings
from app.errors import BadParameter, BadSettings, ServiceError, StartError
from app.settings import PASS_ON, Settings
from app.system import environment, signals
from app.telemetry import logs
from cli import process
from cli.bench.measuring import bench
from cli.learning import register
from cli.reload import reload
from model.errors import MixerError

app = typer.Typer(name="mixer", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
register(app)
app.command()(reload)
app.command("bench", context_settings=PASS_ON, add_help_option=False)(bench)
errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

_USAGE_ERROR = 2
_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"


def main() -> None:
    """Run a command; a mistake of the user's is one line on standard error."""
    process.prepare()
    os.environ.setdefault(_NO_TELEMETRY, "1")  # before anything imports ONNX Runtime, which reads it then
    try:
        app()
    except StartError as error:
        errors.print(f"mixer: {error}")
        sys.exit(error.exit_code)
    except MixerError as error:
        errors.print(f"mixer: {error}")
        sys.exit(_USAGE_ERROR)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mixer-serve {version('mixer-serve')}")
        raise typer.Exit


@app.callback()
def mixer(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None:
    """Train, export and serve MLP-Mixer image classifiers."""


@app.command(context_settings=PASS_ON, add_help_option=False)
def serve(context: typer.Context) -> None:
    """Serve a bundle over HTTP. Every option is also a MIXER_* variable; see mixer serve --help."""
    with signals.hang_ups_noted():
        from app import main as composition  # noqa: PLC0415
        from app.server import serve as server  # noqa: PLC0415
        from app.server import topology  # noqa: PLC0415

        chosen = settings.load(context.args)
        logs.configure(chosen.log_format, chosen.log_level)
        environment.log_oddities(Settings.model_fields, settings.ENV_PREFIX)
        planned = topology.planned(chosen)
        raise typer.Exit(server.serve(lambda post: composition.create_service(planned, post=post), planned))


@app.command()
def classify(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, and folders to search for pictures.")],
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder or .onnx file. Default: MIXER_BUNDLE.")] = None,
    top_k: Annotated[
        int | None, typer.Option(help="How many labels for each picture. Default: 1, with --json 5.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Classify pictures without a server, by the same code. Exit code 1 where any could not be."""
    chosen = settings.load()
    if bundle is not None:
        chosen = chosen.model_copy(update={"bundle": bundle})
    files = _pictures_in(paths)
    wanted = 1 if top_k is None and not as_json else top_k
    try:
        failures = asyncio.run(_classify_all(chosen, files, wanted, as_json=as_json))
    except BadParameter as error:
        raise BadSettings(str(error)) from error
    raise typer.Exit(1 if failures else 0)


@app.command()
def inspect(bundle: Annotated[Path, typer.Argument(help="Bundle folder or .onnx file.")]) -> None:
    """Print a bundle's spec, and which precisions it has, as JSON."""
    from app.engine.engine import EngineOptions, find_graphs, open_engine  # noqa: PLC0415

    engine = open_engine(EngineOptions(bundle, provider="cpu", max_batch_size=1))
    content = {
        "precisions": {precision: str(path) for precision, path in find_graphs(bundle).items()},
        "spec": engine.spec.model_dump(mode="json"),
    }
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))


@app.command()
def health() -> None:
    """Tell whether the service that these settings are for is ready. Exit code 1, with the reason, where it is not."""
    from cli import health as check  # noqa: PLC0415

    raise typer.Exit(check.main())


@app.command()
def key(
    name: Annotated[
        str | None, typer.Argument(help="Who holds the key: logs and metrics show it, never the key.")
    ] = None,
) -> None:
    """Print a new random API key, and its line for a file of keys: a digest, which does not tell the key."""
    from app.http.api_keys import new_key  # noqa: PLC0415

    new, line = new_key(name)
    typer.echo(f"key:  {new}\nline: {line}")


def _pictures_in(paths: Iterable[Path]) -> list[Path]:
    from model.data.scan import picture_files  # noqa: PLC0415

    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise BadSettings(f"{path} does not exist; expected a picture or a folder.")
        files += picture_files(path) if path.is_dir() else [path]
    if not files:
        raise BadSettings(f"{', '.join(map(str, paths))} holds no pictures.")
    return files


async def _classify_all(chosen: Settings, files: list[Path], top_k: int | None, *, as_json: bool) -> int:
    """Print every picture's labels in order. Returns how many could not be classified."""
    failures = 0
    with Progress(console=errors, transient=True, disable=len(files) == 1 or not errors.is_terminal) as progress:
        task = progress.add_task("classifying", total=len(files))
        async for path, outcome in _outcomes(chosen, files, top_k):
            progress.advance(task)
            if isinstance(outcome, Exception):
                failures += 1
            _print(path, outcome, as_json=as_json)
    return failures


async def _outcomes(
    chosen: Settings, files: list[Path], top_k: int | None
) -> AsyncIterator[tuple[Path, dict[str, float] | Exception]]:
    """Each file with its labels or its error, in order; a window of them is under way at any time."""
    from app import main as composition  # noqa: PLC0415
    from app.serving.bundles import find_bundles, open_bundle  # noqa: PLC0415
    from app.telemetry.metrics import Metrics  # noqa: PLC0415

    bundles = find_bundles(chosen.bundle)
    bundle = bundles.get(chosen.default_model) or next(iter(bundles.values()))
    engine = open_bundle(composition.engine_options(chosen), bundle).engine
    decoding = composition.build_decoding(chosen)
    classifier = composition.build_classifier(chosen, engine, Metrics(), decoding)
    wanted = classifier.expect_top_k(top_k)
    window = min(chosen.queue_capacity, 2 * engine.lanes * engine.max_batch_size)

    async def outcome(path: Path) -> dict[str, float] | Exception:
        try:
            with classifier.admit() as (place,):
                payload = await asyncio.to_thread(path.read_bytes)
                deadline = asyncio.get_running_loop().time() + chosen.request_timeout_s
                classified = await classifier.classify(place, payload, top_k=wanted, deadline=deadline)
        except (ServiceError, OSError) as error:
            return error
        return {best["label"]: best["probability"] for best in classified.predictions}

    pending: list[tuple[Path, asyncio.Task[dict[str, float] | Exception]]] = []
    for path in files:
        if len(pending) == window:
            first, task = pending.pop(0)
            yield first, await task
        pending.append((path, asyncio.create_task(outcome(path))))
    for first, task in pending:
        yield first, await task
    classifier.close()
    decoding.close()


def _print(path: Path, outcome: dict[str, float] | Exception, *, as_json: bool) -> None:
    if isinstance(outcome, Exception):
        code = outcome.code if isinstance(outcome, ServiceError) else "unreadable_file"
        if as_json:
            typer.echo(
                json.dumps({"path": str(path), "error": {"code": code, "detail": str(outcome)}}, ensure_ascii=False)
            )
        else:
            errors.print(f"{path}: {outcome}")
        return
    if as_json:
        predictions = [{"label": label, "probability": probability} for label, probability in outcome.items()]
        typer.echo(json.dumps({"path": str(path), "predictions": predictions}, ensure_ascii=False))
    else:
        words = ", ".join(f"{label} {probability:.1%}" for label, probability in outcome.items())
        typer.echo(f"{path}: {words}")


if __name__ == "__main__":
    main()
