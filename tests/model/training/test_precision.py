import platform
from typing import Any

import pytest
import torch

from model.errors import TrainingError
from model.recipe import RECIPES
from model.training import precision
from model.training.precision import described, expect_fast, has_bf16, precision_for

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(params=[True, False], ids=["bf16", "no-bf16"])
def has_it(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A processor and a GPU that have bfloat16, or have not."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: request.param)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: request.param)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return request.param


@pytest.mark.parametrize("device", [CPU, GPU], ids=["cpu", "gpu"])
def test_auto_is_bf16_where_the_device_has_it(has_it: bool, device: torch.device) -> None:
    assert has_bf16(device) is has_it
    assert precision_for("auto", device) == ("bf16" if has_it else "off")
    what = "GPU" if device.type == "cuda" else "processor"
    words = "bfloat16 (autocast), as the {} has bfloat16" if has_it else "float32, as the {} has no bfloat16"
    assert described("auto", device) == f"precision: {words.format(what)} instructions"


@pytest.mark.parametrize("asked", ["off", "bf16", "fp16"])
@pytest.mark.usefixtures("has_it")
def test_what_is_asked_for_by_name_is_taken(asked: precision.Precision) -> None:
    assert precision_for(asked, CPU) == asked
    assert described("off", CPU) == "precision: float32"


def test_bf16_is_refused_on_a_processor_without_it_with_the_figure_and_the_way_out(has_it: bool) -> None:
    if has_it:
        assert expect_fast("bf16", CPU, allow_slow=False) is None
        return
    with pytest.raises(TrainingError) as caught:
        expect_fast("bf16", CPU, allow_slow=False)
    for part in ("--autocast is 'bf16'", "neither AVX-512 BF16 nor AMX", "20 times", "auto", "--allow-slow-autocast"):
        assert part in str(caught.value)


def test_whoever_insists_is_warned(has_it: bool) -> None:
    warning = expect_fast("bf16", CPU, allow_slow=True)
    assert (warning is None) is has_it
    assert has_it or str(warning).startswith("warning: --autocast is 'bf16'; this processor has neither")


@pytest.mark.parametrize(("asked", "device"), [("auto", CPU), ("off", CPU), ("fp16", CPU), ("bf16", GPU)])
@pytest.mark.usefixtures("has_it")
def test_nothing_else_is_refused(asked: precision.Autocast, device: torch.device) -> None:
    assert expect_fast(asked, device, allow_slow=False) is None


@pytest.mark.usefixtures("has_it")
def test_where_nothing_is_known_of_a_processor_bf16_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert expect_fast("bf16", CPU, allow_slow=False) is None
    assert "looked for on x86 processors and GPUs only" in described("auto", CPU)


@pytest.mark.parametrize("name", RECIPES)
def test_every_named_recipe_leaves_it_to_the_machine(name: str) -> None:
    assert RECIPES[name].autocast == "auto"
