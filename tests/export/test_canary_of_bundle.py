"""Whether a network has anything that a canary could tell."""

import numpy as np
import pytest
import torch

from export.canary import tells_apart
from model.network.checkpoint import torch_logits
from tests.export.toy_checkpoints import noise, toy_checkpoint


def test_a_network_tells_pictures_apart():
    assert tells_apart(torch_logits(toy_checkpoint().model, noise(8)))


def test_one_answer_alone_tells_nothing_apart():
    logits = torch_logits(toy_checkpoint().model, noise(1))
    assert not tells_apart(logits)
    assert tells_apart(np.concatenate([logits, torch_logits(toy_checkpoint().model, 255 - noise(1))]))


@pytest.mark.parametrize("bias", [0.0, 1000.0])
def test_a_head_of_zeros_tells_nothing_apart_whatever_its_biases(bias: float):
    model = toy_checkpoint().model
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.constant_(model.head.bias, bias)
    assert not tells_apart(torch_logits(model, noise(8)))


def test_logits_that_are_small_are_no_untrained_head():
    model = toy_checkpoint().model
    with torch.no_grad():
        model.head.weight *= 1e-4
        model.head.bias.zero_()
    assert tells_apart(torch_logits(model, np.concatenate([noise(4), noise(4, seed=2)])))
