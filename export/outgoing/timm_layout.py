"""A checkpoint in the layout of timm's repositories: model.safetensors, config.json and, where needed, an entry point.

`timm.create_model("local-dir:DIR", pretrained=True)` reads it, with the transform of pretrained_cfg. Written for timm
1.0.31, without timm. Knows nothing of model cards.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from model.errors import ExportError
from model.hubs.timm_config import OWN_KEY
from model.network.checkpoint import Checkpoint
from model.network.checkpoint_folder import CONFIG, WEIGHTS, write_failure
from model.spec import Fit, ModelSpec
from model.weights.config import MixerConfig
from model.weights.layouts import TIMM

ENTRY_POINT = "timm_mixer.py"
_OWN_NAME = "mixer_of_any_size"
_NAMES = {  # hidden_dim, num_blocks, patch_size: what timm's own entry points fix
    (512, 8, 32): "mixer_s32_224",
    (512, 8, 16): "mixer_s16_224",
    (768, 12, 32): "mixer_b32_224",
    (768, 12, 16): "mixer_b16_224",
    (1024, 24, 32): "mixer_l32_224",
    (1024, 24, 16): "mixer_l16_224",
}
_GELUS = {"erf": "gelu", "tanh": "gelu_tanh"}  # by timm's names
_CROP_MODES = {"crop": "center", "pad": "border", "stretch": "squash"}
_ENTRY_POINT_CODE = f'''"""Makes timm know the network of this folder: import it before timm.create_model.

