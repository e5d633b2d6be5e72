"""timm's config.json: what it says of a repository's pictures and labels. Knows no tensors and no hosts.

Its keys are those of timm's `pretrained_cfg`: input_size, mean, std, interpolation, crop_pct, crop_mode, beside
architecture, num_classes, label_names and label_descriptions. Older files have all of them at the top. Those that this
project has written have its own spec, too, under OWN_KEY.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import ValidationError

from model.errors import CheckpointError
from model.hubs.remote import Remote
from model.spec import Fit, Interpolation, ModelSpec

OWN_KEY = "mixer_serve"
_MIXERS = "mixer_"  # timm's architectures of the paper; gMixer, ResMLP and gMLP have other layers
_IMAGENET_CLASSES = 1000
_MOST_OF_A_PIXEL = 1000  # of a mean, which is a share of 1; some have 255 there
_GELUS = {"gelu": "erf", "gelu_tanh": "tanh"}
_DEFAULTS = {
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "center",
    "mean": (0.5,) * 3,
    "std": (0.5,) * 3,
}
_NO_TEXT = ("Cc", "Cs", "Zl", "Zp")  # of Unicode: what controls a terminal, ends a line or is no character
_OTHER_SPEC = "its spec is of another version of mixer-serve: temperature, threshold and label sets are not kept."
_BORDER = "crop_mode 'border' adds black strips there, and the picture's own border color here."


def is_timms(path: Path) -> bool:
    """Whether a config.json is timm's. Raises CheckpointError where it cannot be read."""
    return "architecture" in read(path)


def read(path: Path) -> Mapping[str, Any]:
    """The content of a config.json. Raises CheckpointError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds {type(content).__name__}; expected an object with an architecture.")
    return content


def described(remote: Remote, content: Mapping[str, Any], where: str) -> Remote:
    """`remote` with what its repository's config.json says. `where`: that file, for errors.

    Raises: CheckpointError for another architecture than a Mixer's, and for preprocessing that does not exist here.
    """
    architecture = content.get("architecture")
    if not isinstance(architecture, str) or not architecture.startswith(_MIXERS):
        found = f"the architecture {architecture!r}" if architecture else "no architecture"
        raise CheckpointError(f"{where} has {found}; expected a Mixer of timm's, as {_MIXERS}b16_224.")
    try:
        return _described(remote, content)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where} {error}") from error


def _described(remote: Remote, content: Mapping[str, Any]) -> Remote:
    pretrained = content.get("pretrained_cfg")
    given = {**_DEFAULTS, **content, **(pretrained if isinstance(pretrained, Mapping) else {})}
    num_classes = content.get("num_classes", given.get("num_classes"))
    labels = _labels(given.get("label_names"), given.get("label_descriptions"))
    spec, notes = _own_spec(content.get(OWN_KEY))
    border = (_BORDER,) if given["crop_mode"] == "border" and spec is None else ()
    return replace(
        remote,
        spec=spec,
        has_config=False,
        pixel_mean=_pixel_values("mean", given["mean"]),
        pixel_std=_pixel_values("std", given["std"]),
        interpolation=_interpolation(given["interpolation"]),
        fit=_fit(given["crop_mode"], given["crop_pct"]),
        gelu=_gelu(content.get("model_args")),
        labels=labels,
        is_imagenet1k=labels is None and num_classes == _IMAGENET_CLASSES,
        notes=(*border, *notes),
    )


def _own_spec(told: Any) -> tuple[ModelSpec | None, tuple[str, ...]]:
    """What this project has written into the file, and a line where that is of a version with other fields."""
    if not isinstance(told, Mapping):
        return None, ()
    try:
        spec = ModelSpec.model_validate(told.get("spec"))
    except ValidationError:
        return None, (_OTHER_SPEC,)
    texts = (*spec.labels, spec.name, spec.version, spec.variant, spec.source.origin, spec.source.license)
    wrong = next((text for text in texts if not _is_line(text)), None)
    if wrong is not None:
        raise ValueError(f"has {wrong!r} in its spec; expected a line of text.")
    return spec, ()


def _pixel_values(name: str, values: Any) -> tuple[float, ...]:
    """Shares of 1 as values of 0..255, rounded so that a half is 127.5 again."""
    listed = values if isinstance(values, Sequence) and not isinstance(values, str) else ()
    if len(listed) not in (1, 3) or not all(isinstance(value, int | float) for value in listed):
        raise ValueError(f"has {name} {values!r}; expected one number, or one for each of three channels.")
    if not all(abs(value) <= _MOST_OF_A_PIXEL for value in listed):  # JSON of Python has NaN and Infinity
        raise ValueError(f"has {name} {values!r}; expected numbers of at most {_MOST_OF_A_PIXEL}.")
    scaled = tuple(round(255 * value, 6) for value in listed)
    return scaled[:1] if len(set(scaled)) == 1 else scaled


def _interpolation(name: Any) -> Interpolation:
    if name not in get_args(Interpolation):
        raise ValueError(f"has interpolation {name!r}; expected one of {', '.join(get_args(Interpolation))}.")
    return cast(Interpolation, name)


def _fit(mode: Any, share: Any) -> Fit:
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise ValueError(f"has crop_pct {share!r}; expected a number above 0, and at most 1.")
    if mode == "center":
        return Fit(mode="crop", crop_percentage=share)
    if mode in ("squash", "border") and share == 1:
        return Fit(mode="stretch" if mode == "squash" else "pad")
    raise ValueError(f"has crop_mode {mode!r} with crop_pct {share}; expected center, or squash or border with 1.")


def _gelu(arguments: Any) -> Any:
    """Which GELU the blocks have, where the arguments of the architecture say so."""
    layer = arguments.get("act_layer") if isinstance(arguments, Mapping) else None
    if layer is None:
        return None
    if layer not in _GELUS:
        raise ValueError(f"has act_layer {layer!r}; expected {' or '.join(_GELUS)}.")
    return _GELUS[layer]


def _labels(names: Any, descriptions: Any) -> tuple[str, ...] | None:
    """Names, or what they are described as where they are keys of descriptions, as WordNet's ids are; each its own."""
    if names is None:
        return None
    if not isinstance(names, Sequence) or isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError("has label_names that are no list of words; expected one.")
    words = descriptions if isinstance(descriptions, Mapping) else {}
    labels = [str(words.get(name, name)).strip() or name for name in names]
    wrong = next((label for label in labels if not _is_line(label)), None)
    if wrong is not None:
        raise ValueError(f"has the label {wrong!r}; expected a line of text.")
    count = Counter(labels)
    return tuple(label if count[label] == 1 else f"{label} ({index})" for index, label in enumerate(labels))


def _is_line(label: str) -> bool:
    return bool(label) and not any(unicodedata.category(character) in _NO_TEXT for character in label)
