"""`fastbp explain`: back-propagation of one sample, the notes' Jacobians beside the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import LARGEST_SEED
from . import options

if TYPE_CHECKING:
    from rich.console import Console

    from ..network import Network

MAX_WIDTH = 8  # units of a layer: wider matrices do not fit on a screen
FORWARD = ("Z", "A")
BACKWARD = ("dL/dA", "dA/dZ", "dL/dZ", "dZ/dA", "dZ/dW", "dL/dW", "dL/dW0")
COLUMNS = ("Z", "A", "dL/dA", "dL/dZ", "dL/dW0")  # a row of the kernels, a column of the notes
FORMULAS = {
    "Z": "W^T A + W0",
    "A": "f(Z)",
    "dL/dA": "dZ/dA dL/dZ of the layer above, or the loss's",
    "dA/dZ": "f'(Z), the Jacobian",
    "dL/dZ": "dA/dZ dL/dA",
    "dZ/dA": "W",
    "dZ/dW": "A of the layer below",
    "dL/dW": "dZ/dW (dL/dZ)^T",
    "dL/dW0": "dL/dZ",
}


def explain(
    net: Annotated[
        str, typer.Option(help="Widths from the inputs to the outputs, each at most 8.")
    ] = "3-4-2",
    activation: Annotated[str, typer.Option(help="Of the hidden layers.")] = "tanh",
    loss: Annotated[str, typer.Option(help="The last layer's activation follows it.")] = (
        "cross_entropy"
    ),
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of weights and sample.")] = 0,
    decimals: Annotated[int, typer.Option(min=1, max=12, help="Of the numbers shown.")] = 4,
) -> None:
    """Print every quantity of one forward and backward pass, beside what the kernels compute."""
    widths = _widths(net)
    from ..kernels.tables import ACTIVATIONS, LOSS_ALIASES, LOSSES

    options.check_choice("--activation", activation, ACTIVATIONS)
    options.check_choice("--loss", loss, [*LOSSES, *LOSS_ALIASES])
    console = options.console()
    loss = LOSS_ALIASES.get(loss, loss)
    last = (LOSSES[loss].pairs or ("identity",))[0]
    activations = [activation] * (len(widths) - 2) + [last]
    largest = _print_passes(console, widths, activations, loss, seed, decimals)
    console.print(f"largest difference: {largest:.3g}")


def _widths(text: str) -> list[int]:
    try:
        widths = [int(part) for part in text.split("-")]
    except ValueError:
        widths = []
    if len(widths) < 2 or not all(1 <= width <= MAX_WIDTH for width in widths):
        raise options.refuse(
            "--net", f"{text!r} is not two or more widths from 1 to {MAX_WIDTH} such as 3-4-2."
        )
    return widths


def _print_passes(
    console: Console, widths: list[int], activations: list[str], loss: str, seed: int, decimals: int
) -> float:
    """Both passes as tables; the largest difference between the notes and the kernels."""
    import numpy as np
    from rich.table import Table

    from .. import Dense, Network, notes

    layers = [Dense(units, name) for units, name in zip(widths[1:], activations, strict=True)]
    net = Network(widths[0], layers, loss=loss, dtype="float64", seed=seed)
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal(widths[0]), _target(rng, widths[-1], loss)
    theirs = notes.trace(
        [(layer.W, notes.column(layer.b), layer.activation) for layer in net.layers], x, y, loss
    )
    ours = _compiled(net, x, y)
    shown = _numbers(decimals)
    console.print(f"sample x = {shown(notes.column(x).T)}, target y = {shown(notes.column(y).T)}")
    console.print(
        f"loss {loss}: {notes.loss_value(loss, theirs[-1]['A'], notes.column(y)):.{decimals}f} "
        f"by the notes, {net.loss(x[None], y[None]):.{decimals}f} by the kernels"
    )
    numbers = range(1, len(widths))
    passes = (("forward", FORWARD, numbers), ("backward", BACKWARD, reversed(numbers)))
    largest = 0.0
    for title, names, order in passes:
        table = Table(title=title, title_justify="left", show_lines=True)
        for heading in ("quantity", "is", "shape", "notes", "kernels"):
            table.add_column(heading, overflow="fold")
        for number in order:
            for name in names:
                expected, actual = theirs[number][name], ours[number].get(name)
                if actual is not None:
                    with np.errstate(invalid="ignore"):  # of what is infinite alike
                        apart = np.where(actual == expected, 0.0, np.abs(actual - expected))
                    largest = float(np.maximum(largest, apart.max()))  # NaN stays
                table.add_row(
                    _indexed(name, number),
                    FORMULAS[name],
                    " x ".join(map(str, expected.shape)),
                    shown(expected),
                    "" if actual is None else shown(actual),
                )
        console.print(table)
    return largest


def _target(rng: Any, units: int, loss: str) -> Any:
    """A target that the loss allows: a class, a probability, a count or any number."""
    import numpy as np

    from ..kernels.tables import LOSSES

    entry = LOSSES[loss]
    if entry.classes == "one":
        return np.eye(units)[rng.integers(units)]
    if entry.classes == "each":
        return rng.integers(2, size=units).astype(float)
    if entry.targets[0] == 0:
        return rng.poisson(2.0, size=units).astype(float)
    return rng.standard_normal(units)


def _numbers(decimals: int) -> Callable[[Any], str]:
    """How a matrix is printed: a row a line."""
    import numpy as np

    def shown(matrix: Any) -> str:
        # Adding 0 turns -0 into 0.
        return np.array2string(np.round(matrix, decimals) + 0.0, precision=decimals, sign=" ")

    return shown


def _indexed(name: str, layer: int) -> str:
    """The name with the layer's number on every quantity but the loss: dA1/dZ1, dL/dW2."""
    quantities = {
        "dZ/dA": f"dZ{layer}/dA{layer - 1}",
        "dL/dW0": f"dL/dW0,{layer}",
    }
    if name in quantities:
        return quantities[name]
    return "/".join(part if part == "dL" else f"{part}{layer}" for part in name.split("/"))


def _compiled(net: Network, x: Any, y: Any) -> list[dict[str, Any]]:
    """What the kernels computed for one sample, as the notes write it: by layer, in columns."""
    import numpy as np

    trace = net.trace(x[None], y[None])
    layers: list[dict[str, Any]] = [{}]
    for index in range(len(net.layers)):
        columns = {name: np.reshape(trace[name][index], (-1, 1)) for name in COLUMNS}
        slope = trace["dA/dZ"][index][0]  # the diagonal, or all of softmax's
        jacobian = np.diag(slope) if slope.ndim == 1 else slope
        layers.append({**columns, "dA/dZ": jacobian, "dL/dW": trace["dL/dW"][index]})
    return layers
