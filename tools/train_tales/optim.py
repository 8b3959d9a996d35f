"""Muon: momentum steps made orthogonal, for the matrices inside the layers."""

from __future__ import annotations

import collections

import torch
from torch import Tensor

# Quintic coefficients that pull all singular values towards one quickly.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonalise(matrices: Tensor) -> Tensor:
    """Approximate the nearest (semi-)orthogonal matrix of each in a batch."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay.

    The step is scaled to the size an AdamW step would have, so that both
    optimisers can share a learning rate.
    """

    def __init__(
        self, params: list[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every matrix; those of one shape go through together."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = collections.defaultdict(list)
            for param in group["params"]:
                by_shape[param.shape].append(param)
            for params in by_shape.values():
                self._step_together(params, group)

    def _step_together(self, params: list[Tensor], group: dict) -> None:
        momentum, lr = group["momentum"], group["lr"]
        looks_ahead = []
        for param in params:
            state = self.state[param]
            if not state:
                state["momentum"] = torch.zeros_like(param)
            state["momentum"].lerp_(param.grad, 1 - momentum)
            looks_ahead.append(param.grad.lerp(state["momentum"], momentum))
        scale = 0.2 * max(params[0].shape) ** 0.5
        updates = orthogonalise(torch.stack(looks_ahead))
        for param, update in zip(params, updates, strict=True):
            param.mul_(1 - lr * group["weight_decay"])
            param.add_(update, alpha=-lr * scale)
