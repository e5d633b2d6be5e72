"""Public Mixer checkpoints by name: their addresses, and the preprocessing of their pictures.

`google:imagenet1k/Mixer-B_16` is a file of the reference implementation's bucket (arXiv 2105.01601, 2106.01548,
2203.08065), `timm:mixer_b16_224.goog_in21k_ft_in1k` one of timm's on the Hugging Face hub. A misspelt name is
answered with the nearest ones. Knows nothing of downloads, nor of tensors.
"""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from model.errors import CheckpointError
from model.network.hub import ENDPOINT_VARIABLE
from model.spec import Interpolation

GOOGLE_VARIABLE = "MIXER_GOOGLE_MODELS_URL"
_GOOGLE = "https://storage.googleapis.com/mixer_models"
_HUGGING_FACE = "https://huggingface.co"
_GOOGLE_FILES = {
    "imagenet1k": ("Mixer-B_16", "Mixer-L_16"),
    "imagenet21k": ("Mixer-B_16", "Mixer-L_16"),
    "sam": ("Mixer-B_16", "Mixer-B_32"),
    "gsam": ("Mixer-B_16", "Mixer-B_32", "Mixer-S_16", "Mixer-S_32", "Mixer-S_8"),
}
_TIMM_NAMES = tuple(
    f"mixer_{size}_224.{tag}"
    for size, tags in {
        "b16": ("goog_in21k_ft_in1k", "goog_in21k", "miil_in21k_ft_in1k", "miil_in21k"),
        "l16": ("goog_in21k_ft_in1k", "goog_in21k"),
    }.items()
    for tag in tags
)
_NAMES = (
    *(f"google:{folder}/{model}" for folder, models in _GOOGLE_FILES.items() for model in models),
    *(f"timm:{name}" for name in _TIMM_NAMES),
)
WEIGHT_SUFFIXES = (".npz", ".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
_FOLDERS = ((), ("timm",), ("google",), *((folder,) for folder in _GOOGLE_FILES))  # that may stand before a bare name
TIMM_FILE = "model.safetensors"  # in every repository of timm's
_MOST_NAMED = 4


@dataclass(frozen=True)
class Remote:
    """A checkpoint's address, the name of its file in the cache, and how its pictures are prepared.

    repository, endpoint: of a file on a Hugging Face hub; None for a plain address.
    pixel_mean, pixel_std: in 0..255, for every channel alike. is_imagenet1k: its classes are those of ILSVRC 2012.
    mirror: the variable of the environment that names another host.
    """

    url: str
    filename: str
    pixel_mean: float = 127.5
    pixel_std: float = 127.5
    interpolation: Interpolation = "bicubic"
    is_imagenet1k: bool = False
    mirror: str = GOOGLE_VARIABLE
    repository: str | None = None
    endpoint: str | None = None


def find(name: str, environment: Mapping[str, str] = os.environ) -> Remote | None:
    """The checkpoint called `google:...` or `timm:...`; None for a path.

    The environment may name mirrors: MIXER_GOOGLE_MODELS_URL, and HF_ENDPOINT as for every client of that hub.
    Raises: CheckpointError for an unknown name and for an address, with the nearest names.
    """
    if name in _NAMES:
        origin, _, rest = name.partition(":")
        return _google(rest, environment) if origin == "google" else _timm(rest, environment)
    if is_name(name):
        raise CheckpointError(f"{name} {_unknown(name)}")
    return None


def is_name(text: str) -> bool:
    """Whether this is a name of public weights, known or not, or an address; not a path."""
    if re.match(r"(google|timm|hf|hf-hub|hf_hub|huggingface|torchvision|gs):|https?:/", text, re.IGNORECASE):
        return True
    path = Path(text)
    if path.exists() or path.suffix.lower() in WEIGHT_SUFFIXES or text.startswith((".", "/", "~")):
        return False
    return path.parts[:-1] in _FOLDERS and bool(_meant(text))


def _google(rest: str, environment: Mapping[str, str]) -> Remote:
    base = environment.get(GOOGLE_VARIABLE, _GOOGLE).rstrip("/")
    folder, _, model = rest.partition("/")
    filename, tuned = f"google-{folder}-{model}.npz", folder != "imagenet21k"
    return Remote(f"{base}/{rest}.npz", filename, interpolation="bilinear", is_imagenet1k=tuned)


def _timm(rest: str, environment: Mapping[str, str]) -> Remote:
    base = environment.get(ENDPOINT_VARIABLE, _HUGGING_FACE).rstrip("/")
    remote = Remote(
        f"{base}/timm/{rest}/resolve/main/{TIMM_FILE}",
        f"timm-{rest}.safetensors",
        is_imagenet1k=rest.endswith("_ft_in1k"),
        mirror=ENDPOINT_VARIABLE,
        repository=f"timm/{rest}",
        endpoint=base,
    )
    if ".miil" in rest:  # trained on pixels in [0, 1], as they are
        return replace(remote, pixel_mean=0.0, pixel_std=255.0, interpolation="bilinear")
    return remote


def _unknown(name: str) -> str:
    """Describes an unknown name or an address, with the nearest names."""
    meant = _meant(name)
    if re.match("https?:/", name):
        return "is an address; expected " + (
            f"the name {meant[0]}."
            if meant
            else "google:FOLDER/NAME, timm:NAME, or a file that was downloaded from there."
        )
    known = [known for known in _NAMES if known.startswith(f"{name.partition(':')[0].lower()}:")]
    names = ", ".join(meant or known or _NAMES)
    return f"is not a checkpoint that is known here; expected {'one of ' if ', ' in names else ''}{names}."


def _meant(text: str) -> list[str]:
    """The known names that a text holds, or is a part of; else those most like it. At most _MOST_NAMED."""
    known = {_letters(name.partition(":")[2]): name for name in _NAMES}
    if held := [letters for letters in known if letters in _letters(text)]:
        return [known[max(held, key=len)]]
    part = _letters(re.split("[/:]", text.removesuffix(".npz").removesuffix(".safetensors"))[-1])
    whole = [known[letters] for letters in known if len(part) > 5 and part in letters]  # all names have "mixer"
    like = difflib.get_close_matches(part, known, n=_MOST_NAMED, cutoff=0.7)
    return whole[:_MOST_NAMED] or [known[letters] for letters in like]


def _letters(text: str) -> str:
    """Its letters and digits, in lower case, for comparison with a misspelt name."""
    return re.sub("[^a-z0-9]", "", text.lower())
