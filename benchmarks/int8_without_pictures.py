"""Ways to an int8 graph without the user's pictures: their speed, and how far their answers are from fp32's.

    python benchmarks/int8_without_pictures.py [--speed S/16 B/16] [--checkpoints FOLDER ...] --pictures FOLDER ...

Speed: networks of these sizes with random weights, every graph in turn, round after round, by the processor's time, so
that others' work counts less. Answers: trained checkpoints on all pictures below these folders (or the test pictures of
a folder of IDX files), as they are and with outlier channels, which leave the function as it is. Prints Markdown.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from export.bundle import generated_images
from export.calibration import calibrate
from export.dense import Dense
from export.graph import INPUT, LOGITS
from export.int8 import by_row
from export.int8.smoothing import smooth
from export.int8.writer import GraphWriter, rewrite
from export.quantize import quantize
from export.to_onnx import write_graph
from model.data.idx import has_split, read_split
from model.network import checkpoint
from model.network.mixer import MlpMixer
from model.preprocess import Pixels, patchify, to_pixels, to_square
from model.spec import ModelSpec, Source
from model.weights.config import VARIANTS

MIDDLE = 128  # the pixels' mean, where nobody knows it
OUTLIERS, OUTLIER_FACTOR = 4, 20  # channels of every second layer norm, and by how much
PICTURES = {".jpg", ".jpeg", ".png"}
PUBLISHED = "by row, smoothed, rounded together (what is published)"
LEAST_SIDE = 96  # smaller pictures are icons


def of_each_picture(writer: GraphWriter, layer: Dense) -> None:
    """A scale for the whole array, taken at run time: for one picture a run, or the answer depends on the others."""
    origin, moves = writer.origin(layer.input)
    names = [f"{layer.output}.{name}" for name in ("bytes", "scale", "zero_point")]
    writer.write(helper.make_node("DynamicQuantizeLinear", [origin], names))
    rows = writer.moved(layer, moves, names[0])
    writer.write_product(layer, rows, names[1], names[2], layer.output, writer.constant(layer, "bias", layer.bias))


def in_blocks(block: int | None) -> Callable[[GraphWriter, Dense], None]:
    """MatMulNBits in 8 bits, with a scale for so many rows of a kernel's column; None: one for all of them."""

    def write(writer: GraphWriter, layer: Dense) -> None:
        depth, width = layer.kernel.shape
        size = block or 1 << (depth - 1).bit_length()
        padded = np.pad(layer.kernel, ((0, -depth % size), (0, 0))).T.reshape(width, -1, size)
        scales = np.maximum(np.abs(padded).max(axis=2) / 127, np.finfo(np.float32).tiny).astype(np.float32)
        in_bytes = (np.rint(padded / scales[..., np.newaxis]) + 128).astype(np.uint8)
        inputs = [layer.input, writer.constant(layer, "kernel", in_bytes), writer.constant(layer, "scales", scales)]
        inputs += ["", "", writer.constant(layer, "bias", layer.bias)]
        sizes = {"K": depth, "N": width, "bits": 8, "block_size": size, "accuracy_level": 4}
        writer.write(helper.make_node("MatMulNBits", inputs, [layer.output], domain="com.microsoft", **sizes))

    return write


