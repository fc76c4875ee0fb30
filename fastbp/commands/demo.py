"""`fastbp demo`: train on the digits that ship with the package, and show what came of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import LARGEST_SEED
from . import options

if TYPE_CHECKING:
    from rich.console import Console

    from ..datasets import Split
    from ..history import History
    from ..network import Network

UNITS, RATE, BATCH = 128, 3e-3, 32
SHOWN = 4  # images in a row: four fit into 80 columns


def demo(
    plot: Annotated[
        Path | None, typer.Option(help="Draw the learning curve into this file (.png, .svg, ...).")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, max=10_000, help="Passes over the data.")] = 30,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Start weights and order of the batches.")
    ] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Threads; by default as many as pay.")
    ] = None,
) -> None:
    """Train on 1442 real handwritten digits and recognise 355 others."""
    if plot is not None:
        options.check_plotting("--plot", plot)
    from ..datasets import load_digits, stratified_split

    console = options.console()
    split = stratified_split(*load_digits())
    net, history = _train(split, epochs, seed, threads)
    predicted = net.predict(split.X_test)
    _show(console, split, predicted)
    _show_curve(console, history)
    # The best epoch: the first may have waited for the compiler, and others for the machine.
    seconds = min(history.seconds)
    steps = math.ceil(len(split.X_train) / BATCH)
    console.print(f"time: {1e6 * seconds / steps:.1f} us a step of {BATCH} images (best epoch)")
    console.print(f"test accuracy: {100 * float((predicted == split.y_test).mean()):.1f}%")
    if plot is not None:
        with options.writing("--plot", plot):
            history.plot(plot)
        console.print(f"learning curve: {plot}", soft_wrap=True, markup=False)


def _train(split: Split, epochs: int, seed: int, threads: int | None) -> tuple[Network, History]:
    """The trained network and its history; the held-out images are only watched."""
    from .. import Adam, Dense, Network, Trainer

    layers = [Dense(UNITS, "relu"), Dense(10, "softmax")]
    net = Network(split.X_train.shape[1], layers, loss="cross_entropy", seed=seed)
    trainer = Trainer(net, optimizer=Adam(RATE), batch_size=BATCH, n_threads=threads)
    held_out = split.X_test, split.y_test
    return net, trainer.fit(split.X_train, split.y_train, epochs=epochs, validation=held_out)


def _show(console: Console, split: Split, predicted: Any) -> None:
    """The confusion matrix, and a few images with what was seen in them: mistakes first."""
    from . import drawing

    console.print(drawing.confusion(split.y_test, predicted, 10))
    wrong = [int(i) for i in (predicted != split.y_test).nonzero()[0]]
    right = [int(i) for i in (predicted == split.y_test).nonzero()[0]]
    levels = drawing.shades(console)
    for indices, verdict in ((right[:SHOWN], "recognised"), (wrong[:SHOWN], "mistaken")):
        blocks = [
            [
                f"{predicted[i]}" + ("" if verdict == "recognised" else f" (is {split.y_test[i]})"),
                *drawing.image(split.X_test[i], levels),
            ]
            for i in indices
        ]
        if blocks:
            console.print(f"\n{verdict}:")
            console.print("\n".join(drawing.side_by_side(blocks)), markup=False, soft_wrap=True)


def _show_curve(console: Console, history: History) -> None:
    from . import drawing

    losses = {"training": history.loss, "held-out": history.validation_loss}
    width = min(max(2 * len(history), 20), 60)
    console.print("\nloss by epoch:")
    console.print("\n".join(drawing.curve(losses, width)), markup=False, soft_wrap=True)
    console.print()
