"""What a run takes from the checkpoint that it starts with."""

from pathlib import Path

import numpy as np

from model.network.checkpoint import Checkpoint
from model.spec import Fit
from model.tilt import packed
from model.training.options import TrainOptions
from model.training.start.network import preprocess_config
from tests.model.toys import random_mixer, toy_config, toy_spec


def test_a_tilt_is_of_its_own_things_and_is_left_behind() -> None:
    tilt = packed(((np.zeros((4, 1), np.float32), np.zeros(1, np.float32)),), beyond=9)
    fit = Fit(mode="pad", background="black", frame="thing", tilt=tilt)
    base = Checkpoint(random_mixer(toy_config()), toy_spec(fit=fit), {}, None)
    kept = preprocess_config(TrainOptions(data=Path("data"), out=Path("out")), base).fit
    assert kept == Fit(mode="pad", background="black", frame="thing")
    changed = preprocess_config(TrainOptions(data=Path("data"), out=Path("out"), frame="picture"), base).fit
    assert changed == Fit(mode="pad", background="black")
