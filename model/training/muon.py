"""torch's Muon, whose matrix products are done for all kernels of one shape together. Knows nothing of networks.

A Mixer has its kernels in a few shapes, each once a block, and a product of small matrices costs more in calls than in
arithmetic. What is saved of it is what torch's own saves.
"""

from collections.abc import Callable, Iterable, Mapping
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from model.training.precision import has_bf16


class StackedMuon(torch.optim.Muon):
    """Muon (arXiv 2502.16982) with the learning rate's scale of AdamW.

    `dtype`: of the products. In bfloat16, which torch's own has wherever it runs, a step's weights agree with torch's
    within 1e-5. float32 is for a processor without such products, on which they are slow. None: what suits the device.
    """

    def __init__(
        self,
        kernels: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        dtype: torch.dtype | None = None,
    ) -> None:
        kernels = list(kernels)
        super().__init__(kernels, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        is_fast = kernels[0].device.type != "cpu" or has_bf16(kernels[0].device)
        self._dtype = dtype or (torch.bfloat16 if is_fast else torch.float32)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every kernel that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            kernels = [kernel for kernel in group["params"] if kernel.grad is not None]
            by_shape: dict[tuple[int, ...], list[nn.Parameter]] = {}
            for kernel in kernels:
                by_shape.setdefault(tuple(kernel.shape), []).append(kernel)
            for alike in by_shape.values():
                self._update(alike, group)
        return loss

    def _update(self, kernels: list[nn.Parameter], group: Mapping[str, Any]) -> None:
        gradients = [kernel.grad for kernel in kernels if kernel.grad is not None]
        momenta = [self._momentum(kernel) for kernel in kernels]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = zip(gradients, momenta, strict=True)
        directions = torch.stack([gradient.lerp(momentum, group["momentum"]) for gradient, momentum in ahead])
        steps = orthogonalized(directions.to(self._dtype), group).to(kernels[0].dtype)
        rate = 0.2 * group["lr"] * sqrt(max(kernels[0].shape))
        weights: list[Tensor] = list(kernels)
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, list(steps.unbind()), alpha=-rate)

    def _momentum(self, kernel: nn.Parameter) -> Tensor:
        state = self.state[kernel]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(kernel)
        momentum: Tensor = state["momentum_buffer"]
        return momentum


def orthogonalized(stack: Tensor, group: Mapping[str, Any]) -> Tensor:
    """Each matrix of [n, rows, columns] with its singular values near 1: the iteration of Newton and Schulz.

    group: ns_coefficients, ns_steps and eps of torch's Muon.
    """
    first, second, third = group["ns_coefficients"]
    is_tall = stack.shape[1] > stack.shape[2]
    matrices = stack.mT if is_tall else stack
    matrices = matrices / torch.linalg.matrix_norm(matrices, keepdim=True).clamp(min=group["eps"])
    for _ in range(int(group["ns_steps"])):
        gram = matrices @ matrices.mT
        gram = torch.baddbmm(gram, gram, gram, beta=second, alpha=third)
        matrices = torch.baddbmm(matrices, gram, matrices, beta=first)
    return matrices.mT if is_tall else matrices
