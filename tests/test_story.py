"""The whole story, by the commands a user types: folders of pictures -> train -> export -> serve -> torch's answer."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import httpx
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from app.main import create_service
from app.settings import Settings
from model.network import checkpoint
from model.preprocess import to_pixels, to_square

pytestmark = [
    pytest.mark.process,
    pytest.mark.training,
    pytest.mark.heavy,
    pytest.mark.timeout(900),
]  # at most a minute here, of many processes that import torch
CLASSES = ("level", "plain", "upright")


def draw(label: str, generator: np.random.Generator) -> Image.Image:
    """Level or upright stripes, or a plain sheet: in random colours, of a random shape, the stripes anywhere."""
    width, height = (int(side) for side in generator.integers(40, 90, 2))
    paper, ink = (tuple(int(value) for value in generator.integers(low, low + 100, 3)) for low in (0, 150))
    image = Image.new("RGB", (width, height), paper if generator.random() < 0.5 else ink)
    pen = ImageDraw.Draw(image)
    fill = ink if image.getpixel((0, 0)) == paper else paper
    for offset in range(int(generator.integers(0, 12)), max(width, height), 12):
        if label == "level":
            pen.line((0, offset, width, offset), fill=fill, width=5)
        elif label == "upright":
            pen.line((offset, 0, offset, height), fill=fill, width=5)
    return image


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/, checkpoint/ and bundle/, made by the commands that the README shows."""
    folder = tmp_path_factory.mktemp("story")
    generator = np.random.default_rng(7)
    for label in CLASSES:
        (folder / "data" / label).mkdir(parents=True)
        for index in range(60):
            suffix = (".png", ".jpg", ".webp")[index % 3]
            draw(label, generator).save(folder / "data" / label / f"{index}{suffix}")
    (folder / "data" / "plain" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    sizes = "--image-size 32 --patch-size 8 --hidden-dim 48 --num-blocks 2 --tokens-mlp-dim 24 --channels-mlp-dim 96"
    recipe = "--epochs 12 --batch-size 32 --learning-rate 5e-3 --seed 1 --name stripes"
    trained = mixer(folder, "train", "data", "--out", "checkpoint", *sizes.split(), *recipe.split())
    assert "broken.jpg is not a readable picture" in trained.stderr
    mixer(folder, "export", "checkpoint", "bundle")
    return folder


def mixer(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments], cwd=folder, check=True, capture_output=True, text=True
    )


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-5), ("fp16", 1e-2), ("int8", 0.1)])
async def test_the_answer_over_http_is_torchs_on_the_same_bytes(
    story: Path, precision: Literal["fp32", "fp16", "int8"], most: float
):
    loaded = checkpoint.load(story / "checkpoint")
    app = create_service(Settings(bundle=story / "bundle", precision=precision)).app
    transport = httpx.ASGITransport(app)
    generator = np.random.default_rng(8)
    right = 0
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        for label in CLASSES * 5:
            path = story / "unseen.jpg"
            draw(label, generator).save(path, quality=90)
            answer = await client.post("/classify", files={"file": path.read_bytes()})
            assert answer.status_code == 200
            predictions = answer.json()["predictions"]
            right += predictions[0]["label"] == label
            with Image.open(path) as image:
                square = to_square(to_pixels(image, 3), 32, loaded.spec.fit, loaded.spec.interpolation)
            logits = torch.from_numpy(checkpoint.torch_logits(loaded.model, square[np.newaxis])[0])
            probabilities = torch.softmax(logits.double() / loaded.spec.temperature, 0).numpy()
            assert answer.json()["model"]["precision"] == precision
            if precision == "fp32":
                assert [prediction["index"] for prediction in predictions] == np.argsort(-probabilities).tolist()
            for prediction in predictions:
                assert prediction["probability"] == pytest.approx(probabilities[prediction["index"]], abs=most)
    assert right >= 13, "and it has learnt something"


def test_the_command_line_classifies_and_inspects_the_same_bundle(story: Path):
    lines = mixer(story, "classify", "data/upright", "--bundle", "bundle", "--json").stdout.splitlines()
    answers = [json.loads(line) for line in lines]
    assert len(answers) == 60
    assert sum(answer["predictions"][0]["label"] == "upright" for answer in answers) >= 54
    spec = json.loads(mixer(story, "inspect", "bundle").stdout)["spec"]
    assert (spec["name"], spec["labels"], spec["metrics"]["data_set"]) == ("stripes", list(CLASSES), "validation split")


def test_checkpoint_and_bundle_are_judged_alike(story: Path):
    (story / "alone").mkdir()
    shutil.copy(story / "bundle" / "fp32.onnx", story / "alone")
    torch_says = mixer(story, "evaluate", "checkpoint", "data").stdout  # it remembers its seed
    graph_says = mixer(story, "evaluate", "alone", "data", "--seed", "1").stdout
    assert "data, validation" in torch_says
    assert torch_says == graph_says


def test_an_export_can_be_measured_on_data(story: Path):
    printed = mixer(story, "export", "checkpoint", "measured", "--data", "data", "--precisions", "fp32,int8").stdout
    assert "measured/fp32.onnx: differs from torch by " in printed
    assert "same best label on 100.0%\n" in printed
    for precision in ("fp32", "int8"):
        assert re.search(rf"^measured/{precision}.onnx: top-1 .*%\) on data, validation$", printed, re.MULTILINE)


def test_other_classes_than_the_bundles_are_refused(story: Path):
    for label in ("cat", "dog"):
        (story / "other" / label).mkdir(parents=True)
        for index in range(3):
            Image.new("RGB", (8, 8)).save(story / "other" / label / f"{index}.png")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        mixer(story, "evaluate", "bundle", "other")
    assert caught.value.returncode == 2
    assert caught.value.stderr.splitlines()[-1] == (
        "mixer: other has 2 class folders that are no labels of this model: 'cat', 'dog'; "
        "expected some of 'level', 'plain', 'upright'."
    )