def one_picture_at_a_time(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph as the body of a Scan over the batch: whatever it takes from an array, it takes from one picture."""
    inner = {value.name: f"one.{value.name}" for value in (*graph.graph.input, *graph.graph.output)}
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim][1:] for v in graph.graph.input}
    shapes |= {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim][1:] for v in graph.graph.output}
    nodes = [helper.make_node("Unsqueeze", ["picture", "first"], [inner[INPUT]])]
    for node in graph.graph.node:
        nodes.append(onnx.NodeProto())
        nodes[-1].CopyFrom(node)
        for names in (nodes[-1].input, nodes[-1].output):
            names[:] = [inner.get(name, name) for name in names]
    outputs = [value.name for value in graph.graph.output]
    nodes += [helper.make_node("Squeeze", [inner[name], "first"], [f"{name}.row"]) for name in outputs]
    body = helper.make_graph(
        nodes,
        "one_picture",
        [helper.make_tensor_value_info("picture", TensorProto.UINT8, shapes[INPUT])],
        [helper.make_tensor_value_info(f"{name}.row", TensorProto.FLOAT, shapes[name]) for name in outputs],
        [*graph.graph.initializer, numpy_helper.from_array(np.array([0]), "first")],
    )
    scanned = onnx.ModelProto()
    scanned.CopyFrom(graph)
    del scanned.graph.node[:], scanned.graph.initializer[:]
    scanned.graph.node.append(helper.make_node("Scan", [INPUT], outputs, body=body, num_scan_inputs=1))
    return scanned


def static(rows: onnx.ModelProto, pixels: Pixels, patch_size: int) -> onnx.ModelProto:
    """Today's way: fixed scales from pictures."""
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        onnx.save(rows, file.name)
        return quantize(rows, calibrate(Path(file.name), pixels, patch_size), MIDDLE)


def rounded_together(rows: onnx.ModelProto, pixels: Pixels, patch_size: int) -> onnx.ModelProto:
    """What is published."""
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder) / "rows.onnx", Path(folder) / "int8.onnx"
        onnx.save(rows, source)
        by_row.write_int8_by_row(source, path, pixels, patch_size)
        return onnx.load(path)


