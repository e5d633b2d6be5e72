"""A head on a frozen network: what is read, what is written, and how classes are added."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from model.data.dataset import PreprocessConfig
from model.data.loading import load
from model.errors import CheckpointError, DataError, TrainingError
from model.heads import freeze
from model.heads.freeze import Learned, freeze_from
from model.heads.learning import CROSS_VALIDATION, VALIDATION
from model.heads.pictures import listing
from model.network import checkpoint
from model.network.run_folder import EMBEDDINGS
from model.preprocess import patchify
from model.training.options import TrainOptions
from model.training.run_config import TrainCallbacks
from tests.model.heads.conftest import options, write_classes
from tests.model.toys import write_image

pytestmark = [pytest.mark.training, pytest.mark.timeout(60)]
GREY = PreprocessConfig(image_size=8, channels=1)


class Heard:
    """What was told, and how many pictures were read."""

    def __init__(self) -> None:
        self.read = 0
        self.choices: dict[str, str] = {}
        self.findings: list[str] = []

    def run(self, chosen: TrainOptions) -> Learned:
        """Freeze, listening."""
        return freeze_from(
            chosen,
            TrainCallbacks(
                on_reading=lambda done, total: self.count(done),
                on_choices=self.choices.update,
                on_findings=self.findings.extend,
            ),
        )

    def count(self, done: int) -> None:
        """The pictures of one more batch."""
        self.read += done


def test_the_head_is_an_ordinary_checkpoint_and_all_other_weights_are_the_networks(tmp_path: Path, network: Path):
    data = write_classes(tmp_path / "data", 12, "black", "grey", "white")
    learned = Heard().run(options(data, network))
    loaded = checkpoint.load(tmp_path / "out")
    assert loaded.spec.labels == ("black", "grey", "white")
    assert loaded.spec.source.origin == "head trained on the pictures in data, all other weights those of toy"
    assert loaded.images is not None
    before, after = (load_file(folder / "model.safetensors") for folder in (network, tmp_path / "out"))
    assert all(np.array_equal(before[name], after[name]) for name in before if not name.startswith("head."))
    pixels = np.stack([picture.read() for picture in learned.pictures.train])
    found = checkpoint.torch_logits(loaded.model, pixels).argmax(axis=1)
    assert (found == [picture.label for picture in learned.pictures.train]).all()


def test_a_head_with_a_hidden_layer_is_an_ordinary_checkpoint_too_and_adding_classes_keeps_its_width(
    tmp_path: Path, network: Path
):
    old, new = write_classes(tmp_path / "old", 8, "white", "grey"), write_classes(tmp_path / "new", 8, "black")
    first, second = Heard(), Heard()
    learned = first.run(options(old, network, hidden=12, out=tmp_path / "first"))
    assert first.choices["head"].startswith("a hidden layer of 12, ")
    loaded = checkpoint.load(tmp_path / "first")
    assert loaded.model.config.head_hidden_dim == 12
    pixels = np.stack([picture.read() for picture in learned.pictures.train])
    embeddings = loaded.model.embed(torch.from_numpy(patchify(pixels, 4))).detach().numpy()
    judged = learned.judged.fitted.head.logits(embeddings)
    np.testing.assert_allclose(checkpoint.torch_logits(loaded.model, pixels), judged, rtol=0, atol=1e-4)
    added = second.run(options(new, tmp_path / "first", add=True, out=tmp_path / "second"))
    assert (added.checkpoint.model.config.head_hidden_dim, added.checkpoint.spec.num_classes) == (12, 3)
    linear = Heard().run(options(new, tmp_path / "first", add=True, hidden=0, out=tmp_path / "third"))
    assert linear.checkpoint.model.config.head_hidden_dim == 0
    assert (first.read, second.read) == (16, 8), "the trunk is the same, whatever its head"


def test_few_held_out_pictures_are_not_judged_by_but_folds_of_the_training_pictures(tmp_path: Path, network: Path):
    data = write_classes(tmp_path / "data", 5, "black", "white")
    learned = Heard().run(options(data, network))
    assert learned.judged.judged_by == CROSS_VALIDATION
    assert learned.judged.evaluation.num_pictures == 8
    assert learned.judged.on_val.num_pictures == 2
    assert learned.checkpoint.spec.metrics is not None
    assert learned.checkpoint.spec.metrics.data_set == CROSS_VALIDATION


def test_a_picture_of_each_class_leaves_none_to_judge_by(tmp_path: Path, network: Path):
    data = write_classes(tmp_path / "data", 1, "black", "white")
    with pytest.raises(DataError, match=r"data has no readable picture to judge a head by; expected two of a class"):
        Heard().run(options(data, network))
    assert not (tmp_path / "out").exists()


def test_a_validation_set_of_its_own_judges_however_small_it_is(tmp_path: Path, network: Path):
    write_classes(tmp_path / "data" / "train", 5, "black", "white")
    write_classes(tmp_path / "data" / "val", 2, "black", "white", seed=1)
    learned = Heard().run(options(tmp_path / "data", network))
    assert learned.judged.judged_by == VALIDATION
    assert learned.judged.evaluation.num_pictures == 4


def test_what_is_held_out_is_what_evaluation_holds_out(tmp_path: Path, network: Path):
    data = write_classes(tmp_path / "data", 20, "black", "white")
    learned = Heard().run(options(data, network))
    held_out = load(data, GREY).val
    assert [picture.name for picture in learned.pictures.val] == [str(path) for path in held_out.paths]


def test_a_picture_is_embedded_once_however_often_it_is_learnt_from(tmp_path: Path, network: Path):
    data = write_classes(tmp_path / "data", 10, "black", "white")
    first, second = Heard(), Heard()
    first.run(options(data, network))
    (data / "black" / "000.png").rename(data / "black" / "renamed.png")
    second.run(options(data, network, out=tmp_path / "again"))
    assert (first.read, second.read) == (20, 0)


def test_another_network_or_another_way_to_see_pictures_embeds_anew(tmp_path: Path, network: Path, cache: Path):
    data = write_classes(tmp_path / "data", 5, "black", "white")
    Heard().run(options(data, network))
    again = Heard()
    again.run(options(data, network, fit="stretch", out=tmp_path / "stretched"))
    assert again.read == 10
    assert len(list(cache.glob("*.npz"))) == 2


def test_a_class_is_added_without_the_pictures_of_the_others(tmp_path: Path, network: Path):
    old = write_classes(tmp_path / "old", 8, "white", "grey")
    Heard().run(options(old, network, out=tmp_path / "first"))
    old.rename(tmp_path / "gone")
    new = write_classes(tmp_path / "new", 8, "black")
    learned = Heard().run(options(new, tmp_path / "first", add=True, out=tmp_path / "second"))
    assert learned.checkpoint.spec.labels == ("grey", "white", "black")
    others = listing(tmp_path / "gone", GREY, labels=None, val_fraction=0.1, seed=0)
    for label, pictures in (("grey", others.train[:7]), ("white", others.train[7:])):
        pixels = np.stack([picture.read() for picture in pictures])
        found = checkpoint.torch_logits(learned.checkpoint.model, pixels).argmax(axis=1)
        assert {learned.checkpoint.spec.labels[index] for index in found} == {label}


def test_more_pictures_of_a_known_class_are_added_to_it_and_those_known_count_once(tmp_path: Path, network: Path):
    old = write_classes(tmp_path / "old", 8, "black", "white")
    first = Heard()
    first.run(options(old, network, out=tmp_path / "first"))
    more = write_classes(tmp_path / "more", 8, "white", seed=5)
    (more / "white" / "again.png").write_bytes((old / "white" / "001.png").read_bytes())
    second = Heard()
    second.run(options(more, tmp_path / "first", add=True, out=tmp_path / "second"))
    assert second.choices["classes"].startswith("2, of 7 to 14 pictures")


@pytest.mark.parametrize("is_trained", [False, True])
def test_classes_are_added_only_to_a_head_whose_network_is_as_it_was(tmp_path: Path, network: Path, is_trained: bool):
    data = write_classes(tmp_path / "data", 8, "black", "white")
    Heard().run(options(data, network, out=tmp_path / "first"))
    new, start = write_classes(tmp_path / "new", 8, "grey"), network
    message = "has no embeddings.npz; expected a checkpoint that mixer train --freeze has made"
    if is_trained:
        start, message = tmp_path / "first", "is of other weights or another way to see pictures"
        loaded = checkpoint.load(start)
        loaded.model.stem.bias.data += 1
        checkpoint.save(loaded, start)
    with pytest.raises(CheckpointError, match=message):
        Heard().run(options(new, start, add=True, out=tmp_path / "second"))
    assert not (tmp_path / "second").exists()


def test_classes_are_added_only_to_embeddings_that_have_all_of_the_checkpoints(tmp_path: Path, network: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    Heard().run(options(write_classes(tmp_path / "old", 8, "black", "white"), network, out=first))
    Heard().run(options(write_classes(tmp_path / "new", 8, "grey"), first, add=True, out=second))
    (second / EMBEDDINGS).write_bytes((first / EMBEDDINGS).read_bytes())
    more = write_classes(tmp_path / "more", 8, "white", seed=5)
    with pytest.raises(CheckpointError, match=r"embeddings.npz is of 2 classes; expected the 3 of .*second\. Train on"):
        Heard().run(options(more, second, add=True, out=tmp_path / "third"))


def test_a_run_that_is_killed_before_its_checkpoint_is_there_can_be_given_again(tmp_path: Path, network: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    Heard().run(options(write_classes(tmp_path / "old", 8, "black", "white"), network, out=first))
    new = write_classes(tmp_path / "new", 8, "grey")
    Heard().run(options(new, first, add=True, out=second))
    (first / EMBEDDINGS).write_bytes((second / EMBEDDINGS).read_bytes())
    learned = Heard().run(options(new, first, add=True, out=first))
    assert learned.checkpoint.spec.labels == ("black", "white", "grey")


def test_embeddings_are_there_before_the_checkpoint_that_needs_them(
    tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise CheckpointError("The disk is full.")

    monkeypatch.setattr(checkpoint, "save", fail)
    data = write_classes(tmp_path / "data", 8, "black", "white")
    with pytest.raises(CheckpointError, match="full"):
        Heard().run(options(data, network))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [EMBEDDINGS]


def test_one_class_is_none_and_is_told_how_it_could_be_added(tmp_path: Path, network: Path):
    with pytest.raises(DataError, match=r"has 1 class; expected at least 2, or --add with --init"):
        Heard().run(options(write_classes(tmp_path / "data", 8, "black"), network))


def test_doubts_are_told_broken_files_small_classes_and_pictures_on_both_sides(tmp_path: Path, network: Path):
    write_classes(tmp_path / "data" / "train", 12, "black", "white")
    write_classes(tmp_path / "data" / "val", 3, "black", "white", seed=1)
    for index in range(4, 12):
        (tmp_path / "data" / "train" / "black" / f"{index:03}.png").unlink()
    (tmp_path / "data" / "train" / "white" / "broken.png").write_bytes(b"no picture")
    copied = tmp_path / "data" / "val" / "white" / "copied.png"
    copied.write_bytes((tmp_path / "data" / "train" / "white" / "000.png").read_bytes())
    (tmp_path / "data" / "train" / "black" / "copied.png").write_bytes(copied.read_bytes())
    heard = Heard()
    heard.run(options(tmp_path / "data", network))
    told = "\n".join(heard.findings)
    assert "skipped: " in told
    assert "broken.png is not a readable picture" in told
    assert "warning: 1 of 2 classes have fewer than 10 training pictures: black 5." in told
    assert "warning: 1 of 7 validation pictures are training pictures, too" in told
    assert "warning: 1 training pictures have two labels" in told


def test_rare_classes_count_for_more_where_classes_are_uneven(tmp_path: Path, network: Path):
    data = write_classes(tmp_path / "data", 12, "black", "white")
    for index in range(4, 12):
        (data / "black" / f"{index:03}.png").unlink()
    uneven, level = Heard(), Heard()
    uneven.run(options(data, network))
    level.run(options(data, network, balance=0.0))
    assert "rare classes count for more, to the power of 0.5 (--balance)" in uneven.choices["classes"]
    assert "rare" not in level.choices["classes"]


def test_a_run_of_all_weights_is_not_overwritten_and_a_head_is(tmp_path: Path, network: Path):
    data = write_classes(tmp_path / "data", 5, "black", "white")
    Heard().run(options(data, network))
    Heard().run(options(data, network))
    (tmp_path / "out" / "resume.pt").write_bytes(b"")
    with pytest.raises(TrainingError, match="holds a run of all weights; expected another --out"):
        Heard().run(options(data, network))
    assert (tmp_path / "out" / EMBEDDINGS).is_file()


def test_another_checkpoint_is_not_overwritten(tmp_path: Path, network: Path):
    data = write_classes(tmp_path / "data", 5, "black", "white")
    network.rename(tmp_path / "out")
    with pytest.raises(TrainingError, match="out already holds a checkpoint; expected a new folder"):
        Heard().run(options(data, tmp_path / "out"))


def test_a_bundle_with_a_checkpoint_inside_is_a_start_and_one_without_is_none(tmp_path: Path, network: Path):
    data = write_classes(tmp_path / "data", 5, "black", "white")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "fp32.onnx").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a bundle without a checkpoint inside"):
        Heard().run(options(data, bundle))
    network.rename(bundle / "checkpoint")
    assert Heard().run(options(data, bundle)).checkpoint.spec.num_classes == 2


def test_pictures_that_can_no_longer_be_read_are_left_out_of_those_that_prove_an_export(tmp_path: Path):
    kept = write_image(tmp_path / "data" / "black" / "0.png", np.full((8, 8), 3, dtype=np.uint8))
    write_image(tmp_path / "data" / "black" / "1.png", np.full((8, 8), 4, dtype=np.uint8))
    pictures = listing(tmp_path / "data", GREY, labels=None, val_fraction=0.1, seed=0)
    both = [*pictures.train, *pictures.val]
    next(path for path in (tmp_path / "data" / "black").iterdir() if path != kept).unlink()
    pixels, read = freeze.pixels_of(both)
    assert pixels is not None
    assert (len(pixels), [one.name for one in read]) == (1, [str(kept)])