timm's own entry points fix hidden_dim, number of blocks and patch size, and their GELU is the exact one.
"""

from functools import partial

from timm.models import build_model_with_cfg, register_model
from timm.models.mlp_mixer import MlpMixer
from torch import nn


@register_model
def {_OWN_NAME}(pretrained=False, act_layer="gelu", **kwargs):
    """An MLP-Mixer (arXiv 2105.01601) of the sizes in kwargs. act_layer: "gelu", "gelu_tanh", or a class."""
    known = {{"gelu": nn.GELU, "gelu_tanh": partial(nn.GELU, approximate="tanh")}}
    act_layer = known.get(act_layer, act_layer)
    return build_model_with_cfg(MlpMixer, "{_OWN_NAME}", pretrained, act_layer=act_layer, **kwargs)
'''


def write_layout(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the files into `folder`, which exists. Raises ExportError where it cannot be written."""
    try:
        save_file(timm_tensors(checkpoint), folder / WEIGHTS, metadata={"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(timm_config(checkpoint), indent=2) + "\n", encoding="utf-8")
        (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)  # safetensors lets nobody but the owner read
        if needs_entry_point(checkpoint.model.config):
            (folder / ENTRY_POINT).write_text(_ENTRY_POINT_CODE, encoding="utf-8")
        else:
            (folder / ENTRY_POINT).unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {write_failure(error, folder)}") from error


def expect_network_of_timm(config: MixerConfig) -> None:
    """Raises ExportError for a network that timm cannot build: one with a hidden layer in its head."""
    if config.head_hidden_dim:
        raise ExportError(
            f"The head has a hidden layer of {config.head_hidden_dim}, which timm's Mixer has not; expected a linear "
            "head (mixer train --freeze without --hidden)."
        )


def needs_entry_point(config: MixerConfig) -> bool:
    """Whether no entry point of timm's own builds this network."""
    return config.gelu != "erf" or (config.hidden_dim, config.num_blocks, config.patch_size) not in _NAMES


def timm_tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The weights by timm's names, in float32: all as they are, but the stem's as those of a convolution."""
    config = checkpoint.model.config
    state = checkpoint.model.state_dict()
    tensors = {entry.theirs: state[entry.ours].detach().float().cpu() for entry in TIMM.entries(config)}
    patch = (config.hidden_dim, config.patch_size, config.patch_size, config.channels)
    tensors[TIMM.first] = tensors[TIMM.first].reshape(patch).permute(0, 3, 1, 2)  # C C_in P P
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def timm_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """What stands in config.json: the entry point with its arguments, the labels, pretrained_cfg, and our own spec.

    timm passes over the spec, by which this project answers with the temperature and the threshold of before.
    """
    config, spec = checkpoint.model.config, checkpoint.spec
    return {
        "architecture": _OWN_NAME if needs_entry_point(config) else _NAMES[_fixed(config)],
        "num_classes": config.num_classes,
        "num_features": config.hidden_dim,
        "global_pool": "avg",
        "label_names": list(spec.labels),
        "model_args": model_args(config),
        "pretrained_cfg": _pretrained_cfg(config, spec),
        OWN_KEY: {"spec": spec.model_dump(mode="json", exclude={"canary", "network"}, exclude_none=True)},
    }


def model_args(config: MixerConfig) -> dict[str, Any]:
    """The arguments of the entry point, by timm's names."""
    args: dict[str, Any] = {
        "img_size": config.image_size,
        "in_chans": config.channels,
        "mlp_ratio": [_ratio(dim, config.hidden_dim) for dim in (config.tokens_mlp_dim, config.channels_mlp_dim)],
    }
    if needs_entry_point(config):
        args |= {"embed_dim": config.hidden_dim, "num_blocks": config.num_blocks, "patch_size": config.patch_size}
        args["act_layer"] = _GELUS[config.gelu]
    return args


def transform_notes(spec: ModelSpec) -> tuple[str, ...]:
    """In what timm's transform sees pictures otherwise than this project does, one line each."""
    notes = []
    if spec.fit.mode == "pad":
        notes.append("timm pads with the mean color (crop_mode border), this project with the picture's own border")
    if spec.fit.mode == "crop":
        notes.append(
            "timm resizes the picture to whole pixels and then crops it, this project cuts the square out while it "
            "resizes: pixels differ a little where the picture is no square"
        )
    if spec.fit.background != "any":
        notes.append(f"timm does not exchange light and dark: give it pictures with a {spec.fit.background} background")
    if spec.fit.frame == "thing":
        notes.append("timm lays no frame around the thing: cut the pictures so that it fills them")
    if spec.fit.tilt is not None:
        notes.append("timm turns nothing back: give it things that stand upright")
    if spec.channels == 1:
        notes.append("timm takes pictures as they are: make them grey first, as in the example")
    if spec.temperature != 1:
        notes.append(f"divide the logits by the temperature {spec.temperature:g} before softmax")
    return tuple(notes)


def _pretrained_cfg(config: MixerConfig, spec: ModelSpec) -> dict[str, Any]:
    return {
        "input_size": [config.channels, config.image_size, config.image_size],
        "fixed_input_size": True,
        "interpolation": spec.interpolation,
        "crop_pct": _crop_percentage(spec.fit),
        "crop_mode": _CROP_MODES[spec.fit.mode],
        "mean": [value / 255 for value in _per_channel(config.pixel_mean, config.channels)],
        "std": [value / 255 for value in _per_channel(config.pixel_std, config.channels)],
        "num_classes": config.num_classes,
        "first_conv": "stem.proj",
        "classifier": "head",
        "license": spec.source.license.lower(),
    }


def _crop_percentage(fit: Fit) -> float:
    return fit.crop_percentage if fit.mode == "crop" else 1.0


def _per_channel(values: tuple[float, ...], channels: int) -> list[float]:
    return list(values) if len(values) == channels else [values[0]] * channels


def _ratio(mlp_dim: int, hidden_dim: int) -> float:
    """The ratio of which timm makes mlp_dim again: it multiplies and cuts off what is behind the point."""
    ratio = mlp_dim / hidden_dim
    return ratio if int(ratio * hidden_dim) == mlp_dim else math.nextafter(ratio, math.inf)


def _fixed(config: MixerConfig) -> tuple[int, int, int]:
    return config.hidden_dim, config.num_blocks, config.patch_size
