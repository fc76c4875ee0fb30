"""PyTorch modules and state dicts as a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import torch
from torch import nn

from ..errors import check_name, shown
from ..kernels.tables import ACTIVATIONS
from ..layers import Dense
from .from_module import from_module
from .from_state_dict import from_state_dict


def read(
    cls: Any,
    source: Any,
    layers: Sequence[Dense | str] | None,
    output: str | None,
    *,
    dtype: Any,
    **options: Any,
) -> Any:
    """`Network.from_torch`."""
    if isinstance(source, nn.Module):
        if layers is not None:
            raise TypeError("layers is for a state dict: a module says itself what its layers are")
        found, tensors = from_module(source), [*source.parameters()]
    elif isinstance(source, Mapping):
        found, tensors = from_state_dict(source, layers), [*source.values()]
    else:
        hint = f"; give torch.load({shown(source)})" if isinstance(source, str | PathLike) else ""
        raise TypeError(f"source={shown(source)} must be an nn.Sequential or a state dict{hint}")
    last = found[-1]
    if output is not None:
        check_name("output", output, ACTIVATIONS)
        behind = last.dropout or (last.batch_norm and last.batch_norm.position == "after")  # type: ignore[union-attr]
        if behind or last.activation not in {None, "identity"}:
            raise ValueError(
                f"output={output!r}, but {last.where} has an activation, batch norm or dropout "
                "behind it already; leave output out"
            )
        last.activation = output
    if dtype is None:
        double = any(getattr(tensor, "dtype", None) == torch.float64 for tensor in tensors)
        dtype = "float64" if double else "float32"
    net = cls(found[0].W.shape[0], [part.dense() for part in found], dtype=dtype, **options)
    for layer, part in zip(net.layers, found, strict=True):
        part.fill(layer)
    return net
