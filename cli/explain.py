"""`mixer explain`: what in one picture carries its label, without a server, by the server's own code."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.errors import BadSettings, ServiceError
from app.settings import Settings
from cli.pulling.child import BundleOption, settings_with

if TYPE_CHECKING:
    from app.api.explain import Explained
    from app.explanation.wanted import Asked

_MARKS = " .:-=+*#%@"  # from nothing to the most


def explain(
    image: Annotated[Path, typer.Argument(help="A picture.")],
    out: Annotated[Path | None, typer.Option(metavar="PNG", help="Write the picture with the values over it.")] = None,
    bundle: BundleOption = None,
    target: Annotated[
        str | None, typer.Option(help="Label to explain, or its index. Default: the most probable one.")
    ] = None,
    method: Annotated[str | None, typer.Option(metavar="occlusion|rise", help="Default: occlusion.")] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="mean|border|blur", help="What hidden parts show. Default: mean.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what POST /explain answers.")] = False,
) -> None:
    """Show what in a picture carries its label: a number for each patch, as text, JSON or laid over the picture."""
    from model.data.pillow_warnings import silenced  # noqa: PLC0415

    chosen = settings_with(bundle)
    asked: Asked = {"target": target, "method": method, "baseline": baseline}
    try:
        payload = image.read_bytes()
    except OSError as error:
        raise BadSettings(f"{image} cannot be read: {error.strerror}.") from error
    try:
        with silenced():
            body, png = asyncio.run(_explained(chosen, payload, asked, as_png=out is not None))
    except ServiceError as error:
        raise BadSettings(f"{image}: {error}") from error
    if out is not None:
        try:
            out.write_bytes(png)
        except OSError as error:
            raise BadSettings(f"{out} cannot be written: {error.strerror}.") from error
    typer.echo(json.dumps(body, ensure_ascii=False) if as_json else in_words(body))


async def _explained(chosen: Settings, payload: bytes, asked: "Asked", *, as_png: bool) -> "tuple[Explained, bytes]":
    from app import composition  # noqa: PLC0415
    from app.api.explain import body_of  # noqa: PLC0415
    from app.explanation.explainer import Explainer  # noqa: PLC0415
    from app.explanation.overlay import overlay_png  # noqa: PLC0415
    from app.explanation.wanted import wanted_of  # noqa: PLC0415
    from app.serving.bundles import find_bundles, open_bundle  # noqa: PLC0415
    from app.telemetry.metrics import Metrics  # noqa: PLC0415

    bundles = find_bundles(chosen.bundle)
    bundle = bundles.get(chosen.default_model) or next(iter(bundles.values()))
    engine = open_bundle(composition.engine_options(chosen), bundle).engine
    decoding = composition.build_decoding(chosen)
    explainer = Explainer(composition.build_classifier(chosen, engine, Metrics(), decoding))
    wanted = wanted_of(explainer.spec, asked)
    deadline = asyncio.get_running_loop().time() + chosen.request_timeout_s
    explanation = await explainer.explain(payload, wanted, deadline)
    png = b""
    if as_png:
        png = overlay_png(await explainer.shown(payload, deadline), explanation.values, explanation.region)
    decoding.close()
    return body_of(explainer, wanted, explanation), png


def in_words(body: "Explained") -> str:
    """The target, and the grid in marks: the darker, the more the label rests on that patch."""
    target, rows = body["target"], body["grid"]["values"]
    most = max((value for row in rows for value in row), default=0.0)
    lines = ["".join(_mark(value, most) * 2 for value in row) for row in rows]
    turned = body["region"]["turned"]
    words = (
        f"{target['label']} {target['probability']:.1%}, {body['method']} with {body['baseline']}, {body['runs']} runs"
        + (f", turned back by {turned:.0f} degrees" if turned else "")
    )
    return "\n".join((words, *lines))


def _mark(value: float, most: float) -> str:
    share = value / most if most > 0 else 0.0
    return _MARKS[max(0, min(len(_MARKS) - 1, int(share * len(_MARKS))))]
