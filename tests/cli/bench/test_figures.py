"""The findings as a person reads them."""

from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from cli.bench import figures
from cli.bench.findings import Findings
from cli.bench.peaks import Product
from tests.cli.bench.test_findings import FIGURES, findings


def printed(found: Findings) -> list[str]:
    console = Console(width=120, no_color=True, force_terminal=False)
    with console.capture() as capture:
        figures.print_tables(found, console)
    return capture.get().splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_the_model_has_a_table_for_each_precision_with_the_best_and_the_service_marked() -> None:
    lines = printed(findings(FIGURES))
    start = lines.index("The model alone in fp32, images/s by batch size and instances x threads")
    table = [cells(line.replace("┃", "│")) for line in lines[start + 1 : start + 7]]
    assert table[1] == ["batch", "1x2", "2x1 (service)"]
    assert table[3] == ["1", "90.0 ±0%", "90.0 ±33%"]
    assert table[4] == ["8 (service)", "100 ±0% *", "96.0 ±10%"]


def test_what_follows_from_the_table_stands_below_it() -> None:
    lines = printed(findings(FIGURES))
    assert "best: 1x2 in batches of 8; the service's 2x1 in batches of 8 reaches 0.960 of it" in lines
    assert "50 GFLOP/s, 0.625 of the 80 that a matrix product in float32 reaches" in lines
    assert "125 GOP/s, 0.500 of the 250 that a matrix product in int8 reaches" in lines
    assert "best: 2x1 in batches of 1; the service's 2x1 in batches of 8 reaches 0.960 of it" in lines
    assert "2.50 times as fast as fp32, both as the service runs them" in lines
    assert not [line for line in lines if "1.00 times as fast as fp32" in line]


def test_decoding_the_ceiling_and_the_peaks_have_tables_too() -> None:
    rows = [cells(line) for line in printed(findings(FIGURES)) if line.startswith("│")]
    assert ["2", "2,000 ±0%"] in rows
    assert ["2x1", "4", "210 ±5% *"] in rows
    assert ["float32", "512", "1x2", "60.0 ±17%"] in rows


def test_the_verdict_stands_last() -> None:
    found = findings(FIGURES)
    assert printed(found)[-1] == found.verdict().sentence


def test_a_gpu_has_no_table_of_matrix_products() -> None:
    without = {key: rounds for key, rounds in FIGURES.items() if not isinstance(key, Product)}
    lines = printed(findings(without, provider="cuda"))
    assert not [line for line in lines if "matrix product" in line.lower()]


def test_a_slow_rate_keeps_its_digits() -> None:
    slow = {key: tuple(rate / 1000 for rate in rounds) for key, rounds in FIGURES.items()}
    assert ["8 (service)", "0.10 ±0% *", "0.10 ±10%"] in [cells(line) for line in printed(findings(slow))]


def test_the_picture_is_a_png_with_a_line_for_each_precision_and_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes  # noqa: PLC0415

    labels: list[str] = []
    plot = Axes.plot

    def noted(self: Axes, *arguments: object, **options: object) -> object:
        labels.append(str(options["label"]))
        return plot(self, *arguments, **options)

    monkeypatch.setattr(Axes, "plot", noted)
    figures.draw(findings(FIGURES), tmp_path / "bench.png")
    assert labels == ["fp32, 1x2", "fp32, 2x1", "int8, 1x2", "int8, 2x1"]
    with Image.open(tmp_path / "bench.png") as image:
        assert image.format == "PNG"
        assert image.width > 600
