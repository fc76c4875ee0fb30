"""What is read of a layer of PyTorch's, module or state dict, and handed to a network's.

A bias in front of batch norm, which PyTorch keeps and a network has not, is subtracted again with
the mean: it is taken off the running mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..errors import plural, shown
from ..layers import BatchNorm, Dense


class Found:
    """One layer of what is read: its linear part, its batch norm, and the rest of its `Dense`."""

    def __init__(self, where: str, weight: Any, bias: Any) -> None:
        self.where = where
        self.W = _numbers(weight, where).T
        self.b = np.zeros(self.W.shape[1]) if bias is None else _numbers(bias, where)
        self.norm: dict[str, Any] = {}
        self.batch_norm: BatchNorm | bool = False
        self.activation: str | None = None
        self.identity = False  # an nn.Identity stood between Linear and batch norm
        self.dropout = 0.0

    def take_norm(self, where: str, numbers: Mapping[str, Any]) -> None:
        """Scale, shift and running statistics; those that are None are the identity's."""
        if numbers.get("running_mean") is None or numbers.get("running_var") is None:
            raise ValueError(f"{where} has no running statistics: track_running_stats must be True")
        units = self.W.shape[1]
        identity = {"weight": np.ones(units), "bias": np.zeros(units)}
        for name in ("weight", "bias", "running_mean", "running_var"):
            value = numbers.get(name)
            array = identity[name] if value is None else _numbers(value, where)
            if array.shape != (units,):
                raise ValueError(
                    f"{where} normalises {plural(len(array), 'unit')}, but the Linear before it "
                    f"({self.where}) has {units}"
                )
            self.norm[name] = array

    def dense(self) -> Dense:
        """The description."""
        norm = self.batch_norm
        if self.identity and self.activation is None and isinstance(norm, BatchNorm):
            norm = replace(norm, position="after")
        return Dense(
            self.W.shape[1], self.activation or "identity", batch_norm=norm, dropout=self.dropout
        )

    def fill(self, layer: Any) -> None:
        """Put the numbers into the network's layer."""
        layer.W = self.W
        if self.norm:
            layer.gamma, layer.beta = self.norm["weight"], self.norm["bias"]
            layer.running_mean = self.norm["running_mean"]
            layer.running_variance = self.norm["running_var"]
        if layer.b is not None:
            layer.b = self.b
        else:  # batch norm would subtract it with the mean
            layer.running_mean = self.norm["running_mean"] - self.b


def _numbers(tensor: Any, where: str) -> Any:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{where}={shown(tensor)} must be a tensor")
    if tensor.is_complex() or tensor.is_quantized:
        raise TypeError(f"{where} is of dtype {tensor.dtype}; give real floating-point weights")
    if tensor.is_meta:
        raise TypeError(f"{where} is on the meta device, without numbers; load its weights first")
    return tensor.detach().cpu().to(torch.float64).numpy()


def check_fits(found: list[Found], inputs: int, where: str) -> None:
    """A layer takes as many inputs as the one before has outputs."""
    if found and found[-1].W.shape[1] != inputs:
        raise ValueError(
            f"{where} has {plural(inputs, 'input')}, but {found[-1].where} before it has "
            f"{plural(found[-1].W.shape[1], 'output')}"
        )
