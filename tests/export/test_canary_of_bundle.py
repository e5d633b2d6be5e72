"""Whether a network has anything that a canary could tell."""

import numpy as np
import pytest
import torch

from export.canary import tells_apart
from tests.export.toy_checkpoints import noise, toy_checkpoint


def test_a_network_tells_pictures_apart():
    assert tells_apart(toy_checkpoint().model, noise(8))


def test_one_picture_is_told_from_its_negative():
    assert tells_apart(toy_checkpoint().model, noise(1))


@pytest.mark.parametrize("bias", [0.0, 1000.0])
def test_a_head_of_zeros_tells_nothing_apart_whatever_its_biases(bias: float):
    model = toy_checkpoint().model
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.constant_(model.head.bias, bias)
    assert not tells_apart(model, noise(8))


def test_logits_that_are_small_are_no_untrained_head():
    model = toy_checkpoint().model
    with torch.no_grad():
        model.head.weight *= 1e-4
        model.head.bias.zero_()
    assert tells_apart(model, np.concatenate([noise(4), noise(4, seed=2)]))
