"""Which graph is fastest, and what it costs in answers: formulations in fp32, and ways to int8, on this CPU.

    python benchmarks/graphs.py [--networks D S/16 B/16] [--rounds 5] [--seconds 1] [--data FOLDER --checkpoint FOLDER]

Every graph of a network is timed in one-thread runs side by side, one for each CPU, in turn, round after round, with a
batch size that suits the network. With a checkpoint of D's sizes and its IDX files, every D graph is also judged on the
held-out pictures of the training split. Prints Markdown.
"""

import argparse
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from torch import Tensor, nn

from app.system.cpu_limits import usable_cpus
from cli.bench.stopwatch import Candidate, measure, ratio
from export.calibration import calibrate
from export.dense import find_dense
from export.graph import EMBEDDING, INPUT, LOGITS, OPSET
from export.quantize import quantize
from export.to_onnx import RowGraph, write_graph
from export.wide_mlps import split_wide_mlps
from model.data.dataset import ImageSet, PreprocessConfig
from model.data.loading import load
from model.network import checkpoint
from model.network.mixer import MixerBlock, MlpMixer
from model.preprocess import patchify
from model.weights.config import VARIANTS, MixerConfig

NETWORKS = {
    "D": MixerConfig(28, 4, 128, 8, 64, 512, channels=1, num_classes=10),
    **{name: replace(VARIANTS[name], gelu="erf") for name in ("S/16", "B/16")},  # timm's, as every figure has it
}
BATCH_SIZES = {"D": 8, "S/16": 2, "B/16": 1}
FP32 = "rows, wide MLPs in parts (what is published)"


class AsWritten(nn.Module):
    """The network as model/network/mixer.py has it: tokens [N, S, C], a MatMul and an Add for every dense layer."""

    def __init__(self, model: MlpMixer) -> None:
        super().__init__()
        self.stem, self.model = model.folded_stem(), model

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.mix(self.stem(patches.float()))
        return self.model.classify(embedding), embedding

    def mix(self, tokens: Tensor) -> Tensor:
        return self.model.mix(tokens)


class LeftMultiplying(AsWritten):
    """Token mixing as kernel [D_S, S] times tokens [N, S, C]: nothing is transposed."""

    def mix(self, tokens: Tensor) -> Tensor:
        for block in self.model.blocks:
            assert isinstance(block, MixerBlock)
            tokens = tokens + self.mixed(block, block.layer_norm_0(tokens))  # N S C
            tokens = tokens + block.channel_mixing(block.layer_norm_1(tokens))  # N S C
        return self.model.pre_head_layer_norm(tokens).mean(dim=1)

    def mixed(self, block: MixerBlock, tokens: Tensor) -> Tensor:
        """The token-mixing branch of one block: [N, S, C] -> [N, S, C]."""
        mlp = block.token_mixing
        hidden = mlp.gelu(mlp.dense_0.weight @ tokens + mlp.dense_0.bias[:, None])  # N D_S C
        return mlp.dense_1.weight @ hidden + mlp.dense_1.bias[:, None]  # N S C


class LeftRows(LeftMultiplying):
    """Token mixing from the left, and all tokens as rows for the channel-mixing MLPs, which may be in parts."""

    def mix(self, tokens: Tensor) -> Tensor:
        num_patches, hidden_dim = self.model.config.num_patches, self.model.config.hidden_dim
        rows = tokens.flatten(0, 1)  # N*S C
        for block in self.model.blocks:
            assert isinstance(block, MixerBlock)
            rows = rows + self.mixed(block, block.layer_norm_0(rows).reshape(-1, num_patches, hidden_dim)).flatten(0, 1)
            rows = rows + block.channel_mixing(block.layer_norm_1(rows))  # N*S C
        return self.model.pre_head_layer_norm(rows.reshape(-1, num_patches, hidden_dim)).mean(dim=1)


def write(graph: nn.Module, config: MixerConfig, path: Path) -> Path:
    """Export a formulation as export/to_onnx.py does."""
    example = torch.zeros(2, config.num_patches, config.patch_dim, dtype=torch.uint8)
    with torch.inference_mode(), warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            graph.eval(), (example,), path, dynamo=True, verbose=False, opset_version=OPSET, input_names=[INPUT],
            output_names=[LOGITS, EMBEDDING], dynamic_shapes={"patches": {0: torch.export.Dim("batch", min=1)}},
            external_data=False,
        )  # fmt: skip
    return path


def with_tanh(model: MlpMixer) -> MlpMixer:
    """The same weights under the tanh GELU: another network, here for its speed alone."""
    other = MlpMixer(replace(model.config, gelu="tanh")).eval()
    other.load_state_dict(model.state_dict())
    return other


