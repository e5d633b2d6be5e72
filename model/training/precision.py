"""The precision that a run computes in, by what the processor or GPU has. Knows nothing of networks."""

import platform
from typing import Literal

import torch

from model.errors import TrainingError

Autocast = Literal["auto", "off", "bf16", "fp16"]
Precision = Literal["off", "bf16", "fp16"]

_WORDS = {"off": "float32", "bf16": "bfloat16 (autocast)", "fp16": "float16 (autocast)"}


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in instructions of its own; on x86: AVX-512 BF16, which AMX implies."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())  # noqa: SLF001 -- torch tells it nowhere else


def precision_for(autocast: Autocast, device: torch.device) -> Precision:
    """`auto` is bfloat16 where the device has it, else float32; all else is itself."""
    if autocast != "auto":
        return autocast
    return "bf16" if has_bf16(device) else "off"


def expect_fast(autocast: Autocast, device: torch.device, *, allow_slow: bool) -> str | None:
    """A warning where bfloat16 is asked for on an x86 processor without it and slowness is allowed; else None.

    Raises: TrainingError where slowness is not allowed.
    """
    is_slow = autocast == "bf16" and device.type == "cpu" and platform.machine() in ("x86_64", "AMD64")
    if not is_slow or has_bf16(device):
        return None
    slow = (
        "this processor has neither AVX-512 BF16 nor AMX, and a step takes up to about 20 times as long as in float32"
    )
    if allow_slow:
        return f"warning: --autocast is 'bf16'; {slow}."
    raise TrainingError(
        f"--autocast is 'bf16'; {slow}. Expected auto, which is float32 here, or off; "
        "--allow-slow-autocast trains in bf16 all the same."
    )


def described(autocast: Autocast, device: torch.device) -> str:
    """The precision in words, and why where it was chosen here."""
    words = f"precision: {_WORDS[precision_for(autocast, device)]}"
    if autocast != "auto":
        return words
    what = "GPU" if device.type == "cuda" else "processor"
    return f"{words}, as the {what} has {'' if has_bf16(device) else 'no '}bfloat16 instructions"
