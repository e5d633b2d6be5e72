"""The precision that a run computes in, by what the processor or GPU has. Knows nothing of networks."""

import platform
from typing import Literal

import torch

from model.errors import TrainingError

Autocast = Literal["auto", "off", "bf16", "fp16"]
Precision = Literal["off", "bf16", "fp16"]

_WORDS = {"off": "float32", "bf16": "bfloat16 (autocast)", "fp16": "float16 (autocast)"}


def has_bf16(device: torch.device) -> bool:
    """Whether the device is known to multiply bfloat16 in instructions of its own; a processor: by AVX-512 BF16.

    Processors with AMX have that, too.
    """
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
    if autocast != "bf16" or device.type != "cpu" or not _is_known(device) or has_bf16(device):
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
    if not _is_known(device):
        return f"{words}, as bfloat16 is looked for on x86 processors and GPUs only"
    what = "GPU" if device.type == "cuda" else "processor"
    return f"{words}, as the {what} has {'' if has_bf16(device) else 'no '}bfloat16 instructions"


def _is_known(device: torch.device) -> bool:
    """Whether torch tells what the device has."""
    return device.type == "cuda" or platform.machine() in ("x86_64", "AMD64")
