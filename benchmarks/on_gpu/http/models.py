"""What the section `http` of gpu.py serves: bundles, pictures whose right answers are known, and rates without HTTP.

The right answer is that of the engine alone. Knows no services, and not where networks and engines come from.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from app.engine.engine import Engine
from benchmarks.on_gpu.http.services import Model
from benchmarks.serving.bundles import prototypes
from benchmarks.serving.cells import Kind
from benchmarks.serving.images import images
from benchmarks.serving.workloads import prepare
from cli.bench.ceilings import Decode
from export.graph import Form, write_metadata
from export.to_onnx import write_graph
from model.spec import ModelSpec

if TYPE_CHECKING:
    from model.network.mixer import MlpMixer

ENGINE, BARE_THREADS = "the engine", "bare threads that decode and run"


def knowing_bundle(model: "MlpMixer", spec: ModelSpec, kind: Kind, decode: Decode, form: Form, work: Path) -> Path:
    """The network with a head that tells the pictures of `kind` apart: of random weights, it has one answer for all."""
    patches = [decode(file) for file in images(kind, spec.channels, work)]
    with torch.inference_mode():
        embeddings = model.embed(torch.from_numpy(np.stack(patches)))  # N C
    model.head = prototypes(embeddings, spec.num_classes)
    folder = work / f"served-{spec.name.replace('/', '-')}"
    folder.mkdir()
    path = folder / f"{form}.onnx"
    write_graph(model, path, form)
    write_metadata(path, spec, "fp16" if form == "fp16" else "fp32")
    return folder


def served(
    name: str, bundle: Path, engine: Engine, kind: Kind, decode: Decode, work: Path, figures: Mapping[str, Any]
) -> Model:
    """A bundle and the engine that has it open. `figures`: of the sections that have run.

    Raises: ValueError where the engine is sure of no picture.
    """
    files = images(kind, engine.spec.channels, work)
    workload = prepare(kind, files, engine.spec, decode, engine.run, work)
    return Model(name, bundle, engine.precision, workload, rates_without_http(figures, name))


def rates_without_http(figures: Mapping[str, Any], name: str) -> dict[str, float]:
    """images/s of a model in `throughput` (the engine, from the host) and `end_to_end`, where they have run."""
    rates: dict[str, float] = {}
    by_size = figures.get("throughput", {}).get(name, {}).get("images_s", {})
    engine = [rate for ways in by_size.values() for way, rate in ways.items() if way.startswith("engine, ")]
    if engine:
        rates[ENGINE] = max(engine)
    found = figures.get("end_to_end", {}).get(name)
    if found is not None:
        rates.setdefault(ENGINE, max(row["images_s"] for row in found["model"]))
        rates[BARE_THREADS] = found["ceiling"]["images_s"]
    return rates
