"""Batch norm at inference is a scale and a shift: it can go into the weights beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..engine import Array

if TYPE_CHECKING:
    from ..layers import BatchNorm
    from ..network import Network


class Linear(NamedTuple):
    """A layer without batch norm: f(X W + b)."""

    W: Array
    b: Array
    activation: str


class Scaling(NamedTuple):
    """A factor and a summand for each unit."""

    scale: Array
    shift: Array


def divisor(norm: BatchNorm, variance: Array) -> Array:
    """What Z - mean is divided by; float64."""
    variance = variance.astype(np.float64)
    if norm.form == "sqrt":
        return np.asarray(np.sqrt(variance + norm.eps))
    return np.asarray(np.sqrt(variance) + norm.eps)


def scaling(layer: Any) -> Scaling:
    """What a layer's batch norm does at inference: gamma (Z - mean) / divisor + beta, float64."""
    scale = layer.gamma / divisor(layer.batch_norm, layer.running_variance)
    return Scaling(scale, layer.beta - scale * layer.running_mean)


def folded(net: Network) -> tuple[list[Linear], Scaling | None]:
    """The network's layers without batch norm, and what is left over behind the last.

    Batch norm before an activation goes into the layer's own weights: with scale k and shift c,
    (X W + b) k + c = X (W k) + (b k + c). Behind an activation it goes into the next layer's:
    (A k + c) W + b = A (k W) + (c W + b), k W scaling the rows. Computed in float64, rounded once.

    Returns:
        Layers in the network's dtype; the scaling behind the last layer, or None.
    """
    layers, behind = [], None
    for layer in net.layers:
        W = layer.W.astype(np.float64)
        b = np.zeros(layer.units) if layer.b is None else layer.b.astype(np.float64)
        if behind is not None:
            W, b = behind.scale[:, None] * W, behind.shift @ W + b
            behind = None
        if layer.batch_norm and layer.batch_norm.position == "before":
            own = scaling(layer)
            W, b = W * own.scale, b * own.scale + own.shift
        elif layer.batch_norm:
            behind = scaling(layer)
        layers.append(Linear(W.astype(net.dtype), b.astype(net.dtype), layer.activation))
    if behind is not None:
        behind = Scaling(*(part.astype(net.dtype) for part in behind))
    return layers, behind