def methods(model: MlpMixer, spec: ModelSpec, *, twins: bool) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Every way, fp32 first. `twins`: also those that differ from another in their numbers alone, not in speed."""
    with tempfile.TemporaryDirectory() as folder:
        graphs = {}
        for form in ("fp32", "rows", "fp16"):
            write_graph(model, Path(folder) / f"{form}.onnx", form)  # type: ignore[arg-type]
            graphs[form] = onnx.load(Path(folder) / f"{form}.onnx")
    rows, general = graphs["rows"], generated_images(spec)
    yield "fp32", graphs["fp32"]
    yield "static, generated pictures", static(rows, general, spec.patch_size)
    yield "by picture (Scan)", one_picture_at_a_time(rewrite(rows, MIDDLE, of_each_picture))
    yield "by array (depends on the batch)", rewrite(rows, MIDDLE, of_each_picture)
    yield "by row", rewrite(rows, MIDDLE, by_row._write_dense)
    if twins:
        yield "static, generated pictures, smoothed", static(smooth(rows), general, spec.patch_size)
        yield "by picture (Scan), smoothed", one_picture_at_a_time(rewrite(smooth(rows), MIDDLE, of_each_picture))
        yield "by row, smoothed", by_row.quantize_by_row(smooth(rows))
        yield PUBLISHED, rounded_together(rows, general, spec.patch_size)
    for block in (32, 128, None):
        yield f"MatMulNBits, 8 bits, blocks of {block or 'all rows'}", rewrite(rows, MIDDLE, in_blocks(block))
    yield "fp16", graphs["fp16"]


def session_of(graph: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def report_speed(name: str, batches: list[int], threads: list[int], rounds: int) -> None:
    """Print how often each graph runs in fp32's time: the median of the rounds' ratios."""
    model = MlpMixer(VARIANTS[name]).eval()
    nn.init.normal_(model.head.weight, std=0.02)
    graphs = dict(methods(model, random_spec(name), twins=False))
    cases = [(count, size) for count in threads for size in batches]
    print(f"\n### {name}, times fp32\n\n| graph | " + " | ".join(f"{t} thread(s), batch {b}" for t, b in cases) + " |")
    print("|---" * (len(cases) + 1) + "|")
    found = {case: processor_seconds(graphs, model, *case, rounds) for case in cases}
    for title in graphs:
        ratios = [np.median(found[case]["fp32"] / found[case][title]) for case in cases]
        print(f"| {title} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |", flush=True)
    milliseconds = [1000 * np.median(found[case]["fp32"]) / case[1] for case in cases]
    print("| fp32: ms a picture | " + " | ".join(f"{value:.1f}" for value in milliseconds) + " |", flush=True)


def processor_seconds(
    graphs: dict[str, onnx.ModelProto], model: MlpMixer, threads: int, batch_size: int, rounds: int
) -> dict[str, np.ndarray]:
    """Seconds of all threads together for one run, a number for each round."""
    sessions = {title: session_of(graph, threads) for title, graph in graphs.items()}
    shape = (batch_size, model.config.num_patches, model.config.patch_dim)
    patches = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    taken: dict[str, list[float]] = {title: [] for title in graphs}
    for turn in range(rounds + 1):
        for title, session in sessions.items():
            start = time.process_time()
            session.run([LOGITS], {INPUT: patches})
            if turn:  # the first is to warm up
                taken[title].append(time.process_time() - start)
    return {title: np.array(values) for title, values in taken.items()}


def random_spec(name: str) -> ModelSpec:
    return ModelSpec(
        name="random", image_size=224, patch_size=VARIANTS[name].patch_size, channels=3, num_classes=1000,
        labels=tuple(map(str, range(1000))), source=Source(origin="random"),
    )  # fmt: skip


def report_answers(title: str, model: MlpMixer, spec: ModelSpec, pixels: Pixels) -> None:
    """Print how near each graph's logits are to fp32's, and whether they are the same alone and in a batch."""
    reference = None
    for name, graph in methods(model, spec, twins=True):
        session = session_of(graph, 1)
        logits = np.concatenate([run(session, pixels[at : at + 16], spec) for at in range(0, len(pixels), 16)])
        if reference is None:
            reference, span = logits, np.ptp(logits)
            print(f"\n### {title}: {len(pixels)} pictures, {len(np.unique(logits.argmax(axis=1)))} labels\n")
            print("| graph | same label | largest difference | rms | alone or among others |\n|---|---|---|---|---|")
        same = (logits.argmax(axis=1) == reference.argmax(axis=1)).mean()
        error = np.abs(logits - reference) / span
        alone = np.concatenate([run(session, pixels[at : at + 1], spec) for at in range(8)])
        beside = np.abs(alone - run(session, pixels[:32], spec)[:8]).max() / span
        rms = np.sqrt((error**2).mean())
        print(f"| {name} | {same:.2%} | {error.max():.4f} | {rms:.5f} | {beside:.1e} |", flush=True)


def run(session: onnxruntime.InferenceSession, pixels: Pixels, spec: ModelSpec) -> np.ndarray:
    (logits,) = session.run([LOGITS], {INPUT: patchify(np.ascontiguousarray(pixels), spec.patch_size)})
    return np.asarray(logits)


def with_outliers(model: MlpMixer) -> MlpMixer:
    """The same function: a few gains and shifts grow, and the kernel rows behind them shrink."""
    changed, generator = copy.deepcopy(model), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for block in changed.blocks:
            some = torch.randperm(model.config.hidden_dim, generator=generator)[:OUTLIERS]
            block.layer_norm_1.weight[some] *= OUTLIER_FACTOR
            block.layer_norm_1.bias[some] *= OUTLIER_FACTOR
            block.channel_mixing.dense_0.weight[:, some] /= OUTLIER_FACTOR
    return changed


def pictures(folders: list[Path], spec: ModelSpec, most: int) -> Pixels:
    """Evenly spaced pictures, as the classifier sees them: RGB from files, grey from IDX files."""
    if spec.channels == 1:
        test = [read_split(folder, "test")[0] for folder in folders if has_split(folder, "test")]
        return np.concatenate(test)[:most, ..., np.newaxis]
    found = []
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in PICTURES):
        with Image.open(path) as image:
            if min(image.size) >= LEAST_SIDE:
                found.append(to_square(to_pixels(image, 3), spec.image_size, spec.fit, spec.interpolation))
    return np.stack(found[:: max(1, len(found) // most)])


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", nargs="*", default=[], choices=list(VARIANTS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--checkpoints", nargs="*", type=Path, default=[])
    parser.add_argument("--pictures", nargs="*", type=Path, default=[])
    parser.add_argument("--most", type=int, default=2000)
    arguments = parser.parse_args()
    onnxruntime.set_default_logger_severity(3)
    torch.manual_seed(0)
    for name in arguments.speed:
        report_speed(name, arguments.batches, arguments.threads, arguments.rounds)
    for folder in arguments.checkpoints:
        loaded = checkpoint.load(folder)
        pixels = pictures(arguments.pictures, loaded.spec, arguments.most)
        report_answers(loaded.spec.name, loaded.model, loaded.spec, pixels)
        report_answers(f"{loaded.spec.name}, with outliers", with_outliers(loaded.model), loaded.spec, pixels)


if __name__ == "__main__":
    main()
