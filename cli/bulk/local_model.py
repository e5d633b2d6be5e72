"""A bundle that answers for pictures in this process: read, decode, run. Knows nothing of processes or order."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from itertools import islice

from app import composition
from app.decoding.decoder import DecodeLimits, decode
from app.engine.engine import Engine, find_graphs
from app.engine.runners import Patches
from app.errors import BadParameter, BadSettings, OutOfMemory, ServiceError
from app.inference.answer import Wanted, certainty_of, predictions_of, wanted_of
from app.inference.scores import Scores, scores_of
from app.serving.bundles import find_bundles, open_bundle
from app.settings import Settings
from app.system.quota import Quota
from cli.bulk.entries import LocalFile, Ready, RemoteFile, read_local
from cli.bulk.labeler import Task
from cli.bulk.outcomes import UNREADABLE, Embedded, Failure, Labelled, Outcome, SetOfLabels, failure_of
from cli.bulk.stores import Stores
from model.preprocess import smallest_useful_side, to_patches

_NO_NUMBERS = Failure("inference_failed", "The logits of this picture are not all finite numbers. This is a bug.")


class LocalModel:
    """An open engine and what is wanted of it. `outcomes` may be called from several threads at once."""

    def __init__(self, engine: Engine, limits: DecodeLimits, wanted: Wanted, *, embeds: bool) -> None:
        self._engine, self._limits, self._wanted, self._embeds = engine, limits, wanted, embeds
        self._useful_side = smallest_useful_side(engine.spec)
        self._stores = Stores(limits.max_bytes)

    def outcomes(self, entries: Sequence[Ready]) -> list[Outcome]:
        """What becomes of each, in order."""
        fetched = self._fetched(entries)
        found: list[Outcome | None] = []
        waiting: dict[int, Patches] = {}
        for at, entry in enumerate(entries):
            patches = self._decoded(fetched.get(entry.name, entry.content))
            if isinstance(patches, Failure):
                found.append(patches)
            else:
                found.append(None)
                waiting[at] = patches
        runs = iter(waiting.items())
        while batch := dict(islice(runs, self._engine.max_batch_size)):
            for at, outcome in zip(batch, self._run(list(batch.values())), strict=True):
                found[at] = outcome
        return [outcome for outcome in found if outcome is not None]

    def _fetched(self, entries: Sequence[Ready]) -> Mapping[str, bytes | Failure]:
        """The bytes of those that are elsewhere, by their names, which are their URLs."""
        sizes = {entry.content.url: entry.content.size for entry in entries if isinstance(entry.content, RemoteFile)}
        return self._stores.read(sizes) if sizes else {}

    def _decoded(self, content: object) -> Patches | Failure:
        spec = self._engine.spec
        try:
            if isinstance(content, LocalFile):
                content = read_local(content.path, self._limits.max_bytes)
            if not isinstance(content, bytes):
                return content if isinstance(content, Failure) else Failure(UNREADABLE, "It has no bytes.")
            return to_patches(decode(content, spec.channels, self._useful_side, self._limits), spec)
        except ServiceError as error:
            return failure_of(error)
        except OSError as error:
            return Failure(UNREADABLE, f"It cannot be read: {error.strerror}.")
        except MemoryError:
            return failure_of(OutOfMemory("The picture was not decoded: there is no memory left for it."))

    def _run(self, patches: list[Patches]) -> list[Outcome]:
        """Of each its outcome; where a run fails, each is run alone, so that one does not fail the others."""
        try:
            outputs = self._engine.run(patches)
        except Exception as error:  # noqa: BLE001 -- whatever a run raises belongs to its pictures
            if len(patches) == 1:
                return [Failure("inference_failed", f"The engine failed on this picture: {str(error)[:200]}")]
            return [outcome for one in patches for outcome in self._run([one])]
        return [self._told(scores) for scores in scores_of(outputs, self._engine.spec.temperature)]

    def _told(self, scores: Scores) -> Outcome:
        if math.isnan(scores.probabilities[0]):
            return _NO_NUMBERS
        if self._embeds and scores.embedding is not None:
            return Embedded(scores.embedding)
        spec = self._engine.spec
        predictions = predictions_of(spec, scores, self._wanted.top_k)
        certainty = certainty_of(spec, scores, self._wanted)
        chosen = certainty.get("set")
        label_set = None if chosen is None else SetOfLabels(chosen["coverage"], tuple(chosen["labels"]))
        return Labelled(predictions, certainty.get("uncertain"), scores.energy, label_set)


def open_local(settings: Settings, task: Task, processes: int) -> tuple[LocalModel, dict[str, str]]:
    """The bundle that the settings name, by the service's own code, and what tells it from any other.

    processes: how many share the memory for decoding. Raises: StartError; BadSettings for what the model has not.
    """
    bundles = find_bundles(settings.bundle)
    bundle = bundles.get(settings.default_model) or next(iter(bundles.values()))
    engine = open_bundle(composition.engine_options(settings), bundle).engine
    if task.embeds and engine.embedding_dim is None:
        raise BadSettings(
            f"{engine.spec.name} has no output 'embedding'; expected a bundle exported by this version or later."
        )
    try:
        wanted = wanted_of(engine.spec, task.asked)
    except BadParameter as error:
        raise BadSettings(str(error)) from error
    limits = composition.build_decode_limits(settings, Quota(settings.decode_memory_bytes // processes))
    graph = hashlib.sha256(find_graphs(bundle)[engine.precision].read_bytes()).hexdigest()
    named = {"name": engine.spec.name, "version": engine.spec.version, "precision": engine.precision, "graph": graph}
    return LocalModel(engine, limits, wanted, embeds=task.embeds), named
