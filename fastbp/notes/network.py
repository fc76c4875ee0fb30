"""Forward pass and back-propagation of one sample, with every Jacobian written out.

A layer is ``(W, W0, activation name)`` with W (m, n) and W0 (n, 1).  A pass returns one record (a
dict) for each layer, and ``records[l]`` belongs to layer l as the notes count: ``records[0]`` holds
the input, ``A^0 = x``.
"""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from .activations import ACTIVATIONS, activation_jacobian
from .jacobians import Array, chain, column
from .losses import loss_derivative

Layer = tuple[Array, Array, str]
Record = dict[str, Array]


def linear(W: Array, W0: Array, A: Array) -> Array:
    """Z = W^T A + W0, (n, 1), from W (m, n), W0 (n, 1) and A (m, 1).

    k samples side by side, A (m, k), give Z (n, k).
    Source: notes 003, general case.  Notes 001 and 002 store W transposed.

    >>> linear(column([2, 3]), column([1]), column([10, 100])).tolist()
    [[321.0]]
    """
    return W.T @ A + W0


def linear_by_input(W: Array) -> Array:
    """dZ/dA, (m, n), of Z = W^T A + W0: W itself.  Source: notes 004 Notation 17.

    >>> linear_by_input(column([2, 3])).tolist()
    [[2.0], [3.0]]
    """
    return W


def linear_by_weights(A: Array) -> Array:
    """dZ/dW, (m, 1), of Z = W^T A + W0: the input A.  Source: notes 004 Notation 17.

    A stands for an array with three indices, dZ_k/dW_ij = A_i [k = j]: every column of W meets the
    same input.  That is why it is multiplied from the left, ``dL/dW = A (dL/dZ)^T``.

    >>> linear_by_weights(column([10, 100])).tolist()
    [[10.0], [100.0]]
    """
    return A


def forward(layers: Sequence[Layer], x: ArrayLike) -> list[Record]:
    """Z and A of each layer for one sample x (m, 1), as L + 1 records.

    Source: notes 004 section 6.6.2, lines 10-15; notes 002, forward propagation.

    >>> records = forward([(column([2, 3]), column([1]), "relu")], [10, 100])
    >>> records[1]["Z"].tolist(), records[1]["A"].tolist()
    ([[321.0]], [[321.0]])
    """
    records: list[Record] = [{"A": column(x)}]
    for W, W0, activation in layers:
        Z = linear(W, W0, records[-1]["A"])
        records.append({"Z": Z, "A": ACTIVATIONS[activation](Z)})
    return records


def backward(
    layers: Sequence[Layer], records: Sequence[Record], y: ArrayLike, loss: str
) -> list[Record]:
    """The records of :func:`forward`, each with all its derivatives.

    For a layer from m to n: ``dL/dA``, ``dL/dZ`` and ``dL/dW0`` are (n, 1), ``dA/dZ`` (n, n),
    ``dZ/dA`` and ``dL/dW`` (m, n), ``dZ/dW`` (m, 1).  ``records[0]["dL/dA"]`` is dL/dx.
    Source: notes 004 Notations 16 and 17 and section 6.6.2, lines 17-35; notes 003, general case.

    >>> layers = [(column([2, 3]), column([1]), "identity")]
    >>> records = backward(layers, forward(layers, [10, 100]), [320], "squared_error")
    >>> records[1]["dL/dW"].tolist(), records[1]["dL/dW0"].tolist()
    ([[20.0], [200.0]], [[2.0]])
    """
    records = [dict(record) for record in records]
    records[-1]["dL/dA"] = loss_derivative(loss, records[-1]["A"], column(y))
    for index in range(len(layers), 0, -1):
        W, _, activation = layers[index - 1]
        here, below = records[index], records[index - 1]
        here["dA/dZ"] = activation_jacobian(activation, here["Z"])
        here["dL/dZ"] = here["dA/dZ"] @ here["dL/dA"]
        here["dZ/dA"] = linear_by_input(W)
        here["dZ/dW"] = linear_by_weights(below["A"])
        here["dL/dW"] = here["dZ/dW"] @ here["dL/dZ"].T
        here["dL/dW0"] = here["dL/dZ"]
        below["dL/dA"] = here["dZ/dA"] @ here["dL/dZ"]
    return records


def trace(layers: Sequence[Layer], x: ArrayLike, y: ArrayLike, loss: str) -> list[Record]:
    """Forward and backward for one sample x (m, 1) with target y (n, 1), as L + 1 records.

    Source: notes 004 section 6.6.2.

    >>> layers = [(column([2, 3]), column([1]), "identity")]
    >>> trace(layers, [10, 100], [320], "squared_error")[0]["dL/dA"].tolist()
    [[4.0], [6.0]]
    """
    return backward(layers, forward(layers, x), y, loss)


def chain_factors(records: Sequence[Record], layer: int) -> list[tuple[str, Array]]:
    """The factors of dL/dZ^layer, by name and in the order in which Notation 16 multiplies them.

    ``dA^l/dZ^l . (dZ^l+1/dA^l . dA^l+1/dZ^l+1) ... dL/dA^L``, shapes (n^l, n^l), (n^l, n^l+1), ...,
    (n^L, 1); ``records`` come from :func:`backward`.
    Source: notes 004 Notation 16; notes 003, general case.

    >>> one = (column([1]), column([0]), "identity")
    >>> records = trace([one, one], [3], [1], "squared_error")
    >>> [name for name, _ in chain_factors(records, 1)]
    ['dA1/dZ1', 'dZ2/dA1', 'dA2/dZ2', 'dL/dA2']
    """
    last = len(records) - 1
    factors = [(f"dA{layer}/dZ{layer}", records[layer]["dA/dZ"])]
    for above in range(layer + 1, last + 1):
        factors.append((f"dZ{above}/dA{above - 1}", records[above]["dZ/dA"]))
        factors.append((f"dA{above}/dZ{above}", records[above]["dA/dZ"]))
    return [*factors, (f"dL/dA{last}", records[last]["dL/dA"])]


def chain_product(records: Sequence[Record], layer: int) -> Array:
    """dL/dZ^layer, (n, 1), as the whole product of Notation 16, sharing nothing between layers.

    Source: notes 004 Notation 16.  :func:`backward` reuses dL/dZ^{l+1} instead (notes 003: "more
    efficient to compute the shared parts only once").

    >>> one = (column([2]), column([0]), "identity")
    >>> chain_product(trace([one, one], [3], [1], "squared_error"), 1).tolist()
    [[44.0]]
    """
    return chain(*(factor for _, factor in chain_factors(records, layer)))
