"""`net.summary()`: a table of layers, shapes and parameters, for terminals and notebooks."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .network import Network


class Summary:
    """Rows of text that print as a table, and show as HTML in a notebook."""

    HEAD = ("layer", "activation", "shape of W", "parameters", "batch norm", "dropout")

    def __init__(self, title: str, rows: list[tuple[str, ...]], total: str) -> None:
        self.title, self.rows, self.total = title, rows, total

    def __str__(self) -> str:
        table = [self.HEAD, *self.rows]
        widths = [max(len(row[c]) for row in table) for c in range(len(self.HEAD))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
                 for row in table]  # fmt: skip
        rule = "-" * max(map(len, lines))
        return "\n".join([self.title, rule, lines[0], rule, *lines[1:], rule, self.total])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def row(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(c)}</{tag}>" for c in cells) + "</tr>"

        body = "".join(row(cells, "td") for cells in self.rows)
        return (
            f"<table><caption>{escape(self.title)}</caption><thead>{row(self.HEAD, 'th')}</thead>"
            f"<tbody>{body}</tbody></table><p>{escape(self.total)}</p>"
        )


def summarize(network: Network) -> Summary:
    """The table of one network.

    >>> import fastbp
    >>> print(fastbp.Network(4, [fastbp.Dense(3, "softmax")]).summary())
    Network: 4 inputs, loss cross_entropy, float32
    --------------------------------------------------------------
    layer  activation  shape of W  parameters  batch norm  dropout
    --------------------------------------------------------------
    0      softmax     (4, 3)      15          -           -
    --------------------------------------------------------------
    15 parameters, 60 bytes
    """
    rows: list[tuple[str, ...]] = []
    for layer in network.layers:
        count = sum(
            view.size for name in ("W", "b", "gamma", "beta")
            if (view := getattr(layer, name)) is not None
        )  # fmt: skip
        norm = layer.batch_norm
        rows.append(
            (
                str(layer.index),
                layer.activation,
                str(layer.W.shape),
                f"{count:,}",
                f"{norm.position}, {norm.form}" if norm else "-",
                f"{layer.dropout:g}" if layer.dropout else "-",
            )
        )
    size = network.parameters.size
    products = f", products of {network.precision}" if network.precision else ""
    return Summary(
        f"Network: {network.inputs} inputs, loss {network.loss_name}, "
        f"{network.dtype.name}{products}",
        rows,
        f"{size:,} parameters, {size * network.dtype.itemsize:,} bytes",
    )
