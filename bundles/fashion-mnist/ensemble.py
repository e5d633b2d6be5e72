"""Write one graph whose logits are the weighted mean of those of several teachers.

    python bundles/fashion-mnist/ensemble.py OUT.onnx TEACHER.onnx WEIGHT [TEACHER.onnx WEIGHT ...]

Each takes uint8 pixels [N, 28, 28, 1] and gives logits [N, 10], and so does the graph that is written.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper


def ensemble(members: list[onnx.ModelProto], weights: list[float]) -> onnx.ModelProto:
    """The weighted mean of the members' logits; the weights may have any sum above 0."""
    total = sum(weights)
    nodes, constants, scaled = [], [], []
    pixels = members[0].graph.input[0]
    for position, (member, weight) in enumerate(zip(members, weights, strict=True)):
        graph = compose.add_prefix(member, f"teacher{position}_", rename_inputs=False).graph
        for node in graph.node:
            node.input[:] = [pixels.name if name == graph.input[0].name else name for name in node.input]
        nodes += graph.node
        constants += graph.initializer
        factor, share = f"weight{position}", f"share{position}"
        constants.append(numpy_helper.from_array(np.float32(weight / total), factor))
        nodes.append(helper.make_node("Mul", [graph.output[0].name, factor], [share]))
        scaled.append(share)
    nodes.append(helper.make_node("Sum", scaled, ["logits"]))
    graph = helper.make_graph(
        nodes,
        "ensemble",
        [pixels],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=members[0].opset_import, ir_version=members[0].ir_version)
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    if len(sys.argv) < 4 or len(sys.argv) % 2:
        raise SystemExit(__doc__)
    pairs = list(zip(sys.argv[2::2], sys.argv[3::2], strict=True))
    onnx.save(
        ensemble([onnx.load(path) for path, _ in pairs], [float(weight) for _, weight in pairs]), Path(sys.argv[1])
    )
