"""The PyTorch module for each activation and batch norm, and what makes a module ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn

from ..kernels.tables import ELU_ALPHA, LEAKY_SLOPE


class Step(nn.Module):  # type: ignore[misc]
    """1 where the input is 0 or more, else 0; PyTorch has no module for it."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Element by element."""
        return (z >= 0).to(z.dtype)


class Exp(nn.Module):  # type: ignore[misc]
    """e to the power of the input; PyTorch has no module for it."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Element by element."""
        return z.exp()


class SigmaBatchNorm1d(nn.BatchNorm1d):  # type: ignore[misc]
    """Batch norm that divides by sigma + eps, as the lecture notes do, for sqrt(sigma^2 + eps)."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Batch statistics in training, which also move the running ones; those at inference."""
        if self.training:
            variance, mean = torch.var_mean(z, 0, correction=0)
            with torch.no_grad():
                unbiased = variance * (len(z) / (len(z) - 1))
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(unbiased, self.momentum)
                self.num_batches_tracked += 1
        else:
            mean, variance = self.running_mean, self.running_var
        # The least positive number keeps the slope of the root finite where a column is constant.
        sigma = variance.clamp_min(torch.finfo(z.dtype).tiny).sqrt()
        return (z - mean) / (sigma + self.eps) * self.weight + self.bias


MODULES: Final[dict[str, Callable[[], nn.Module]]] = {
    "identity": nn.Identity,
    "step": Step,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(LEAKY_SLOPE),
    "elu": lambda: nn.ELU(ELU_ALPHA),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softmax": lambda: nn.Softmax(dim=1),
    "exp": Exp,
}
"""The module for each activation."""

SETTINGS: Final[dict[str, tuple[tuple[str, tuple[Any, ...]], ...]]] = {
    "leaky_relu": (("negative_slope", (LEAKY_SLOPE,)),),
    "elu": (("alpha", (ELU_ALPHA,)),),
    "softplus": (("beta", (1.0,)), ("threshold", (20.0,))),
    "gelu": (("approximate", ("none",)),),
    "softmax": (("dim", (1, -1)),),
}
"""The settings of a module that decide whether it is ours, and the values that they may have."""

NAMES: Final = {type(make()): name for name, make in MODULES.items()}
"""Activations by the type of their module."""
