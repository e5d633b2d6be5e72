"""`mixer bench`: its options, and its answer as tables, JSON or a picture. Nothing heavy is loaded before it runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from app import settings
from app.errors import BadSettings
from cli.pulling.child import bundle_of
from cli.terminal import bar, console, require_extra, task_of
from model.flags import Positional, Toggle, parse

if TYPE_CHECKING:
    from cli.bench.comparison import Report

_WIDTH = 120


class BenchOptions(BaseModel):
    """Measure what this machine can do with BUNDLE: decoding, the model, both; and say which part binds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Positional[Path] = Field(description="Bundle folder or .onnx file.")
    as_json: Toggle[bool] = Field(default=False, alias="json", description="Print everything as one JSON object.")
    plot: Path | None = Field(default=None, description="PNG file to draw the model's images/s by batch size into.")
    seconds: float = Field(default=0.5, gt=0, le=600, description="Time for one measurement.")
    rounds: int = Field(default=3, ge=1, le=1000, description="Measurements of each thing, in turn with all others.")
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = Field(
        default="auto", description="ONNX Runtime execution provider, as in MIXER_PROVIDER."
    )
    precision: Literal["auto", "fp32", "fp16", "int8"] = Field(
        default="auto", description="The one graph to measure. auto: all that the bundle has."
    )
    max_batch_size: int = Field(
        default=32, ge=1, le=4096, description="Largest batch; measured are 1, 2, 4, ... up to it."
    )
    pictures: Path | None = Field(default=None, description="Folder of pictures to decode. Default: generated ones.")


def bench(context: typer.Context) -> None:
    """Measure what this machine can do with BUNDLE, and what binds; see mixer bench --help."""
    options = parse(BenchOptions, context.args, "mixer bench")
    if options.plot is not None:
        _expect_drawable(options.plot)
    report = _run(options)
    if options.plot is not None:
        from cli.bench.figures import draw  # noqa: PLC0415

        draw(report.findings, options.plot)
    if options.as_json:
        typer.echo(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
    else:
        _print(report)


def _expect_drawable(plot: Path) -> None:
    """Checks of the options before minutes of measuring. Raises MixerError or BadSettings."""
    require_extra("matplotlib")
    if plot.is_dir() or not plot.absolute().parent.is_dir():
        raise BadSettings(f"--plot is {plot}; expected a file in a folder that exists.")


def _run(options: BenchOptions) -> "Report":
    from app.decoding.decoder import DecodeLimits  # noqa: PLC0415
    from cli.bench.comparison import Plan, run  # noqa: PLC0415

    service = settings.load()
    plan = Plan(
        bundle_of(options.bundle),
        DecodeLimits(service.max_image_bytes, service.max_image_pixels),
        **options.model_dump(exclude={"bundle", "as_json", "plot"}),
    )
    with bar() as progress:
        progress.disable = not console.is_terminal
        return run(plan, task_of(progress, "measuring"))


def _print(report: "Report") -> None:
    from cli.bench.figures import print_tables  # noqa: PLC0415

    where = report.circumstances
    out = Console(width=_WIDTH, highlight=False)
    out.print(
        f"{where.model} {where.version} ({where.bundle}) on {where.processor}, {where.cpus} CPUs, "
        f"ONNX Runtime {where.onnxruntime}, {report.findings.provider}\n"
        f"instructions for bytes: {where.int8_instructions or 'none'}, products of bytes: {where.int8_products}; "
        f"the service runs {report.findings.precision} ({where.precision_reason})\n"
        f"pictures: {where.pictures}, {where.mean_picture_bytes:,} bytes; "
        f"medians of {where.rounds} rounds of {where.seconds:g} s, ± half of their spread",
        markup=False,
        soft_wrap=True,
    )
    for precision, reason in where.refused.items():
        console.print(f"{precision} is not measured: {reason}")
    print_tables(report.findings, out)
