"""Whether explanations tell what an answer rests on: deletion and insertion curves, with quantus as the judge.

    pip install --no-deps --target JUDGES quantus==0.6.0 ...   # see RESULTS.md
    PYTHONPATH=JUDGES python benchmarks/explanations.py FOLDER [--bundle bundles/clothes] [--most 200]

FOLDER: pictures, in any folders below it. Every way to rank the patches of each picture is judged by the probability of
the most probable label of the whole picture, while the patches are hidden (deletion: the lower its area, the better) or
shown (insertion: the higher) in that order, two at a time; as in arXiv 1806.07421, what is hidden has the mean color in
deletion, and is blurred in insertion. Beside the service's methods: patches by chance, and by how much edge they have.
Runs the graph of --precision on a CPU, and prints Markdown.
"""

import argparse
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import quantus
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from app.decoding.decoder import DecodeLimits, decode
from app.engine.engine import Engine, EngineOptions, open_engine
from app.engine.runners import Patches
from app.errors import ServiceError
from app.explanation.baselines import BASELINES, baseline_of
from app.explanation.masks import METHODS
from app.inference.scores import Scores, scores_of
from model.data.scan import scan
from model.preprocess import smallest_useful_side, to_patches, unpatchify
from model.spec import ModelSpec

LIMITS = DecodeLimits(max_bytes=64 << 20, max_pixels=50_000_000)
AT_ONCE = 64
STEP = 2  # patches
SEED = 0
Values = NDArray[np.float64]
Ranking = Callable[[Patches], Values]


def run(engine: Engine, patches: Patches) -> list[Scores]:
    """Of uint8 [n, S, P*P*C], in parts."""
    parts = (patches[start : start + AT_ONCE] for start in range(0, len(patches), AT_ONCE))
    return [one for part in parts for one in scores_of(engine.run(list(part)), engine.spec.temperature)]


def explained(engine: Engine, method: str, baseline: str, patches: Patches) -> Values:
    """What the service answers of one picture, float64 [S]."""
    masks = METHODS[method].masks(patches, baseline_of(patches, engine.spec.patch_size, baseline))
    scores = run(engine, np.concatenate([patches[np.newaxis], masks.masked(0, masks.count)]))
    target = int(scores[0].order[0])
    logits = np.array([one.logits[target] for one in scores], dtype=np.float64)
    return masks.values(logits[0], logits[1:])


def by_chance(generator: np.random.Generator, patches: Patches) -> Values:
    return generator.random(len(patches))


def by_edges(patch_size: int, patches: Patches) -> Values:
    """The mean of Sobel's gradient in each patch."""
    square = unpatchify(patches, patch_size)
    grey = Image.fromarray(square[:, :, 0] if square.shape[2] == 1 else square).convert("L")
    values = np.asarray(grey.filter(ImageFilter.GaussianBlur(1)), dtype=np.float64)
    down, across = np.gradient(values)
    strength = np.hypot(down, across)
    side = math.isqrt(len(patches))
    return strength.reshape(side, patch_size, side, patch_size).mean(axis=(1, 3)).reshape(-1)


class Shown(torch.nn.Module):
    """What quantus takes for the model: [n, 1, side, side], which patches of n pictures are shown, to [n, K]."""

    def __init__(self, engine: Engine, pictures: Patches, hidden: Patches) -> None:
        super().__init__()
        self._engine, self._pictures, self._hidden = engine, pictures, hidden

    def forward(self, shown: torch.Tensor) -> torch.Tensor:
        is_shown = shown.detach().numpy().reshape(len(shown), -1, 1) > 0.5
        scores = run(self._engine, np.where(is_shown, self._pictures, self._hidden))
        return torch.from_numpy(np.array([one.probabilities for one in scores]))


def area(engine: Engine, pictures: Patches, hidden: Patches, values: Values, *, insertion: bool) -> float:
    """The mean area under the curves of n pictures, as a share of 1, by quantus.

    values: float64 [n, S]. The whole picture's most probable label is followed.
    """
    side = math.isqrt(pictures.shape[1])
    targets = np.array([one.order[0] for one in run(engine, pictures)])
    judge = quantus.PixelFlipping(
        features_in_step=STEP,
        normalise=False,
        perturb_baseline=1.0 if insertion else 0.0,
        disable_warnings=True,
    )
    start = np.zeros if insertion else np.ones
    curves = judge(
        model=Shown(engine, pictures, hidden).eval(),
        x_batch=start((len(pictures), 1, side, side)),
        y_batch=targets,
        a_batch=values.reshape(-1, 1, side, side),
        channel_first=True,
        softmax=False,
        batch_size=len(pictures),
    )
    steps = np.array(curves)
    return float(np.trapezoid(steps, axis=1).mean() / (steps.shape[1] - 1))


def rankings(engine: Engine) -> Mapping[str, Ranking]:
    """Every way to rank the patches of a picture, by its name."""
    ways: dict[str, Ranking] = {
        f"{method}, {baseline}": partial(explained, engine, method, baseline)
        for method, baseline in (*(("occlusion", name) for name in BASELINES), ("rise", "mean"))
    }
    ways["edges"] = partial(by_edges, engine.spec.patch_size)
    ways["chance"] = partial(by_chance, np.random.default_rng(SEED))
    return ways


def pictures_in(folder: Path, spec: ModelSpec, most: int) -> Iterator[Patches]:
    """At most so many, evenly spaced."""
    files = [file.path for file in scan(folder).images]
    for at in np.unique(np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)):
        try:
            yield to_patches(decode(files[at].read_bytes(), spec.channels, smallest_useful_side(spec), LIMITS), spec)
        except ServiceError as error:
            print(f"{files[at].name} is left out: {error}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/clothes"))
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--most", type=int, default=200)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # quantus has some of its own
    engine = open_engine(EngineOptions(asked.bundle, "cpu", asked.precision, instances=1, max_batch_size=AT_ONCE))
    pictures = np.stack(list(pictures_in(asked.folder, engine.spec, asked.most)))
    mean, blur = (
        np.stack([baseline_of(one, engine.spec.patch_size, name) for one in pictures]) for name in ("mean", "blur")
    )
    print(f"{asked.bundle.name}, {asked.precision}, {len(pictures)} pictures\n")
    print("| patches by | deletion | insertion |\n|---|---|---|")
    for name, ranking in rankings(engine).items():
        values = np.stack([ranking(one) for one in pictures])
        deletion = area(engine, pictures, mean, values, insertion=False)
        insertion = area(engine, pictures, blur, values, insertion=True)
        print(f"| {name} | {deletion:.3f} | {insertion:.3f} |", flush=True)


if __name__ == "__main__":
    main()
