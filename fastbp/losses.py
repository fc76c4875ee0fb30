"""Which loss a network has, and whether it fits the range of the last layer."""

from __future__ import annotations

import math
from typing import Final

from .errors import check_name
from .kernels.tables import ACTIVATIONS, LOSS_ALIASES, LOSSES
from .layers import Dense
from .warn import warn

_DEFAULTS: Final = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy"}


def choose_loss(loss: str | None, last: Dense, index: int) -> str:
    """The name of the loss in the table; warns where the last layer lets no gradient through.

    Args:
        loss: a name or an alias; None: cross_entropy after softmax, binary_cross_entropy after
            sigmoid, squared_error otherwise, and where batch norm stands behind it.
        last: the last layer.
        index: its place, for messages.

    Raises:
        ValueError: an unknown name, or outputs that leave the domain of the loss.
        TypeError: not a string.

    >>> choose_loss("nllm", Dense(3, "softmax"), 0), choose_loss(None, Dense(1), 0)
    ('cross_entropy', 'squared_error')
    """
    if loss is None:
        loss = _DEFAULTS.get(last.activation, "squared_error")
        if last.batch_norm and last.batch_norm.position == "after":
            loss = "squared_error"
    loss = loss_named("loss", loss)
    low, high = output_range(last)
    domain = LOSSES[loss]
    if low < domain.low or high > domain.high:
        raise ValueError(
            f"loss={loss!r} needs outputs in [{domain.low:g}, {domain.high:g}], but the last "
            f"layer ({last.activation}) gives [{low:g}, {high:g}]; end in {domain.pairs[0]!r} "
            "without dropout or batch norm after it, or use 'squared_error'"
        )
    if last.activation == "softmax" and last.units == 1:
        warn(
            f"layer {index}, the last, is a softmax over one output, which is always 1: every "
            "gradient is 0 and no weight can be learned; use 'sigmoid' with "
            "loss='binary_cross_entropy', or more outputs",
            UserWarning,
        )
    elif loss == "cross_entropy" and last.units == 1:
        warn(
            f"layer {index}, the last, has one output, and loss='cross_entropy' has no term for "
            "what is not of its class: the output goes to 1 for all; use 'binary_cross_entropy'",
            UserWarning,
        )
    if last.activation == "step":
        warn(
            f"layer {index}, the last, is a step function: its derivative is 0 everywhere, so "
            "every gradient below it is 0 and no weight can be learned; use 'sigmoid'",
            UserWarning,
        )
    return loss


def output_range(last: Dense) -> tuple[float, float]:
    """Bounds of what a layer can give in training.

    >>> output_range(Dense(3, "sigmoid", dropout=0.5))
    (0.0, 2.0)
    """
    entry = ACTIVATIONS[last.activation]
    if last.batch_norm and last.batch_norm.position == "after":
        return -math.inf, math.inf
    return entry.low / (1.0 - last.dropout), entry.high / (1.0 - last.dropout)


def loss_named(argument: str, name: str) -> str:
    """The name of a loss in the table, aliases resolved.

    >>> loss_named("loss", "nllm")
    'cross_entropy'
    """
    check_name(argument, name, (*LOSSES, *LOSS_ALIASES))
    found: str = LOSS_ALIASES.get(name, name)
    return found
