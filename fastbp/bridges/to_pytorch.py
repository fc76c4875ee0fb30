"""A network as PyTorch modules. PyTorch stores W transposed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ..errors import entry_for
from .torch_modules import MODULES, SigmaBatchNorm1d

if TYPE_CHECKING:
    from ..network import Network


def export(net: Network, logits: bool) -> nn.Sequential:
    """`Network.to_torch`."""
    last = net.layers[-1]
    after = last.batch_norm and last.batch_norm.position == "after"
    if logits and (after or last.dropout):
        raise ValueError(
            f"logits=True: layer {last.index}, the last, has batch norm or dropout behind its "
            f"activation ({last.activation}), so there are no logits to end in; give False"
        )
    modules: list[nn.Module] = []
    for layer in net.layers:
        position = layer.batch_norm.position if layer.batch_norm else None
        modules.append(_linear(layer))
        if position == "before":
            modules.append(_norm(layer))
        if logits and layer is last:
            pass
        elif layer.activation != "identity":
            modules.append(entry_for(MODULES, layer.activation, "PyTorch module")())
        elif position == "after":  # it tells on which side the batch norm is
            modules.append(nn.Identity())
        if position == "after":
            modules.append(_norm(layer))
        if layer.dropout:
            modules.append(nn.Dropout(layer.dropout))
    return nn.Sequential(*modules).eval()


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def _linear(layer: Any) -> nn.Linear:
    dtype = torch.float32 if layer.W.dtype == np.float32 else torch.float64
    module = nn.utils.skip_init(
        nn.Linear, layer.inputs, layer.units, bias=layer.b is not None, dtype=dtype
    )
    with torch.no_grad():
        module.weight.copy_(_tensor(layer.W.T))
        if layer.b is not None:
            module.bias.copy_(_tensor(layer.b))
    return module


def _norm(layer: Any) -> nn.BatchNorm1d:
    norm = layer.batch_norm
    kind = nn.BatchNorm1d if norm.form == "sqrt" else SigmaBatchNorm1d
    dtype = torch.float32 if layer.W.dtype == np.float32 else torch.float64
    module = kind(layer.units, eps=norm.eps, momentum=norm.momentum, dtype=dtype)
    names = {"weight": "gamma", "bias": "beta",
             "running_mean": "running_mean", "running_var": "running_variance"}  # fmt: skip
    with torch.no_grad():
        for theirs, ours in names.items():
            getattr(module, theirs).copy_(_tensor(getattr(layer, ours)))
    return module
