"""One of many writers of an output, with the model: a shard in, its file out. Knows no engine."""

from collections.abc import Mapping
from typing import Any

from app.settings import load
from cli.bulk.columns import Classify
from cli.bulk.manifest import OutputError, Run
from cli.bulk.parts import Part, Parts
from cli.bulk.shards import Shard


class ShardWriter:
    """A bundle that answers for whole shards of an output, in a process of an engine.

    sources: what the output is of. wanted: of Classify. begun: what parts of an earlier run say, if there are any.
    Raises: StartError, BadSettings; OutputError where this model or what is wanted of it makes other rows than those.
    """

    def __init__(
        self, output: str, sources: tuple[str, ...], wanted: Mapping[str, Any], begun: Run | None = None
    ) -> None:
        self._classify = Classify(**wanted)
        self._parts, self._most = Parts(output), load().max_image_bytes
        options = {name: wanted[name] for name in ("top_k", "threshold", "coverage") if wanted.get(name) is not None}
        command = "embed" if self._classify.embeds else "classify"
        self._run = Run(command, sources, self._classify.model, options)
        if begun is not None and (difference := begun.difference(self._run)) is not None:
            raise OutputError(f"{output} was begun with {difference}; expected the same to --resume.")

    def write(self, shard: Shard) -> Part:
        """Classify every picture of a shard, and write its file. Raises OutputError, SourceError, MixerError."""
        return self._parts.write(shard, list(self._classify.rows(shard.entries(self._most))), self._run)
