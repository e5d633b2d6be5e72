"""What a run chooses by its pictures and the machine, and how that is told. Knows nothing of steps or files of a run.

Sizes of pictures are read from the heads of files, of a few files alone.
"""

from pathlib import Path

from PIL import Image

from model.data import idx
from model.data.dataset import evenly_spaced
from model.data.scan import FORMATS, scan
from model.network.mixer import num_parameters
from model.recipe import Recipe
from model.training.options import TrainOptions
from model.training.pace import duration
from model.weights.config import MixerConfig

_SHIPPED = Path(__file__).resolve().parents[3] / "bundles" / "clothes"
_FEW = 1000  # pictures: below this, a head on a network that knows photographs beats all weights from random ones
_OWN_WAY = frozenset({"init", "recipe", "teacher", "unfreeze", "freeze", "channels", "hidden_dim", "num_blocks"})
_LOOKED_AT = 50  # files
_SMALL_SIDE, _LEAST_SIDE, _SMALL_PATCH = 40, 16, 4  # pixels
_LONG_S = 3600.0
_IDX_SIDE = 28


def with_sizes(options: TrainOptions) -> TrainOptions:
    """Small pictures as they are, in patches of 4 pixels, where no flag gives sizes and no checkpoint does."""
    given = options.model_fields_set
    if options.init is not None or "image_size" in given or "patch_size" in given:
        return options
    side = _IDX_SIDE if idx.has_split(options.data, "train") else median_side(options.data)
    if side is None or not _LEAST_SIDE <= side <= _SMALL_SIDE:
        return options
    fitting = side - side % _SMALL_PATCH
    return options.model_copy(update={"image_size": fitting, "patch_size": _SMALL_PATCH})


def default_start() -> Path:
    """The bundle whose network a run begins with where no flag names one, wherever it is started; it may be missing."""
    return _SHIPPED.relative_to(Path.cwd()) if _SHIPPED.is_relative_to(Path.cwd()) else _SHIPPED


def with_start(options: TrainOptions, default: Path | None = None) -> TrainOptions:
    """--freeze with the network of a bundle, for few photographs of which no flag says how to train on them.

    default: as `default_start`.
    """
    default = default or default_start()
    given = options.model_fields_set
    if given & (_OWN_WAY | {"image_size", "patch_size", "epochs", "optimizer", "learning_rate", "batch_size"}):
        return options
    if not (default / "checkpoint").is_dir() or not options.data.is_dir() or idx.has_split(options.data, "train"):
        return options
    side = median_side(options.data)
    if side is None or side <= _SMALL_SIDE or len(scan(options.data).images) >= _FEW:
        return options
    return options.model_copy(update={"freeze": True, "init": str(default)})


def median_side(folder: Path) -> int | None:
    """The longer side of a picture in the middle of some that lie in a folder; None where none can be read."""
    files = scan(folder).images
    sides = sorted(side for row in evenly_spaced(len(files), _LOOKED_AT) if (side := _side(files[row].path)))
    return sides[len(sides) // 2] if sides else None


def told(options: TrainOptions, recipe: Recipe, config: MixerConfig, expected_s: float | None) -> list[tuple[str, str]]:
    """A row for each choice, with the flag that chooses otherwise."""
    start = f"{options.init} (--init)" if options.init else "random weights; --init MODEL takes a trained network's"
    size = f"{config.image_size} pixels in patches of {config.patch_size} (--image-size, --patch-size)"
    rows = [
        ("start", start),
        ("network", f"{size}, {num_parameters(config) / 1e6:.2f} million parameters"),
        ("recipe", f"{recipe.optimizer}, rate {recipe.learning_rate:g}, batches of {recipe.batch_size}"),
        ("epochs", f"{recipe.epochs}{_patience(recipe)}"),
    ]
    if recipe.balance:
        rows.append(("classes", f"uneven: rare ones count for more, to the power of {recipe.balance:g} (--balance)"))
    if expected_s is not None:
        hint = "; --freeze trains a head alone, in minutes" if expected_s > _LONG_S else ""
        rows.append(("time", f"about {duration(expected_s)}, by a few steps on this machine{hint}"))
    return rows


def _patience(recipe: Recipe) -> str:
    if not recipe.patience:
        return ""
    return f"; ends after {recipe.patience} without a better validation loss or accuracy (--patience)"


def _side(path: Path) -> int:
    """The longer side in pixels; 0 where it cannot be read."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return max(image.size)
    except Exception:  # noqa: BLE001 -- a broken file raises almost anything; loading it will tell the reason
        return 0
