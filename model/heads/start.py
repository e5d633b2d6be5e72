"""The network that stays as it is: opened, at the resolution asked for, and how it sees pictures."""

from dataclasses import dataclass
from pathlib import Path

from model.data.dataset import PreprocessConfig
from model.errors import TrainingError
from model.heads.cache import EmbeddingCache
from model.heads.trunk import Trunk
from model.hubs.cache import cache_folder
from model.network import checkpoint
from model.network.mixer import MlpMixer
from model.network.transfer import at_resolution
from model.training.options import TrainOptions
from model.training.precision import precision_for
from model.training.processes import device_for
from model.training.run_config import TrainCallbacks
from model.training.start.choices import default_start
from model.training.start.network import open_start, preprocess_config

_EMBEDDINGS = "embeddings"


@dataclass(frozen=True)
class FrozenStart:
    """source: as it was named. key: of the trunk and of how it sees pictures; embeddings are kept by it."""

    source: str
    base: checkpoint.Checkpoint
    model: MlpMixer
    seen: PreprocessConfig
    trunk: Trunk
    key: str

    def cache(self) -> EmbeddingCache:
        """The embeddings of pictures that this network has seen before, in the folder of downloads."""
        return EmbeddingCache(cache_folder() / _EMBEDDINGS / f"{self.key}.npz", self.trunk.width)


def open_frozen(options: TrainOptions, callbacks: TrainCallbacks) -> FrozenStart:
    """The network of --init, or of the default bundle. Raises CheckpointError, TrainingError."""
    source = options.init or str(default_start())
    if options.init is None and not Path(source).is_dir():
        raise TrainingError(f"--freeze is given without --init, and there is no {source} here; expected a network.")
    base = open_start(source, callbacks.on_download)
    seen = preprocess_config(options, base)
    device = device_for(options.device)
    model = at_resolution(base.model, seen.image_size).eval()
    trunk = Trunk(model, device, half=precision_for(options.chosen_recipe().autocast, device) == "bf16")
    return FrozenStart(source, base, model, seen, trunk, trunk.key(seen))
