"""Public Mixer checkpoints by name: their addresses, and the preprocessing of their pictures.

`google:imagenet1k/Mixer-B_16` is a file of the reference implementation's bucket (arXiv 2105.01601, 2106.01548,
2203.08065), `timm:mixer_b16_224.goog_in21k_ft_in1k` one of timm's on the Hugging Face hub, and `hf-hub:ORG/REPO` any
repository there in timm's layout. `@REVISION` after a name of the hub is a branch, a tag or a commit. A misspelt name
is answered with the nearest ones. Knows nothing of downloads, nor of tensors.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from model.errors import CheckpointError
from model.hubs.remote import Remote

GOOGLE_VARIABLE = "MIXER_GOOGLE_MODELS_URL"
ENDPOINT_VARIABLE = "HF_ENDPOINT"
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
_HUB = "hf-hub:"
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)\w[\w./-]*", re.ASCII)  # as git has names, without those that leave a folder
_HUB_ADDRESS = re.compile(r"https?://(?:www\.)?huggingface\.co/(\w[\w.-]*/\w[\w.-]*)/?(?:tree/([\w.-]+)/?)?", re.ASCII)


def find(name: str, environment: Mapping[str, str] = os.environ) -> Remote | None:
    """The checkpoint called `google:...`, `timm:...[@REVISION]` or `hf-hub:ORG/REPO[@REVISION]`; None for a path.

    The environment may name mirrors: MIXER_GOOGLE_MODELS_URL, and HF_ENDPOINT as for every client of that hub.
    Raises: CheckpointError for an unknown name and for an address, with the nearest names.
    """
    origin, _, rest = name.partition(":")
    if name in _NAMES and origin == "google":
        return _google(rest, environment)
    plain, at, revision = name.partition("@")
    if plain in _NAMES and origin == "timm":
        return _timm(rest.partition("@")[0], _revision(name, at, revision), environment)
    if name.startswith(_HUB):
        return _hub(name, plain.removeprefix(_HUB), _revision(name, at, revision), environment)
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


def as_written(path: Path) -> str:
    """A name or an address as it was before it became a path, which loses one of two slashes."""
    return re.sub("^(https?:/)(?!/)", r"\1/", str(path))


def _google(rest: str, environment: Mapping[str, str]) -> Remote:
    base = (environment.get(GOOGLE_VARIABLE) or _GOOGLE).rstrip("/")
    folder, _, model = rest.partition("/")
    filename, tuned = f"google-{folder}-{model}.npz", folder != "imagenet21k"
    return Remote(f"{base}/{rest}.npz", filename, interpolation="bilinear", is_imagenet1k=tuned, mirror=GOOGLE_VARIABLE)


def _timm(rest: str, revision: str, environment: Mapping[str, str]) -> Remote:
    remote = replace(
        _on_hub(f"timm/{rest}", revision, f"timm-{rest}", environment), is_imagenet1k=rest.endswith("_ft_in1k")
    )
    if ".miil" in rest:  # trained on pixels in [0, 1], as they are
        return replace(remote, pixel_mean=(0.0,), pixel_std=(255.0,), interpolation="bilinear")
    return remote


def _hub(name: str, repository: str, revision: str, environment: Mapping[str, str]) -> Remote:
    if not _REPOSITORY.fullmatch(repository):
        raise CheckpointError(f"{name} names no repository; expected {_HUB}ORG/REPO, or {_HUB}ORG/REPO@REVISION.")
    filename = f"hf-hub-{repository.replace('/', '-')}"
    return replace(_on_hub(repository, revision, filename, environment), has_config=True)


def _on_hub(repository: str, revision: str, filename: str, environment: Mapping[str, str]) -> Remote:
    base = (environment.get(ENDPOINT_VARIABLE) or _HUGGING_FACE).rstrip("/")
    at = "" if revision == "main" else f"-{revision.replace('/', '-')}"
    return Remote(
        f"{base}/{repository}/resolve/{revision}/{TIMM_FILE}",
        f"{filename}{at}.safetensors",
        mirror=ENDPOINT_VARIABLE,
        repository=repository,
        endpoint=base,
        revision=revision,
    )


def _revision(name: str, at: str, revision: str) -> str:
    if not at:
        return "main"
    if not _REVISION.fullmatch(revision):
        raise CheckpointError(f"{name} has the revision {revision!r}; expected a branch, a tag or a commit.")
    return revision


def _unknown(name: str) -> str:
    """Describes an unknown name or an address, with the nearest names."""
    meant = _meant(name)
    if re.match("https?:/", name):
        return f"is an address; expected {_instead_of(name, meant)}"
    known = [known for known in _NAMES if known.startswith(f"{name.partition(':')[0].lower()}:")]
    if repository := re.fullmatch(r"(?:hf|hf_hub|huggingface):(.+)", name, re.IGNORECASE):
        known = [f"{_HUB}{repository[1]}"]
    names = ", ".join(meant or known or _NAMES)
    return f"is not a checkpoint that is known here; expected {'one of ' if ', ' in names else ''}{names}."


def _instead_of(address: str, meant: list[str]) -> str:
    if meant:
        return f"the name {meant[0]}."
    if page := _HUB_ADDRESS.fullmatch(address):
        return f"the name {_HUB}{page[1]}{'@' + page[2] if page[2] else ''}."
    return f"google:FOLDER/NAME, timm:NAME, {_HUB}ORG/REPO, or a file that was downloaded from there."


def _meant(text: str) -> list[str]:
    """The known names that a text holds, or is a part of; else those most like it. At most _MOST_NAMED."""
    known = {_letters(name.partition(":")[2]): name for name in _NAMES}
    file = text.removesuffix(".npz").removesuffix(".safetensors")
    part = _letters(re.split("[/:]", file)[-1])
    whole = [known[letters] for letters in known if len(part) > 5 and part in letters]  # all names have "mixer"
    held = [letters for letters in known if letters in _letters(text)]
    if held and (part in known or not whole):  # a name with its end missing may hold a shorter one
        return [known[max(held, key=len)]]
    whole.sort(key=lambda name: name.partition(":")[0] != text.partition(":")[0].lower())  # its own origin first
    return whole[:_MOST_NAMED] or [known[letters] for letters in _like(_letters(file.partition(":")[2]), part, known)]


def _like(after_origin: str, part: str, known: Iterable[str]) -> list[str]:
    """Those most like all that follows the origin; where none is, those most like the last part of it."""
    alike = (difflib.get_close_matches(text, known, n=_MOST_NAMED, cutoff=0.7) for text in (after_origin, part))
    return next(filter(None, alike), [])


def _letters(text: str) -> str:
    """Its letters and digits, in lower case, for comparison with a misspelt name."""
    return re.sub("[^a-z0-9]", "", text.lower())
