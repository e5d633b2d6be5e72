"""The findings of `mixer bench` as tables and as a picture. Knows nothing of how they were measured."""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cli.bench.ceilings import Classifying, Decoding, Running
from cli.bench.findings import Findings
from cli.bench.peaks import Product
from cli.bench.stopwatch import Measured
from model.spec import Precision

_COLORS = {"fp32": "tab:blue", "fp16": "tab:orange", "int8": "tab:green"}
_STYLES = ("-", "--", ":", "-.")


def print_tables(findings: Findings, console: Console) -> None:
    """Print everything, the verdict last. Each figure is a median, with the spread of its rounds."""
    console.print("\nDecoding: picture files to patches, images/s", _decoding_table(findings), sep="\n")
    for precision in findings.precisions():
        title = f"\nThe model alone in {precision}, images/s by batch size and instances x threads"
        console.print(title, _running_table(findings, precision), *_summary(findings, precision), sep="\n")
    title = f"\nThe ceiling: decoding and the model in {findings.precision}, in bare threads, images/s"
    console.print(title, _classifying_table(findings), sep="\n")
    if findings.of(Product):
        console.print("\nSquare matrix products, GFLOP/s (int8: GOP/s)", _product_table(findings), sep="\n")
    console.print(f"\n{findings.verdict().sentence}")


def draw(findings: Findings, path: Path) -> None:
    """Draw the model's images/s by batch size, a line for each precision and split, into a PNG file.

    Raises: OSError where it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 -- slow to load, needed once
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for precision, instances, threads, line in _lines(findings):
        sizes = [batch_size for batch_size, _ in line]
        splits = list(dict.fromkeys((key.instances, key.threads) for key in findings.of(Running)))
        style, color = _STYLES[splits.index((instances, threads)) % len(_STYLES)], _COLORS[precision]
        label = f"{precision}, {_split(instances, threads)}"
        axes.plot(sizes, [one.rate for _, one in line], style, marker=".", color=color, label=label)
        lowest, highest = ([edge(one.rounds) for _, one in line] for edge in (min, max))
        axes.fill_between(sizes, lowest, highest, color=color, alpha=0.12, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({key.batch_size for key in findings.of(Running)}))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set(xlabel="batch size", ylabel="images/s", title="The model alone; instances x threads", ylim=(0, None))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", dpi=110)


def _lines(findings: Findings) -> Iterable[tuple[Precision, int, int, list[tuple[int, Measured]]]]:
    """Each line of the picture: precision, instances, threads, and the figures by batch size."""
    lines: dict[tuple[Precision, int, int], list[tuple[int, Measured]]] = {}
    for key, figure in findings.of(Running).items():
        lines.setdefault((key.precision, key.instances, key.threads), []).append((key.batch_size, figure))
    return ((*key, line) for key, line in lines.items())


def _decoding_table(findings: Findings) -> Table:
    table = _table("threads", "images/s")
    for key, figure in findings.of(Decoding).items():
        table.add_row(str(key.threads), _shown(figure))
    return table


def _running_table(findings: Findings, precision: Precision) -> Table:
    runs = {key: figure for key, figure in findings.of(Running).items() if key.precision == precision}
    splits = list(dict.fromkeys((key.instances, key.threads) for key in runs))
    own = (findings.split.instances, findings.split.threads)
    names = [_split(*split) + (" (service)" if split == own else "") for split in splits]
    table = _table("batch", *names)
    best = findings.best(precision)
    for batch_size in dict.fromkeys(key.batch_size for key in runs):
        keys = [Running(precision, *split, batch_size) for split in splits]
        name = f"{batch_size} (service)" if batch_size == findings.batch_size else str(batch_size)
        table.add_row(name, *(_shown(runs[key], best=key == best) for key in keys))
    return table


def _summary(findings: Findings, precision: Precision) -> Iterable[str]:
    best, choice = findings.best(precision), findings.choice(precision)
    yield (
        f"best: {_split(best.instances, best.threads)} in batches of {best.batch_size}; the service's "
        f"{_split(choice.instances, choice.threads)} in batches of {choice.batch_size} reaches "
        f"{findings.choice_over_best(precision):.3f} of it"
    )
    times = findings.times_fp32(precision)
    if times is not None and precision != "fp32":
        yield f"{times:.2f} times as fast as fp32, both as the service runs them"
    efficiency = findings.efficiency(precision)
    if efficiency is not None:
        unit = "GOP/s" if efficiency.product.number == "int8" else "GFLOP/s"
        yield (
            f"{efficiency.model:,.0f} {unit}, {efficiency.share:.3f} of the {efficiency.peak:,.0f} "
            f"that a matrix product in {efficiency.product.number} reaches"
        )


def _classifying_table(findings: Findings) -> Table:
    table = _table("instances x threads", "pictures at a time", "images/s")
    best = findings.best_of(Classifying)
    for key, figure in findings.of(Classifying).items():
        table.add_row(_split(key.instances, key.threads), str(key.batch_size), _shown(figure, best=key == best))
    return table


def _product_table(findings: Findings) -> Table:
    table = _table("numbers", "size", "runs x threads", "rate")
    for key, figure in findings.of(Product).items():
        table.add_row(key.number, str(key.size), _split(key.runs, key.threads), _shown(figure))
    return table


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _split(instances: int, threads: int) -> str:
    return f"{instances}x{threads}"


def _shown(figure: Measured, *, best: bool = False) -> str:
    digits = 0 if figure.rate >= 100 else 1 if figure.rate >= 10 else 2
    text = f"{figure.rate:,.{digits}f} ±{figure.spread / 2:.0%}"
    return f"[bold]{text} *[/bold]" if best else f"{text}  "