def formulations(model: MlpMixer, folder: Path) -> Iterator[tuple[str, Path]]:
    """The same network in fp32, written in several ways."""
    config = model.config
    write_graph(model, folder / "fp32.onnx")
    write_graph(model, folder / "rows.onnx", "rows")
    yield FP32, folder / "fp32.onnx"
    if (folder / "fp32.onnx").read_bytes() != (folder / "rows.onnx").read_bytes():
        yield "rows, every dense layer whole", folder / "rows.onnx"
    yield "as written: MatMul and Add", write(AsWritten(model), config, folder / "written.onnx")
    yield "left-multiplying token mixing", write(LeftMultiplying(model), config, folder / "left.onnx")
    left = write(LeftRows(split_wide_mlps(model)), config, folder / "left_rows.onnx")
    yield "left-multiplying token mixing, the rest as published", left
    tanh = write(RowGraph(split_wide_mlps(with_tanh(model))), config, folder / "tanh.onnx")
    yield "as published, the tanh GELU (another network)", tanh


class Calibration(CalibrationDataReader):
    """Batches of patches for ONNX Runtime's own calibrator."""

    def __init__(self, patches: np.ndarray) -> None:
        self._batches = iter([{INPUT: patches[start : start + 16]} for start in range(0, len(patches), 16)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def without_value_info(path: Path) -> Path:
    """The exporter's notes on inner shapes are refused by ONNX Runtime's quantiser."""
    graph = onnx.load(path)
    del graph.graph.value_info[:]
    onnx.save(graph, path)
    return path


def with_erf(path: Path) -> Path:
    """One of our int8 graphs with the GELU that the network has."""
    graph = onnx.load(path)
    for node in graph.graph.node:
        if node.op_type == "Gelu":
            del node.attribute[:]
    onnx.save(graph, path.with_name("erf.onnx"))
    return path.with_name("erf.onnx")


def with_float_stem(path: Path, rows: Path) -> Path:
    """One of our int8 graphs with the stem of the float graph that it was made from."""
    graph, original = onnx.load(path), onnx.load(rows)
    (stem,) = (node for node in graph.graph.node if node.output[0] == _stem(original).output[0])
    index = list(graph.graph.node).index(stem)
    graph.graph.node.remove(stem)
    upstream = [node for node in original.graph.node if node.op_type in ("Cast", "Reshape")][:2]
    for place, node in enumerate((*upstream, _stem(original))):
        graph.graph.node.insert(index + place, node)
    wanted = {name for node in (*upstream, _stem(original)) for name in node.input}
    have = {tensor.name for tensor in graph.graph.initializer}
    graph.graph.initializer.extend(t for t in original.graph.initializer if t.name in wanted - have)
    onnx.save(graph, path.with_name("float_stem.onnx"))
    return path.with_name("float_stem.onnx")


def _stem(graph: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in graph.graph.node if node.op_type == "Gemm")


def quantisations(model: MlpMixer, pixels: np.ndarray, folder: Path, *, full: bool) -> Iterator[tuple[str, Path]]:
    """The same network in int8, in several ways; `full` adds those that differ in accuracy alone."""
    rows, patch_size = folder / "rows.onnx", model.config.patch_size
    mean = round(float(pixels.mean()))

    def ours(name: str, count: int, percentile: float, pixel_mean: int) -> Path:
        scales = calibrate(rows, pixels[:count], patch_size, percentile=percentile)
        onnx.save(quantize(onnx.load(rows), scales, pixel_mean), folder / name)
        return folder / name

    published = ours("ours.onnx", 512, 100, mean)
    yield "ours: static, extremes of 512 pictures (what is published)", published
    yield "ours with the erf GELU", with_erf(published)
    yield "ours with a float stem", with_float_stem(published, rows)
    if full:
        yield "ours, extremes of 64 pictures", ours("few.onnx", 64, 100, mean)
        yield "ours, extremes of 2048 pictures", ours("many.onnx", 2048, 100, mean)
        yield "ours, percentile 99.99", ours("p9999.onnx", 512, 99.99, mean)
        yield "ours, percentile 99.9", ours("p999.onnx", 512, 99.9, mean)
        yield "ours, the pixels' mean left in", ours("uncentred.onnx", 512, 100, 0)
        yield "ours, one scale a kernel", with_steps(published, rows, "per_tensor.onnx", lambda k: k.max() / 127)
        yield "ours, kernels in 7 bits", with_steps(published, rows, "seven.onnx", lambda k: k.max(axis=0) / 64)
    yield (
        "ours, kernels in 8 bits (wrong without VNNI)",
        with_steps(published, rows, "eight.onnx", lambda k: k.max(axis=0) / 127),
    )
    written = without_value_info(folder / "written.onnx")
    for per_channel in (True, False) if full else (True,):
        path = folder / f"dynamic{per_channel}.onnx"
        quantize_dynamic(written, path, per_channel=per_channel, weight_type=QuantType.QInt8)
        yield f"dynamic, {'per channel' if per_channel else 'one scale a kernel'} (depends on the batch)", path
    patches = patchify(np.ascontiguousarray(pixels[:512]), patch_size)
    yield from qdq(written, patches, folder, full=full)


def qdq(written: Path, patches: np.ndarray, folder: Path, *, full: bool) -> Iterator[tuple[str, Path]]:
    """ONNX Runtime's own static quantiser, MatMul alone in bytes."""
    kinds = {"U8S8": (QuantType.QUInt8, QuantType.QInt8)}
    if full:
        kinds |= {"S8S8": (QuantType.QInt8, QuantType.QInt8), "U8U8": (QuantType.QUInt8, QuantType.QUInt8)}
    methods = [CalibrationMethod.MinMax, *([CalibrationMethod.Entropy, CalibrationMethod.Percentile] if full else [])]
    for kind, (activation, weight) in kinds.items():
        for method in methods if kind == "U8S8" else methods[:1]:
            path = folder / f"qdq-{kind}-{method.name}.onnx"
            quantize_static(
                written, path, Calibration(patches if method is CalibrationMethod.MinMax else patches[:64]),
                quant_format=QuantFormat.QDQ, op_types_to_quantize=["MatMul"], per_channel=True,
                activation_type=activation, weight_type=weight, calibrate_method=method,
            )  # fmt: skip
            yield f"QDQ by ONNX Runtime, {kind}, {method.name}", path


def with_steps(path: Path, rows: Path, name: str, step: Callable[[np.ndarray], np.ndarray]) -> Path:
    """One of our int8 graphs with kernels in other steps: one step, or one for each column, of |kernel| [K, N]."""
    graph = onnx.load(path)
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    for layer in find_dense(onnx.load(rows).graph):
        if (kernel := tensors.get(f"{layer.output}.kernel")) is not None:
            scale = np.broadcast_to(step(np.abs(layer.kernel)), layer.bias.shape).astype(np.float32)
            in_bytes = np.rint(layer.kernel / scale).astype(np.int8)
            kernel.CopyFrom(numpy_helper.from_array(in_bytes, kernel.name))
            tensors[f"{kernel.name}_scale"].CopyFrom(numpy_helper.from_array(scale, f"{kernel.name}_scale"))
    onnx.save(graph, path.with_name(name))
    return path.with_name(name)


def session_of(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def running(path: Path, config: MixerConfig, batch_size: int) -> Callable[[], float]:
    session = session_of(path)
    shape = (batch_size, config.num_patches, config.patch_dim)
    patches = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def work() -> float:
        session.run([LOGITS], {INPUT: patches})
        return batch_size

    return work


def judged(path: Path, images: ImageSet, patch_size: int) -> np.ndarray:
    session = session_of(path)
    patches = patchify(images.pixels, patch_size)
    return np.concatenate(
        [session.run([LOGITS], {INPUT: patches[start : start + 10]})[0] for start in range(0, len(patches), 10)]
    )


def report(
    title: str, config: MixerConfig, graphs: dict[str, Path], held_out: ImageSet | None, seconds: float, rounds: int
) -> None:
    """Time and judge the graphs of one network, and print their table."""
    candidates = [
        Candidate(name, running(path, config, BATCH_SIZES[title]), usable_cpus()) for name, path in graphs.items()
    ]
    found = measure(candidates, seconds=seconds, rounds=rounds)
    accuracy = " held-out top-1 | same label as fp32 | largest difference, of the logits' range |"
    judging = held_out is not None
    print(f"\n### {title}, batches of {BATCH_SIZES[title]}, {usable_cpus()} runs of one thread\n")
    print(f"| graph | images/s | against published fp32 (spread) |{accuracy if judging else ''}")
    print("|---|---|---|" + ("---|---|---|" if judging else ""))
    reference = judged(graphs[FP32], held_out, config.patch_size) if held_out is not None else None
    for name, path in graphs.items():
        line = f"| {name} | {found[name].rate:.1f} | {ratio(found[name], found[FP32]):.3f} ({found[name].spread:.0%}) |"
        if held_out is not None and reference is not None:
            logits = judged(path, held_out, config.patch_size)
            top1 = (logits.argmax(axis=1) == held_out.labels).mean()
            same = (logits.argmax(axis=1) == reference.argmax(axis=1)).mean()
            line += f" {top1:.2%} | {same:.2%} | {np.abs(logits - reference).max() / np.ptp(reference):.2g} |"
        print(line, flush=True)


def main() -> None:
    """Write, time and judge the graphs of every network asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    arguments = parser.parse_args()
    for name in ("onnxscript", "torch.onnx", "root"):
        logging.getLogger(name).setLevel(logging.ERROR)
    onnxruntime.set_default_logger_severity(3)
    torch.manual_seed(0)
    for title in arguments.networks:
        config = NETWORKS[title]
        shape = (16, config.image_size, config.image_size, config.channels)
        pixels, held_out = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), None
        model = MlpMixer(config).eval()
        nn.init.normal_(model.head.weight, std=0.02)
        if title == "D" and arguments.data and arguments.checkpoint:
            loaded = checkpoint.load(arguments.checkpoint)
            preprocess_config = PreprocessConfig(loaded.spec.image_size, loaded.spec.channels, loaded.spec.fit)
            dataset = load(arguments.data, preprocess_config, val_fraction=0.05)
            model, pixels, held_out = loaded.model, dataset.train.pixels[:2048], dataset.val
        with tempfile.TemporaryDirectory() as folder:
            graphs = dict(formulations(model, Path(folder)))
            graphs |= dict(quantisations(model, pixels, Path(folder), full=title == "D"))
            report(title, config, graphs, held_out, arguments.seconds, arguments.rounds)


if __name__ == "__main__":
    main()
