"""The commands that learn: mistakes are one line, and nothing is loaded that is not needed."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cli.learning import evenly
from cli.main import app
from cli.terminal import require_extra
from model.errors import DataError, ExportError, FlagError, MixerError
from model.flags import parse
from model.network import checkpoint
from model.recipe import Recipe
from model.training.options import TrainOptions

pytestmark = pytest.mark.timeout(300)
runner = CliRunner()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    generator = np.random.default_rng(3)
    for label, level in (("dark", 40), ("light", 200)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for index in range(8):
            pixels = (level + generator.integers(0, 30, (10, 10, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{index}.png")
    return tmp_path / "data"


TINY = "--image-size 8 --patch-size 4 --hidden-dim 8 --num-blocks 1 --tokens-mlp-dim 4 --channels-mlp-dim 8 --epochs 2"


def run(*arguments: object) -> str:
    """What a command prints; whatever it raises is raised here."""
    outcome = runner.invoke(app, [str(argument) for argument in arguments])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    return outcome.stdout


def idx_folder(folder: Path, labels: list[int]) -> Path:
    folder.mkdir()
    count = len(labels)
    images = np.arange(count * 64, dtype=np.uint32).astype(np.uint8).tobytes()
    for split in ("train", "t10k"):
        header = b"\0\0\x08\3" + b"".join(number.to_bytes(4, "big") for number in (count, 8, 8))
        (folder / f"{split}-images-idx3-ubyte").write_bytes(header + images)
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\1" + count.to_bytes(4, "big") + bytes(labels))
    return folder


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epochs", "0"], "--epochs is '0': input should be greater than or equal to 1."),
        (["--optimizer", "lion"], "--optimizer is 'lion': input should be 'adamw', 'adam', 'sgd' or 'muon'."),
        (["--fit", "squeeze"], "--fit is 'squeeze': input should be 'crop', 'pad' or 'stretch'."),
        (["--no-such-flag", "1"], "--no-such-flag is no option of mixer train. See mixer train --help."),
        (
            ["--batch-sise", "1"],
            "--batch-sise is no option of mixer train; the nearest is --batch-size. See mixer train --help.",
        ),
    ],
)
def test_an_impossible_flag_is_one_line(data: Path, flags: list[str], message: str):
    with pytest.raises(FlagError) as caught:
        run("train", data, "--out", data.parent / "out", *flags)
    assert str(caught.value) == message
    assert not (data.parent / "out").exists()


def test_training_needs_data_and_chooses_the_folder_to_write():
    with pytest.raises(FlagError, match=r"^DATA is missing. See mixer train --help.$"):
        run("train")
    with pytest.raises(FlagError, match=r"^DATA is missing."):
        run("train", "--out", "run")
    assert parse(TrainOptions, ["my/photos"], "mixer train").out == Path("checkpoints/photos")
    unfrozen = ["my/photos", "--init", "checkpoints/photos", "--unfreeze"]
    assert parse(TrainOptions, unfrozen, "mixer train").out == Path("checkpoints/photos-unfrozen")


def test_sizes_that_do_not_fit_each_other_are_named(data: Path):
    with pytest.raises(MixerError, match="image_size is 10; expected a multiple of patch_size 4"):
        run("train", data, "--out", data.parent / "out", "--image-size", 10, "--patch-size", 4)


@pytest.mark.training
def test_a_run_does_not_depend_on_the_environment(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EPOCHS", "0")
    monkeypatch.setenv("MIXER_EPOCHS", "0")
    assert "validation pictures" in run("train", data, "--out", data.parent / "out", *TINY.split())


def test_every_flag_of_training_is_explained():
    assert not [name for name, field in TrainOptions.model_fields.items() if not field.description]
    assert set(Recipe.model_fields) < set(TrainOptions.model_fields)


@pytest.mark.training
def test_idx_files_take_their_names_from_a_file_and_are_judged_on_their_test_split(tmp_path: Path):
    data = idx_folder(tmp_path / "idx", [0, 1] * 10)
    (tmp_path / "labels.txt").write_text("even\nodd\n")
    grey = [*TINY.split(), "--channels", 1, "--labels", tmp_path / "labels.txt"]
    run("train", data, "--out", tmp_path / "checkpoint", *grey)
    run("export", tmp_path / "checkpoint", tmp_path / "bundle", "--data", data, "--precisions", "fp32")
    assert "idx, test" in run("evaluate", tmp_path / "bundle", data)
    assert '"even"' in run("inspect", tmp_path / "bundle")


@pytest.mark.training
def test_data_with_other_classes_is_refused(data: Path):
    run("train", data, "--out", data.parent / "out", *TINY.split())
    (data / "light").rename(data / "bright")
    with pytest.raises(DataError, match=r"that is no label of this model: 'bright'; expected some of 'dark', 'light'"):
        run("evaluate", data.parent / "out", data)


def imported(folder: Path, *labels: str) -> Path:
    """A public checkpoint whose seven classes are these, in this order."""
    folder.mkdir()
    (folder / "labels.txt").write_text("\n".join(labels))
    source = Path(__file__).parent / "vectors" / "google_tiny.npz"
    run("import", source, folder / "checkpoint", "--labels", folder / "labels.txt")
    return folder / "checkpoint"


@pytest.mark.heavy
def test_a_model_whose_labels_are_in_no_order_is_judged_and_calibrated_on_folders_of_these_names(data: Path):
    source = imported(data.parent / "imported", "light", "zebra", "dark", "ape", "10", "9", "1")
    judged = runner.invoke(app, ["evaluate", str(source), str(data)])
    assert judged.exit_code == 0
    assert "google_tiny on data, validation, 2 of 7 classes" in " ".join(judged.stdout.split())
    assert f"{data} has 2 of the model's 7 classes." in judged.stderr
    (data.parent / "alone").mkdir()
    data.rename(data.parent / "alone" / "Valid")
    exported = runner.invoke(
        app, ["export", str(source), str(data.parent / "bundle"), "--data", str(data.parent / "alone")]
    )
    assert "has no training pictures; int8 takes its scales from those that measure it." in exported.stderr
    assert "int8.onnx" in exported.stdout


@pytest.mark.training
def test_what_is_judged_is_told_with_its_interval(data: Path):
    run("train", data, "--out", data.parent / "out", *TINY.split())
    judged = runner.invoke(app, ["evaluate", str(data.parent / "out"), str(data)])
    assert "2 validation pictures (held out of the training pictures) of 2 classes" in judged.stderr
    assert re.search(r"│ +2 │ +\d+\.\d\d% │ \d+\.\d% to \d+\.\d% │", judged.stdout)


@pytest.mark.training
def test_training_tells_what_it_found_and_how_sure_its_accuracy_is(data: Path):
    trained = runner.invoke(app, ["train", str(data), "--out", str(data.parent / "out"), *TINY.split()])
    assert (
        "2 classes: 14 training pictures, 2 validation pictures (held out of the training pictures)" in trained.stderr
    )
    assert "  warning  2 validation pictures are few to judge by" in trained.stderr
    assert re.search(r"top-1 \d+\.\d\d% \(95 % interval \d+\.\d% to \d+\.\d%\) on 2 validation", trained.stdout)


def test_a_missing_extra_is_named_with_the_command_that_installs_it():
    with pytest.raises(MixerError, match=r"needs no_such_module; install it with: scripts/install cpu,train,export$"):
        require_extra("no_such_module")


# --- from a checkpoint ---


@pytest.mark.training
def test_training_goes_on_from_a_checkpoint_with_its_sizes_and_head(data: Path):
    run("train", data, "--out", data.parent / "first", *TINY.split())
    run("train", data, "--out", data.parent / "second", "--init", data.parent / "first", "--epochs", 1, "--flip", 0)
    first, second = (checkpoint.load(data.parent / name) for name in ("first", "second"))
    assert second.model.config == first.model.config
    assert second.spec.source.origin == "trained on the pictures in data, starting with the weights of first"
    assert not torch.equal(first.model.head.weight, second.model.head.weight)
    distance = (first.model.stem.weight - second.model.stem.weight).abs().max()
    assert distance < 0.02, "one step away, not another random start"


@pytest.mark.training
def test_other_classes_get_a_new_head_and_a_higher_resolution_more_tokens(data: Path):
    run("train", data, "--out", data.parent / "first", *TINY.split())
    (data / "middle").mkdir()
    for index in range(4):
        Image.new("RGB", (9, 9), (120, 120, 120 + index)).save(data / "middle" / f"{index}.png")
    flags = ["--init", data.parent / "first", "--image-size", 16, "--epochs", 1]
    run("train", data, "--out", data.parent / "second", *flags)
    spec = checkpoint.load(data.parent / "second").spec
    assert (spec.labels, spec.image_size, spec.patch_size) == (("dark", "light", "middle"), 16, 4)


@pytest.mark.training
def test_an_imported_checkpoint_is_a_start_too(data: Path):
    source = Path(__file__).parent / "vectors" / "google_tiny.npz"
    run("import", source, data.parent / "google")
    run("train", data, "--out", data.parent / "out", "--init", data.parent / "google", "--epochs", 1)
    tuned = checkpoint.load(data.parent / "out")
    assert (tuned.model.config.gelu, tuned.spec.fit.mode, tuned.spec.interpolation) == ("tanh", "crop", "bilinear")


@pytest.mark.training
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--patch-size", 2], "patch_size is 2; the checkpoint has 4."),
        (["--image-size", 12], "image_size is 12; expected a multiple of the checkpoint's 8."),
    ],
)
def test_sizes_that_are_not_the_checkpoints_are_named(data: Path, flags: list[object], message: str):
    run("train", data, "--out", data.parent / "first", *TINY.split())
    with pytest.raises(MixerError) as caught:
        run("train", data, "--out", data.parent / "second", "--init", data.parent / "first", *flags)
    assert str(caught.value) == message


@pytest.mark.training
def test_a_run_is_not_resumed_from_other_initial_weights(data: Path):
    for seed in (1, 2):
        run("train", data, "--out", data.parent / f"start{seed}", *TINY.split(), "--seed", seed)
    run("train", data, "--out", data.parent / "out", "--init", data.parent / "start1", "--epochs", 1)
    with pytest.raises(MixerError, match="holds a run from other initial weights"):
        run("train", data, "--out", data.parent / "out", "--init", data.parent / "start2", "--epochs", 1)


@pytest.mark.training
def test_a_checkpoint_is_judged_on_the_split_it_was_trained_with(data: Path):
    split = ["--seed", 5, "--val-fraction", 0.25]
    run("train", data, "--out", data.parent / "out", *TINY.split(), *split)
    run("export", data.parent / "out", data.parent / "bundle", "--precisions", "fp32")
    judged = run("evaluate", data.parent / "out", data)
    assert judged == run("evaluate", data.parent / "bundle", data, *split)
    assert judged.splitlines()[4].split()[1] == "4", "a quarter of 16 pictures"


@pytest.mark.training
def test_a_report_is_written_where_it_is_asked_for(data: Path):
    run("train", data, "--out", data.parent / "out", *TINY.split())
    printed = run("evaluate", data.parent / "out", data, "--report", data.parent / "report")
    assert printed.splitlines()[-1] == str(data.parent / "report" / "report.html")
    assert "out on data, validation" in (data.parent / "report" / "report.html").read_text()


def test_an_import_does_not_write_among_class_folders(data: Path):
    (data / "pictures").mkdir()
    with pytest.raises(MixerError, match=r"data is no checkpoint and holds dark, light, pictures; expected"):
        run("import", Path(__file__).parent / "vectors" / "timm_tiny.safetensors", data)
    assert names(data) == ["dark", "light", "pictures"]


@pytest.mark.training
def test_training_starts_from_public_weights_by_their_name(data: Path, monkeypatch: pytest.MonkeyPatch):
    timm, place = "timm:mixer_b16_224.goog_in21k", "timm-mixer_b16_224.goog_in21k.safetensors"
    cache = data.parent / "mixer-serve"
    cache.mkdir()
    shutil.copy(Path(__file__).parent / "vectors" / "timm_tiny.safetensors", cache / place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(data.parent))
    run("train", data, "--out", data.parent / "out", "--init", timm, "--epochs", 1)
    spec = checkpoint.load(data.parent / "out").spec
    assert spec.source.origin == f"trained on the pictures in data, starting with the weights of {Path(place).stem}"
    with pytest.raises(MixerError, match=r"expected one of .*timm:mixer_b16_224\.goog_in21k,"):
        run("train", data, "--out", data.parent / "other", "--init", "timm:mixer_b16_224")


def test_a_gpu_that_is_not_there_is_one_line(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(MixerError, match=r"^--device is 'cuda': torch finds no GPU; expected one, or --device cpu.$"):
        run("train", data, "--out", data.parent / "out", *TINY.split(), "--device", "cuda")


def test_import_by_name_says_where_it_could_not_fetch_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MixerError, match=r"http://127.0.0.1:9/timm/mixer_b16_224.miil_in21k/.* cannot be downloaded"):
        run("import", "timm:mixer_b16_224.miil_in21k", tmp_path / "out", "--cache", tmp_path / "cache")
    assert not (tmp_path / "out").exists()


# --- a bundle of several precisions ---


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def graphs(bundle: Path) -> list[str]:
    return sorted(path.name for path in bundle.glob("*.onnx"))


@pytest.mark.training
def test_an_export_says_of_each_graph_how_near_and_how_good_it_is(data: Path):
    run("train", data, "--out", data.parent / "out", *TINY.split(), "--val-fraction", 0.25)
    bundle = data.parent / "bundle"
    exported = runner.invoke(app, ["export", str(data.parent / "out"), str(bundle), "--data", str(data)])
    assert exported.exit_code == 0
    assert "not published" not in exported.stderr
    assert "earlier" not in exported.stderr
    lines = iter(exported.stdout.splitlines())
    for precision in ("fp32", "fp16", "int8"):
        start = re.escape(f"{bundle}/{precision}.onnx: ")
        near = r"differs from torch by \d\.\de-\d\d of the logits' range on 4 pictures, same best label on \d+\.\d%"
        assert re.fullmatch(start + near, next(lines))
        accurate = r"top-1 \d+\.\d\d% \(95 % interval \d+\.\d% to \d+\.\d%\) on data, validation"
        assert re.fullmatch(start + accurate, next(lines))
    assert list(lines) == []
    assert graphs(bundle) == ["fp16.onnx", "fp32.onnx", "int8.onnx"]
    assert {"README.md", "card.json"} < set(names(bundle)), "the model card"


@pytest.mark.heavy
def test_only_the_precisions_that_are_asked_for_are_written_and_fp32(data: Path):
    run("train", data, "--out", data.parent / "out", *TINY.split())
    bundle = data.parent / "bundle"
    bundle.mkdir()
    for name in ("fp32.onnx", "fp16.onnx"):
        (bundle / name).write_bytes(b"of an earlier export")
    exported = runner.invoke(app, ["export", str(data.parent / "out"), str(bundle), "--precisions", "int8"])
    printed = exported.stdout
    assert [line.partition(":")[0] for line in printed.splitlines()] == [f"{bundle}/{p}.onnx" for p in ("fp32", "int8")]
    assert "top-1" not in printed, "without DATA nothing is measured"
    assert f"replaced, as of an earlier export: {bundle}/fp32.onnx\n" in exported.stderr
    assert f"removed, as of an earlier export: {bundle}/fp16.onnx\n" in exported.stderr
    assert graphs(bundle) == ["fp32.onnx", "int8.onnx"]
    assert b"of an earlier export" not in (bundle / "fp32.onnx").read_bytes()


def test_an_export_into_class_folders_is_refused_before_anything_is_read(data: Path):
    with pytest.raises(ExportError, match=r"data is no bundle and holds dark, light; expected a new folder"):
        run("export", data.parent / "no checkpoint", data)
    assert names(data) == ["dark", "light"]


@pytest.mark.heavy
def test_an_untrained_head_is_exported_with_a_warning(data: Path):
    run("train", data, "--out", data.parent / "out", *TINY.split())
    trained = checkpoint.load(data.parent / "out")
    torch.nn.init.zeros_(trained.model.head.weight)
    checkpoint.save(trained, data.parent / "untrained")
    command = ["export", str(data.parent / "untrained"), str(data.parent / "bundle"), "--precisions", "fp32"]
    exported = runner.invoke(app, command)
    assert exported.exit_code == 0
    assert "warning: The network gives every picture the same answer, as an untrained head does" in exported.stderr


@pytest.mark.parametrize(
    ("precisions", "word"), [("int4", "int4"), ("fp32, bf16", "bf16"), ("fp32,", ""), ("", ""), ("INT8", "INT8")]
)
def test_a_precision_that_is_none_is_named(tmp_path: Path, precisions: str, word: str):
    with pytest.raises(ExportError) as caught:
        run("export", tmp_path / "checkpoint", tmp_path / "bundle", "--precisions", precisions)
    assert str(caught.value) == f"precisions names '{word}'; expected some of fp32, fp16, int8."
    assert not (tmp_path / "bundle").exists()


@pytest.mark.heavy
def test_without_pictures_int8_takes_its_scales_from_every_row_and_says_so(tmp_path: Path):
    source = Path(__file__).parent / "vectors" / "google_tiny.npz"
    run("import", source, tmp_path / "checkpoint")
    exported = runner.invoke(app, ["export", str(tmp_path / "checkpoint"), str(tmp_path / "bundle")])
    assert exported.exit_code == 0, exported.output
    assert exported.stderr == (
        "int8.onnx takes its scales from every row, as the checkpoint has no pictures; with --data it is faster.\n"
        f"{tmp_path}/bundle/README.md: the model card\n"
    )
    printed = [line.partition(":")[0] for line in exported.stdout.splitlines()]
    assert printed == [f"{tmp_path}/bundle/{precision}.onnx" for precision in ("fp32", "fp16", "int8")]
    assert graphs(tmp_path / "bundle") == ["fp16.onnx", "fp32.onnx", "int8.onnx"]


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 1), (63, 63), (64, 64), (65, 33), (127, 64), (128, 64), (1000, 63)]
)
def test_pictures_are_taken_from_the_first_class_to_the_last(count: int, expected: int):
    pixels = np.arange(count).reshape(-1, 1, 1, 1)
    taken = evenly(pixels, 64)  # type: ignore[arg-type]
    assert len(taken) == expected <= 64
    assert taken[0] == 0
    assert taken[-1] >= count - count / expected
    assert len(np.unique(np.diff(taken.ravel()))) <= 1
