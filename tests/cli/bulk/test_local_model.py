"""A bundle that answers for batches in this process: every picture its own outcome, whatever the others are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from app.decoding.decoder import DecodeLimits
from app.engine.engine import Engine
from app.engine.instance import Instance
from app.engine.runners import SessionRunner
from app.errors import BadSettings
from app.inference.answer import Wanted
from app.settings import Settings
from cli.bulk.entries import LocalFile, Ready, RemoteFile
from cli.bulk.labeler import Task
from cli.bulk.local_model import LocalModel, open_local
from cli.bulk.outcomes import Embedded, Failure, Labelled, SetOfLabels
from model.spec import Conformal
from tests.app.color_bundle import BLUE, GREEN, RED, color_spec, image, write_bundle
from tests.app.fakes import FakeSession

CLASSIFY, EMBED = Task(embeds=False, asked={}), Task(embeds=True, asked={})


@pytest.fixture
def model(engine: Engine) -> LocalModel:
    return LocalModel(engine, DecodeLimits(2_000, 10_000), Wanted(2), embeds=False)


def test_pictures_are_labelled_wherever_their_bytes_are(model: LocalModel, tmp_path: Path) -> None:
    (tmp_path / "green.png").write_bytes(image(GREEN))
    found = model.outcomes([Ready("a", image(RED)), Ready("b", LocalFile(f"{tmp_path}/green.png"))] * 20)
    labels = [[one["label"] for one in outcome.predictions] for outcome in found if isinstance(outcome, Labelled)]
    assert labels == [["red", "green"], ["green", "red"]] * 20


def test_what_cannot_be_read_or_decoded_has_a_failure_in_its_place(model: LocalModel, tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(bytes(2_001))
    found = model.outcomes(
        [
            Ready("known", Failure("no_pictures", "It holds no pictures.")),
            Ready("broken", image(RED)[:50]),
            Ready("gone", LocalFile(f"{tmp_path}/gone.png")),
            Ready("folder", LocalFile(str(tmp_path))),
            Ready("large", LocalFile(f"{tmp_path}/large.png")),
            Ready("good", image(BLUE)),
            Ready("remote", RemoteFile("memory://gone.png")),
        ]
    )
    codes = [outcome.code if isinstance(outcome, Failure) else "labels" for outcome in found]
    unreadable = "unreadable_file"
    assert codes == [
        "no_pictures", "bad_picture", unreadable, unreadable, "too_many_bytes", "labels", unreadable,
    ]  # fmt: skip


def test_a_local_model_embeds_as_its_graph_does(engine: Engine) -> None:
    model = LocalModel(engine, DecodeLimits(2_000, 10_000), Wanted(1), embeds=True)
    (outcome,) = model.outcomes([Ready("a", image(RED))])
    assert isinstance(outcome, Embedded)
    assert np.array_equal(outcome.embedding, np.tile(np.float32([255, 0, 0]), 16))


def test_certainty_is_told_as_the_service_tells_it(tmp_path: Path) -> None:
    conformal = Conformal(data_set="colours", num_pictures=4, scores=(0.1, 0.2, 0.6, 0.9))
    bundle = write_bundle(tmp_path / "unsure", color_spec(energy_threshold=8.0, conformal=conformal))
    model, _ = open_local(Settings(bundle=bundle), Task(embeds=False, asked={"set": 0.5, "top_k": 1}), processes=1)
    (outcome,) = model.outcomes([Ready("a", image(GREEN))])
    assert isinstance(outcome, Labelled)
    assert (outcome.uncertain, outcome.label_set) == (False, SetOfLabels(0.5, ("green",)))
    assert outcome.energy == pytest.approx(10, abs=1e-3)


def test_a_model_is_told_from_others_by_the_bytes_of_its_graph(bundle: Path, tmp_path: Path) -> None:
    _, one = open_local(Settings(bundle=bundle), CLASSIFY, processes=1)
    _, other = open_local(Settings(bundle=write_bundle(tmp_path, color_spec(temperature=2.0))), CLASSIFY, processes=1)
    assert {name: one[name] for name in ("name", "version", "precision")} == {
        "name": "colours", "version": "7", "precision": "fp32",
    }  # fmt: skip
    assert one["graph"] != other["graph"]


def test_what_the_model_has_not_is_one_line(bundle: Path) -> None:
    with pytest.raises(BadSettings, match="top_k is 4; expected 1 to 3"):
        open_local(Settings(bundle=bundle), Task(embeds=False, asked={"top_k": 4}), processes=1)


def answering(answer: Callable[[NDArray[np.uint8]], Any]) -> LocalModel:
    """A model whose graph answers like that."""
    session = FakeSession(color_spec(), answer)
    engine = Engine(
        [Instance(lambda: SessionRunner(session))], color_spec(), provider="cpu", precision="fp32", fallback=None
    )
    return LocalModel(engine, DecodeLimits(2_000, 10_000), Wanted(1), embeds=False)


def test_a_picture_that_the_engine_fails_on_does_not_fail_the_others() -> None:
    def failing_on_black(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        if (patches.reshape(len(patches), -1).max(axis=1) == 0).any():
            raise RuntimeError("black")
        return np.zeros((len(patches), 3), np.float32)

    model = answering(failing_on_black)
    found = model.outcomes([Ready("a", image(RED)), Ready("black", image((0, 0, 0))), Ready("c", image(BLUE))])
    assert [type(outcome) for outcome in found] == [Labelled, Failure, Labelled]
    assert found[1] == Failure("inference_failed", "The engine failed on this picture: black")


def test_logits_that_are_no_numbers_are_a_failure() -> None:
    (outcome,) = answering(lambda patches: np.full((len(patches), 3), np.nan, np.float32)).outcomes(
        [Ready("a", image(RED))]
    )
    assert isinstance(outcome, Failure)
    assert outcome.code == "inference_failed"


def test_a_graph_without_embeddings_cannot_embed(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, color_spec())
    graph = onnx.load(bundle / "fp32.onnx")
    del graph.graph.output[1]
    onnx.save(graph, bundle / "fp32.onnx")
    with pytest.raises(BadSettings, match="colours has no output 'embedding'"):
        open_local(Settings(bundle=bundle), EMBED, processes=1)
