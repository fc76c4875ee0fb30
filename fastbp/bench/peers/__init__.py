"""Who is measured: a file a library, and one small protocol for all of them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ..shapes import Task


class Peer(Protocol):
    """A task prepared in one library: built, compiled and warmed up when it is made.

    Args of a class that follows it:
        task: start weights, data, rates.
        threads: how many the library may use.
        options: of the peer's entry in `PEERS`.
    """

    def losses(self, steps: int) -> float:
        """Train from the start weights on the first `steps` batches in order: the mean loss.

        Each batch's loss is taken before its update.
        """

    def train(self, epochs: int) -> None:
        """Train over all batches, shuffled anew each epoch, going on from where the weights are."""


@dataclass(frozen=True)
class Spec:
    """Where a peer is found, and what its results may be held to.

    Attributes:
        module: file of this folder, with a class `Implementation`.
        package: what must be installed.
        tolerance: relative difference allowed between its losses and those of the NumPy loop.
        by_affinity: its threads are limited by the cores that the process may use, since the
            library has no switch of its own.
        two_classes_differ: with two classes it trains another network, equal only at the start.
        options: handed to `Implementation`.
    """

    module: str
    package: str
    tolerance: float = 1e-4  # float32, tens of steps: seen at 1e-6
    by_affinity: bool = False
    two_classes_differ: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


OURS: Final = "fastbp"
"""The peer whose time the others' are divided by."""
REFERENCE: Final = "numpy"
"""The peer whose losses all must have."""

PEERS: Final[dict[str, Spec]] = {
    OURS: Spec("fastbp_peer", "fastbp"),
    "fastbp bf16": Spec("fastbp_peer", "fastbp", tolerance=2e-2, options={"precision": "bfloat16"}),
    "torch": Spec("torch_peer", "torch"),
    "torch.compile": Spec("torch_peer", "torch", options={"compiled": True}),
    # Products rounded to 8 bits of mantissa: 2^-8 an operand.
    "torch bf16": Spec("torch_peer", "torch", tolerance=2e-2, options={"bfloat16": True}),
    "jax": Spec("jax_peer", "jax", by_affinity=True),
    "sklearn": Spec("sklearn_peer", "sklearn", two_classes_differ=True),
    REFERENCE: Spec("numpy_loop", "numpy"),
}


def installed() -> list[str]:
    """The peers whose package can be imported, in the order of `PEERS`."""
    return [name for name, spec in PEERS.items() if importlib.util.find_spec(spec.package)]


ON_A_CARD: Final = ("fastbp", "torch", "torch.compile", "jax")
"""Peers that train on a CUDA device where they are asked to; JAX where its own build has one."""


def make(name: str, task: Task, threads: int, device: str = "cpu") -> Peer:
    """The peer `name`, ready to be timed on a task."""
    spec = PEERS[name]
    module = importlib.import_module(f".{spec.module}", __name__)
    options = dict(spec.options)
    if device != "cpu" and name in ON_A_CARD:
        options["device"] = device
    peer: Peer = module.Implementation(task, threads, **options)
    return peer
