"""The command line: `mixer serve | inspect | key`, and the commands of its neighbours. Loads no torch."""

import json
import os
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from app import settings
from app.errors import StartError
from app.settings import PASS_ON, Settings
from app.system import environment, signals
from app.telemetry import logs
from cli import process
from cli.bench.measuring import bench
from cli.classify import classify
from cli.collected.commands import collected
from cli.embed import embed
from cli.explain import explain
from cli.learning import register
from cli.pulling.child import bundle_of, with_bundle, with_shadow
from cli.pulling.command import pull
from cli.reload import reload
from cli.terminal import console
from model.errors import MixerError


class Commands(TyperGroup):
    """The commands; one that Ctrl-C ends and that has no words of its own for it gets a line."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises KeyboardInterrupt, which ends the process with 130."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            console.print(f"\nmixer: {ctx.invoked_subcommand} was stopped.")
            raise


app = typer.Typer(
    name="mixer", cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
register(app)
app.command()(classify)
app.command()(embed)
app.command()(explain)
app.command()(pull)
app.command()(reload)
app.add_typer(collected)
app.command("bench", context_settings=PASS_ON, add_help_option=False)(bench)

_USAGE_ERROR = 2
_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"


def main() -> None:
    """Run a command; a mistake of the user's is one line on standard error."""
    process.prepare()
    os.environ.setdefault(_NO_TELEMETRY, "1")  # before anything imports ONNX Runtime, which reads it then
    try:
        app()
    except StartError as error:
        console.print(f"mixer: {error}")
        sys.exit(error.exit_code)
    except MixerError as error:
        console.print(f"mixer: {error}")
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
    """Serve MODEL, a bundle or what one is made of, over HTTP. mixer serve --help has every option and variable."""
    with signals.hang_ups_noted():
        from app import main as composition  # noqa: PLC0415
        from app.composition import runtime_of  # noqa: PLC0415
        from app.server import serve as server  # noqa: PLC0415
        from app.server import topology  # noqa: PLC0415

        chosen = settings.load(context.args)
        logs.configure(chosen.log_format, chosen.log_level)
        environment.log_oddities(Settings.model_fields, settings.ENV_PREFIX)
        planned = topology.planned(with_shadow(with_bundle(chosen)))
        with runtime_of(planned) as runtime:
            make = partial(composition.create_service, planned, runtime=runtime)
            raise typer.Exit(server.serve(lambda worker: make(worker=worker), planned))


@app.command()
def inspect(bundle: Annotated[Path, typer.Argument(help="Bundle folder, .onnx file or model (mixer pull).")]) -> None:
    """Print a bundle's spec, and which precisions it has, as JSON."""
    from app.engine.engine import EngineOptions, find_graphs, open_engine  # noqa: PLC0415

    bundle = bundle_of(bundle)
    engine = open_engine(EngineOptions(bundle, provider="cpu", max_batch_size=1))
    content = {
        "precisions": {precision: str(path) for precision, path in find_graphs(bundle).items()},
        "spec": engine.spec.model_dump(mode="json", exclude={"conformal": {"scores"}, "fit": {"tilt": {"weights"}}}),
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


if __name__ == "__main__":
    main()
