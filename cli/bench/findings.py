"""The conclusions from the figures of `mixer bench`, and both as JSON. Knows no clock and no engine."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar

from cli.bench.ceilings import Classifying, Decoding, Running
from cli.bench.peaks import Number, Product
from cli.bench.rig import Split
from cli.bench.stopwatch import Measured, ratio
from model.spec import Precision

Subject = Decoding | Running | Classifying | Product
Kind = TypeVar("Kind", Decoding, Running, Classifying, Product)

_COMPUTES_IN: dict[Precision, Number] = {"fp32": "float32", "fp16": "float32", "int8": "int8"}  # on a CPU


@dataclass(frozen=True)
class Efficiency:
    """The model's arithmetic against the fastest matrix product of the same run, in GFLOP/s (int8: GOP/s)."""

    precision: Precision
    model: float
    peak: float
    share: float
    product: Product


@dataclass(frozen=True)
class Verdict:
    """The part that limits how many pictures a second there can be, and why, in one sentence."""

    resource: Literal["decode", "model"]
    sentence: str


@dataclass(frozen=True)
class Findings:
    """Every figure, and the service's own choice: precision, split, largest batch. `gflops`: of a picture, if known."""

    measured: Mapping[Subject, Measured]
    provider: str
    precision: Precision
    split: Split
    batch_size: int
    gflops: float | None

    def of(self, kind: type[Kind]) -> dict[Kind, Measured]:
        """The figures of one kind, in the order they were asked for."""
        return {key: figure for key, figure in self.measured.items() if isinstance(key, kind)}

    def precisions(self) -> list[Precision]:
        """The precisions that ran."""
        return list(dict.fromkeys(key.precision for key in self.of(Running)))

    def best(self, precision: Precision) -> Running:
        """The fastest split and batch size of a precision."""
        return _fastest({key: figure for key, figure in self.of(Running).items() if key.precision == precision})

    def choice(self, precision: Precision) -> Running:
        """The figure at the service's split and largest batch, which it runs under load."""
        return Running(precision, self.split.instances, self.split.threads, self.batch_size)

    def best_of(self, kind: type[Kind]) -> Kind:
        """The fastest figure of a kind."""
        return _fastest(self.of(kind))

    def choice_over_best(self, precision: Precision) -> float:
        """The rate of the service's choice as a fraction of the fastest split and batch size."""
        return ratio(self.measured[self.choice(precision)], self.measured[self.best(precision)])

    def times_fp32(self, precision: Precision) -> float | None:
        """How many times as fast as fp32 a precision is, where both use the service's split and the same batches."""
        quicker = self.choice(precision)
        fp32 = self.measured.get(replace(quicker, precision="fp32"))
        return None if fp32 is None else ratio(self.measured[quicker], fp32)

    def efficiency(self, precision: Precision) -> Efficiency | None:
        """The model's share of the matrix-product peak, where its arithmetic is known and the peak was measured."""
        number = _COMPUTES_IN[precision]
        peaks = {key: figure for key, figure in self.of(Product).items() if key.number == number}
        if self.gflops is None or not peaks:
            return None
        run, product = self.measured[self.best(precision)], _fastest(peaks)
        peak = self.measured[product]
        return Efficiency(precision, run.rate * self.gflops, peak.rate, ratio(run, peak) * self.gflops, product)

    def verdict(self) -> Verdict:
        """Which of decoding and the model is slower, the model as the service would run it, at its best split."""
        decoding = self.measured[self.best_of(Decoding)].rate
        model = self.measured[self.best(self.precision)].rate
        model_binds = model < decoding
        slow, fast = ("The model", "decoding") if model_binds else ("Decoding", "the model")
        lower, higher = sorted((model, decoding))
        sentence = f"{slow} binds: alone it does {lower:,.0f} images/s, {fast} alone {higher:,.0f}"
        if self.provider == "cpu":  # where both take from the same processor
            sentence += f"; it takes {higher / (lower + higher):.0%} of a picture's processor time"
        return Verdict("model" if model_binds else "decode", f"{sentence}.")

    def as_json(self) -> dict[str, Any]:
        """Everything, for a program to read."""
        ceiling = self.best_of(Classifying)
        return {
            "service": {
                "provider": self.provider,
                "precision": self.precision,
                **_named(self.split),
                "batch_size": self.batch_size,
            },
            "gflop_per_image": self.gflops,
            "decode": _rows(self.of(Decoding), "images_s"),
            "model": _rows(self.of(Running), "images_s"),
            "model_summary": {precision: self._summary(precision) for precision in self.precisions()},
            "decode_and_model": _rows(self.of(Classifying), "images_s"),
            "ceiling": _row(ceiling, self.measured[ceiling], "images_s"),
            "peaks": _rows(self.of(Product), "gflop_s"),
            "binds": asdict(self.verdict()),
        }

    def _summary(self, precision: Precision) -> dict[str, Any]:
        efficiency = self.efficiency(precision)
        return {
            "best": _row(self.best(precision), self.measured[self.best(precision)], "images_s"),
            "service": _row(self.choice(precision), self.measured[self.choice(precision)], "images_s"),
            "service_over_best": self.choice_over_best(precision),
            "times_fp32": self.times_fp32(precision),
            "efficiency": None if efficiency is None else asdict(efficiency),
        }


def _fastest(figures: Mapping[Kind, Measured]) -> Kind:
    return max(figures, key=lambda key: figures[key].rate)


def _rows(figures: Mapping[Kind, Measured], unit: str) -> list[dict[str, Any]]:
    return [_row(key, figure, unit) for key, figure in figures.items()]


def _row(key: Subject, figure: Measured, unit: str) -> dict[str, Any]:
    return {**_named(key), unit: figure.rate, "spread": figure.spread, "rounds": list(figure.rounds)}


def _named(key: Subject | Split) -> dict[str, Any]:
    """The key's fields by name; the number of instances by its name of version 0.2, too."""
    parts = asdict(key)
    return {**parts, "lanes": parts["instances"]} if "instances" in parts else parts
