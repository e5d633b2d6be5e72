"""The shipped model's explanations are those of captum's feature ablation of the network in torch."""

import asyncio
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from app.composition import build_classifier, build_decoding, engine_options
from app.engine.runners import Patches
from app.explanation.baselines import baseline_of
from app.explanation.explainer import Explainer, Explanation
from app.explanation.wanted import Wanted
from app.serving.bundles import find_bundles, open_bundle
from app.settings import Settings
from app.telemetry.metrics import Metrics
from model.network import checkpoint
from model.preprocess import unpatchify

ROOT = Path(__file__).resolve().parents[3]
captum_attr = pytest.importorskip("captum.attr")


class Explained(NamedTuple):
    """An explanation, and the picture's patches as they are and hidden."""

    explanation: Explanation
    patches: Patches
    hidden: Patches
    patch_size: int


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("bundle", "picture"),
    [("clothes", "dress.jpg"), ("clothes", "pants.jpg"), ("fashion-mnist", "fashion-mnist/bag.png")],
)
@pytest.mark.parametrize("baseline", ["mean", "blur"])
def test_occlusion_of_the_fp32_graph_is_feature_ablation_of_the_network(
    bundle: str, picture: str, baseline: str
) -> None:
    folder = ROOT / "bundles" / bundle
    settings = Settings(bundle=folder, precision="fp32", provider="cpu", instances=1)
    payload = (ROOT / "examples" / picture).read_bytes()
    explained = asyncio.run(_explained(folder, settings, payload, baseline))
    patch_size, values = explained.patch_size, explained.explanation.values
    network = checkpoint.load(folder / "checkpoint").model.eval()
    features = torch.arange(values.size).reshape(1, *values.shape, 1)
    for axis in (1, 2):
        features = features.repeat_interleave(patch_size, dim=axis)  # 1 H W 1
    with torch.inference_mode():
        ablated = captum_attr.FeatureAblation(network).attribute(
            _square(explained.patches, patch_size),
            baselines=_square(explained.hidden, patch_size),
            target=explained.explanation.target["index"],
            feature_mask=features,
            perturbations_per_eval=16,
        )
    assert values == pytest.approx(ablated[0, ::patch_size, ::patch_size, 0].numpy(), abs=1e-4)
    assert np.ptp(values) > 0.1


def _square(patches: Patches, patch_size: int) -> torch.Tensor:
    """float32 [1, H, W, C] in 0..255."""
    return torch.from_numpy(unpatchify(patches, patch_size)[np.newaxis].astype(np.float32))


async def _explained(folder: Path, settings: Settings, payload: bytes, baseline: str) -> Explained:
    engine = open_bundle(engine_options(settings), next(iter(find_bundles(folder).values()))).engine
    decoding = build_decoding(settings)
    explainer = Explainer(build_classifier(settings, engine, Metrics(), decoding))
    deadline = asyncio.get_running_loop().time() + 60
    wanted = Wanted(None, "occlusion", baseline)
    explanation = await explainer.explain(payload, wanted, deadline)
    patches = explainer._prepare(wanted, None, payload, math.inf).patches
    decoding.close()
    hidden = baseline_of(patches, engine.spec.patch_size, baseline)
    return Explained(explanation, patches, hidden, engine.spec.patch_size)
