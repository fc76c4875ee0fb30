"""Which layers vanish, explode or are dead, told from what the history recorded by layer.

The rules are in `symptoms.py`. Here they are put to the start of training and to its end: what was
wrong from the start and still is counts as the cause of the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .layer_figures import Figures, LayerFacts, figures_of
from .symptoms import LARGE_WEIGHTS, Finding, findings_of

if TYPE_CHECKING:
    from .history import History

__all__ = ["Diagnosis", "Finding", "LayerFacts", "diagnose", "layer_facts", "starting_figures"]


class Diagnosis(list[Finding]):
    """The findings, as a list that prints as text."""

    def __init__(self, findings: Iterable[Finding] = (), note: str = "") -> None:
        super().__init__(findings)
        self.note = note

    @property
    def layers(self) -> list[int]:
        """The layers that are to blame, in order."""
        return sorted({finding.layer for finding in self})

    def __str__(self) -> str:
        if not self:
            return self.note or "No layer vanishes, explodes or is dead."
        found = [f"{f.words}\n  Try: {f.advice}" for f in self]
        return "\n".join([*found, self.note] if self.note else found)

    __repr__ = __str__


def layer_facts(network: Any, batch: int | None = None) -> list[LayerFacts]:
    """The facts of a network's layers; `batch` as in `LayerFacts`."""
    return [
        LayerFacts(layer.inputs, layer.units, layer.activation, bool(layer.batch_norm), batch)
        for layer in network.layers
    ]


def starting_figures(network: Any) -> dict[str, list[float]]:
    """What `history.start` is to hold: the weight norms before the first step."""
    # Not by np.linalg.norm: its BLAS threads spin for tens of milliseconds after a large product,
    # on the cores where training is about to start (a fit of two threads took up to 1.3 times).
    weights = [layer.W.ravel() for layer in network.layers]
    squares = [np.einsum("i,i->", W, W, dtype=np.float64) for W in weights]
    return {"weight_norm": [math.sqrt(square) for square in squares]}


def diagnose(history: History, layers: Sequence[LayerFacts]) -> Diagnosis:
    """Name the layers that make gradients vanish or explode, and those that are dead.

    Looks at the start of training (`history.start` where there is one, and the first epoch) and at
    the last five epochs. What was wrong from the start and still is counts as the cause of the
    rest.

    Args:
        history: with `weight_norm`, `delta_rms`, `update_norm` and `dead_relu` by layer.
        layers: facts of each layer (`layer_facts`).

    Returns:
        A list of `Finding`, to be printed or read; empty where nothing is wrong.

    Source: notes 004, section 6.7.3 (vanishing and exploding gradients).

    >>> from fastbp.history import History
    >>> history = History({"weight_norm": [[8.0, 4e-4, 4.0]], "delta_rms": [[1e-6, 0.1, 0.1]]})
    >>> facts = [LayerFacts(64, 64, "tanh")] * 2 + [LayerFacts(64, 10, "softmax")]
    >>> print(diagnose(history, facts))
    Layer 1 (64 -> 64, tanh) vanishes: its weights are 5e-05 of the usual size; gradients below it \
(layer 0) vanish.
      Try: a larger init_scale (or init='glorot_uniform'), less weight_decay, batch_norm=True.
    """
    first = None
    if history.start and layers:
        first = figures_of(layers, {name: [row] for name, row in history.start.items()}, True)
    unjudged = _cannot_judge(history, layers, first)
    return _blame(history, layers, first) if unjudged is None else unjudged


def _cannot_judge(
    history: History, layers: Sequence[LayerFacts], first: Figures | None
) -> Diagnosis | None:
    """What is to be said where there are no epochs to judge by, or not all numbers of theirs.

    Args:
        first: the figures before the first step, if they are known: they may tell the cause.
    """
    # It diverged in its first epoch.
    if first is not None and len(history) == 0 and history.stopped:
        return Diagnosis(findings_of(first), history.stopped)
    if len(history) == 0 or not history.weight_norm:
        return Diagnosis(note="Nothing was recorded by layer: there is nothing to judge.")
    if not layers:
        return Diagnosis(
            note="This history does not know the layers it is of (`from_dict` does not tell them): "
            "fastbp.diagnose.diagnose(history, fastbp.diagnose.layer_facts(network))."
        )
    if any(not math.isfinite(v) for row in history.weight_norm for v in row):
        found = [] if first is None else findings_of(first)
        return Diagnosis(found or [_not_finite(history, layers)])
    return None


def _blame(history: History, layers: Sequence[LayerFacts], first: Figures | None) -> Diagnosis:
    """What was wrong from the start, where it still is or training has run away; else what is."""
    # Of the epoch in which it diverged nothing was recorded by layer.
    note = history.stopped if "not finite" in history.stopped else ""
    early = [] if first is None else [first]
    early.append(figures_of(layers, _epochs(history, slice(0, 1)), True))
    late = figures_of(layers, _epochs(history, slice(-5, None)), False)
    now = findings_of(late)
    for figures in early:
        findings = findings_of(figures)
        if not findings:
            continue
        still = {finding.layer for finding in now}
        if any(finding.layer in still for finding in findings) or _unsound(late):
            return Diagnosis(findings, note)
        return Diagnosis([*(_past(f) for f in findings), *now], note)
    return Diagnosis(now, note)


def _epochs(history: History, part: slice) -> dict[str, list[list[float]]]:
    names = ("weight_norm", "delta_rms", "update_norm", "dead_relu")
    return {name: history[name][part] for name in names}


def _unsound(figures: Figures) -> bool:
    """Training has run away: what the last epochs show follows from how it began."""
    return max(figures.gain) > LARGE_WEIGHTS or any(delta == 0.0 for delta in figures.delta)


def _past(finding: Finding) -> Finding:
    words = f"At the start: {finding.words[:-1]}. It has recovered since."
    return Finding(finding.layer, finding.kind, words, finding.advice, finding.affected)


def _not_finite(history: History, layers: Sequence[LayerFacts]) -> Finding:
    row = next(r for r in history.weight_norm if any(not math.isfinite(v) for v in r))
    bad = tuple(i for i, value in enumerate(row) if not math.isfinite(value))
    words = f"Layer {bad[0]} ({layers[bad[0]]}) explodes: its weights are not finite."
    advice = "a smaller rate, clip_norm=1, inputs and targets of size about 1, batch_norm=True."
    return Finding(bad[0], "exploding", words, advice, bad)
