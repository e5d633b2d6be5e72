"""Two versions of one bundle, and how one takes the other's place on the disk. Knows nothing of who serves them.

They are one graph that is cooled differently: the same logits, other probabilities, so that an answer tells which of
them gave it.
"""

import json
from pathlib import Path

import onnx

from app.engine.engine import find_graphs
from model.spec import METADATA_KEY, ModelSpec

_COOLER = 1.5  # times the temperature


class Shelf:
    """The graph of one precision in a folder of its own. `version`: the one that stands there."""

    def __init__(self, source: Path, precision: str, folder: Path) -> None:
        self.bundle = folder / "bundle"
        self.bundle.mkdir(parents=True, exist_ok=True)
        self._graph = self.bundle / f"{precision}.onnx"
        original = onnx.load(str(find_graphs(source)[precision]))
        spec = ModelSpec.model_validate_json(_entry(original).value)
        other = spec.model_copy(update={"version": f"{spec.version}-cooler", "temperature": spec.temperature * _COOLER})
        self.temperatures = {one.version: one.temperature for one in (spec, other)}
        self._contents = {one.version: _rewritten(original, one) for one in (spec, other)}
        self.version = spec.version
        self._put(self._contents[spec.version])

    def swap(self) -> str:
        """Put the other version in its place. Returns it."""
        self.version = next(version for version in self._contents if version != self.version)
        self._put(self._contents[self.version])
        return self.version

    def spoil(self) -> None:
        """Half a graph in place of a whole one."""
        whole = self._contents[self.version]
        self._put(whole[: len(whole) // 2])

    def mend(self) -> None:
        """What was there before."""
        self._put(self._contents[self.version])

    def _put(self, content: bytes) -> None:
        """In one step: nobody sees half a file that is not meant to be one."""
        beside = self._graph.with_name(f".{self._graph.name}.new")
        beside.write_bytes(content)
        beside.replace(self._graph)


def _entry(graph: onnx.ModelProto) -> onnx.StringStringEntryProto:
    return next(entry for entry in graph.metadata_props if entry.key == METADATA_KEY)


def _rewritten(graph: onnx.ModelProto, spec: ModelSpec) -> bytes:
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    entry = _entry(changed)
    entry.value = json.dumps({**json.loads(entry.value), "version": spec.version, "temperature": spec.temperature})
    return bytes(changed.SerializeToString())
