"""The data of a fit: canonical arrays, which of their rows count, and the held-out ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .canonical import is_memory_map, unfit
from .data import as_weights, labels_or_targets
from .engine import Array, Batch
from .errors import check_fraction, plural, shown
from .sampling import split
from .sparse import Sparse, parts

if TYPE_CHECKING:
    from .network import Network
    from .passes import Passes


_PIECE: Final = 8 << 20
"""Bytes of rows that are copied at once, where some of them are asked for."""
NAMES: Final = ("X", "y", "sample_weight")
"""What messages call the data."""
NO_TARGETS: Final = object()
"""For passes that only want outputs."""


@dataclass(frozen=True)
class Data:
    """Canonical arrays, X perhaps sparse, and which of their samples count.

    `screen`: some of it is memory-mapped, so NaN and inf are looked for as rows are gathered.
    """

    X: Array | Sparse
    labels: Array
    targets: Array
    weights: Array
    indices: Array
    screen: bool

    @classmethod
    def canonical(
        cls,
        network: Passes,
        X: Any,
        y: Any,
        sample_weight: Any,
        names: tuple[str, str, str] = NAMES,
        *,
        sparse: bool = True,
    ) -> Data:
        """X, y and weights through the door; errors name the argument. Of NO_TARGETS all are 0."""
        outputs = network._specs[-1].units
        matrix = network._as_matrix(X, names[0], sparse=sparse)
        rows = len(matrix)
        if y is NO_TARGETS:
            labels, targets = np.empty(0, np.int64), np.zeros((rows, outputs), network.dtype)
        else:
            labels, targets = labels_or_targets(
                network._on_host(y), rows, outputs, network.dtype, network.loss_name, names[1]
            )
        weights = np.empty(0, network.dtype)
        if sample_weight is not None:
            given_weights = network._on_host(sample_weight)
            weights = as_weights(given_weights, rows, network.dtype, names[2])
        screen = is_memory_map(parts(matrix)[0]) or is_memory_map(targets)
        return cls(matrix, labels, targets, weights, np.arange(rows), screen)

    @property
    def samples(self) -> int:
        """How many count."""
        return len(self.indices)

    @property
    def counts(self) -> bool:
        """At least one of the samples has a weight."""
        return not self.weights.size or bool(self.weights[self.indices].any())

    def only(self, indices: Array) -> Data:
        """The same arrays, fewer samples."""
        return replace(self, indices=indices)

    def apart(self, given: Any) -> Data:
        """The same samples in memory that is not the caller's; `given` is what X was made of."""
        if not isinstance(self.X, np.ndarray):
            return self.taken(self.indices)
        labels, targets, weights = (a.copy() for a in (self.labels, self.targets, self.weights))
        converts = isinstance(given, np.ndarray) or not hasattr(given, "__array__")
        own = converts and self.X.base is None and self.X is not given
        X = self.X if own or is_memory_map(self.X) else self.X.copy()  # a map stays one
        return replace(self, X=X, labels=labels, targets=targets, weights=weights)

    def taken(self, indices: Array) -> Data:
        """Copies of some samples alone."""
        labels, targets, weights = (
            part[indices] if len(part) else part
            for part in (self.labels, self.targets, self.weights)
        )
        return Data(self.X[indices], labels, targets, weights, np.arange(len(indices)), self.screen)

    @property
    def truth(self) -> Array:
        """Labels or targets of the samples that count."""
        return (self.labels if self.labels.size else self.targets)[self.indices]

    @property
    def weights_or_none(self) -> Array | None:
        """Weights of the samples that count; None where all weigh the same."""
        return self.weights[self.indices] if self.weights.size else None

    def outputs(self, network: Passes) -> Array:
        """What the network gives for the samples that count; few of them are copied at once."""
        if np.array_equal(self.indices, np.arange(len(self.X))):
            return network._infer(self.X, logits=False)
        piece = max(_PIECE // (network.inputs * network.dtype.itemsize), 1)
        parts = [
            network._infer(self.X[self.indices[i : i + piece]], logits=False)
            for i in range(0, self.samples, piece)
        ]
        return np.concatenate(parts) if parts else self.targets[:0]

    def whole(self) -> Batch:
        """The samples that count as one batch."""
        return self.batch(self.indices, np.array([0, self.samples]))

    def batch(self, order: Array, bounds: Array) -> Batch:
        """What the engine takes."""
        X, columns, starts = parts(self.X)
        return Batch(X, self.labels, self.targets, self.weights, order, bounds, columns, starts)

    def check_labels(self, rows: Array) -> None:
        """Raise ValueError where somebody has changed y since it was looked at."""
        if not self.labels.size:
            return
        labels, classes = self.labels[rows], self.targets.shape[1]
        if (bad := (labels < 0) | (labels >= classes)).any():
            row = rows[bad.argmax()]
            raise ValueError(
                f"y[{row}]={self.labels[row]} was changed during the fit: labels are 0 ... "
                f"{classes - 1}. The network has the weights of the last step before it."
            )

    def unfit(self, rows: Array) -> str | None:
        """What to say of the first of `rows` that holds NaN or inf; None if none does."""
        X = self.targets[:0] if isinstance(self.X, Sparse) else self.X  # screened at the door
        for array, name in ((X, "X"), (self.targets, "y")):
            array = np.asarray(array)
            piece = max(_PIECE // max(array[:1].nbytes, 1), 1)
            for start in range(0, len(rows) if len(array) else 0, piece):
                few = rows[start : start + piece]
                if not (finite := np.isfinite(array[few]).all(axis=1)).all():
                    row = int(few[finite.argmin()])
                    return unfit(np.ascontiguousarray(array[row : row + 1]), name, row)
        return None


def door(
    network: Network, X: Any, y: Any, sample_weight: Any, validation: Any, seed: int
) -> tuple[Data, Data | None]:
    """What to train on, and what to hold out; `validation` as for `Trainer.fit`."""
    data = Data.canonical(network, X, y, sample_weight, NAMES)
    data, held, own = hold_out(network, data, validation, seed)
    if held is None or not own or held.screen:
        return data, held
    # Few are read faster side by side, epoch by epoch; X is not copied for it.
    few = held.samples * data.targets.itemsize * network.inputs <= _PIECE
    return data, held.taken(held.indices) if few else held


def hold_out(
    network: Network, data: Data, validation: Any, seed: int
) -> tuple[Data, Data | None, bool]:
    """What to train on, what is held out, and whether that is a part of the same arrays."""
    if validation is None:
        return data, None, False
    if isinstance(validation, tuple | list):
        held = given(network, validation)
        check_weights(data, held)
        return data, held, False
    share = share_of(validation, data.samples)
    return *parted(data, *split(data.samples, share, seed), f"validation={share:g}"), True


def parted(data: Data, train: Array, held: Array, name: str) -> tuple[Data, Data]:
    """Rows to train on and rows held out of the same arrays; `name` is what separates them.

    Raises:
        ValueError: a held-out row of a memory map is not finite, or a part has no weight.
    """
    part, rest = data.only(train), data.only(held)
    message = rest.unfit(held) if data.screen else None
    if message:
        raise ValueError(f"{name}: of the rows held out, {message}")
    check_weights(part, rest)
    return part, rest


def check_weights(data: Data, held: Data | None) -> None:
    """Raise ValueError where no row of one of them counts."""
    for part, name in ((data, "to train on"), (held, "held out for validation")):
        if part is not None and not part.counts:
            raise ValueError(f"sample_weight is 0 for every row {name}; at least one must count.")


def given(network: Network, validation: Any) -> Data:
    """Held-out data that the caller gives: (X, y) or (X, y, weights)."""
    if not isinstance(validation, tuple | list):
        raise ValueError(f"validation={shown(validation)} must be (X, y) or (X, y, weights) here")
    if len(validation) not in {2, 3}:
        raise ValueError(
            f"validation has {plural(len(validation), 'part')}; give (X, y), (X, y, weights), or "
            "a share of the samples above 0 and below 1"
        )
    Xv, yv, *rest = validation
    names = ("validation[0]", "validation[1]", "validation[2]")
    held = Data.canonical(network, Xv, yv, rest[0] if rest else None, names)
    for array, name in zip((parts(held.X)[0], held.targets), names[:2], strict=True):
        if held.screen and len(array) and (message := unfit(array, name)):
            raise ValueError(message)
    return held


def share_of(validation: Any, samples: int) -> float:
    """The argument `validation` as a share of the samples.

    Raises:
        ValueError: it is none, or there is one sample.
    """
    try:
        share = check_fraction("validation", validation)
    except (TypeError, ValueError):
        raise ValueError(
            f"validation={shown(validation)} must be (X, y), (X, y, weights), or a share of the "
            "samples above 0 and below 1"
        ) from None
    if samples < 2:
        raise ValueError(f"validation={share:g} needs at least 2 samples; X has 1 row")
    return share
