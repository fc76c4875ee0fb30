"""The rules of the diagnosis: what layer is to blame, from figures of one stretch of training.

Only ratios between neighbouring layers count, never sizes: in a network that has learnt its data
every gradient is small, and nothing is wrong. Two ratios are near 1 in any healthy layer, whatever
its width (`docs/decisions/0035-diagnosis-by-neighbours.md` has the figures):

- weight gain w = ||W|| / sqrt(n), the factor by which random signals grow forward: He's start has
  1.4, Glorot's and the notes' Gaussian 1, trained networks 1 to 9;
- step q = ||dL/dZ^l|| / ||dL/dZ^(l+1)||, norms of a sample's row: 0.7 to 2 for most activations,
  0.25 for sigmoid, whose slope is at most 1/4. It is about w^(l+1) times the slope of layer l.

So a small step is blamed on small weights above or on a flat activation below, a large one on large
weights; and a long row of mildly small or large steps on the depth. Batch norm makes a layer
indifferent to the size of its weights: steps into and out of it are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from .kernels.tables import ACTIVATIONS
from .layer_figures import Figures

# Each limit stands apart from the healthy range by a factor of 3 or more.
SMALL_WEIGHTS: Final = 0.2
"""Start of training: w this share of Glorot's (healthy: 0.7 and more)."""
SHRUNK_WEIGHTS: Final = 0.02
"""Later, when decay or small targets may have made weights small: the same share."""
LARGE_WEIGHTS: Final = 30.0
"""w (healthy: up to 9; N(0, 1) weights have sqrt(m))."""
LARGE_STEP: Final = 40.0
"""q over the usual slope (healthy: up to 17, for targets in the hundreds)."""
SMALL_STEP: Final = 0.05
"""q over the usual slope (healthy: 0.5 and more)."""
FADED: Final = 1e-3
"""Product of steps (a sigmoid network of four hidden layers: 3e-3; of five: 8e-4)."""
MILD: Final = 0.15
"""A step below this is no matter of depth (sigmoid: 0.24)."""
SWOLLEN: Final = (50.0, 300.0)
"""Product of steps at the start (healthy: up to 12) and later (up to 30)."""
DEAD: Final = 0.8
"""Share of relu units that no sample of the batch wakes (healthy: up to 0.55)."""
JUMP: Final = 0.5
"""||change of W|| / ||W|| in one step (healthy: up to 0.12)."""
ENOUGH: Final = 16
"""Samples in a batch from which a unit that none of them wakes may be called dead."""

_FLAT: Final = {
    "step": "a step function has slope 0",
    "sigmoid": "its units are saturated (outputs near 0 or 1)",
    "tanh": "its units are saturated (outputs near -1 or 1)",
    "relu": "most of its units are off",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and where.

    Attributes:
        layer: the layer that is to blame, from 0 as in `net.layers`.
        kind: "vanishing", "exploding" or "dead".
        words: what was seen.
        advice: what to try.
        affected: the layers whose gradients it spoils.
    """

    layer: int
    kind: str
    words: str
    advice: str
    affected: tuple[int, ...] = field(default=())


def findings_of(figures: Figures) -> list[Finding]:
    """The findings of one stretch, one a layer at most, causes before what follows from them."""
    found = {f.layer: f for f in _large_weights(figures)}
    if not found:
        for rule in (_small_weights, _dead, _flat):
            for finding in rule(figures):
                found.setdefault(finding.layer, finding)
    if not found:
        found = {f.layer: f for f in (*_depth(figures), *_jumps(figures))}
    return sorted(found.values(), key=lambda finding: finding.layer)


def _small_weights(figures: Figures) -> Iterable[Finding]:
    if len(figures.layers) == 1:
        return  # a linear model may begin at 0 and be right with any weights: nothing lies below
    limit = SMALL_WEIGHTS if figures.early else SHRUNK_WEIGHTS
    for layer, facts in enumerate(figures.layers):
        share = figures.share_of_usual(layer)
        if share < limit and not facts.batch_norm:
            below = tuple(range(layer))
            words = f"{figures.name(layer)} vanishes: its weights are {share:.1g} of the usual size"
            words += f"; gradients below it ({_list(below)}) vanish." if below else "."
            init = ACTIVATIONS[facts.activation].init
            advice = f"a larger init_scale (or init={init!r}), less weight_decay, batch_norm=True."
            yield Finding(layer, "vanishing", words, advice, below)


def _large_weights(figures: Figures) -> list[Finding]:
    """Layers whose weights are far too large, by their size or by the step that they cause."""
    findings = []
    for layer, facts in enumerate(figures.layers):
        step = figures.step(layer - 1) / figures.slope(layer - 1) if layer else math.nan
        size = figures.gain[layer]
        if (size > LARGE_WEIGHTS and not facts.batch_norm) or step > LARGE_STEP:
            below = tuple(range(layer))
            words = f"{figures.name(layer)} explodes: its weights are {size:.3g} times 1/sqrt(m)"
            if step > LARGE_STEP:
                words += f"; gradients grow {step:.3g}-fold through it ({_list(below)})"
            advice = "a smaller init_scale or rate, clip_norm=1, inputs and targets of size about "
            advice += "1, batch_norm=True."
            findings.append(Finding(layer, "exploding", words + ".", advice, below))
    return findings if len(findings) < 2 else [_runaway(figures, findings)]


def _runaway(figures: Figures, findings: Sequence[Finding]) -> Finding:
    """Several layers at once: the rate, not a layer; the largest stands for them."""
    affected = tuple(finding.layer for finding in findings)
    largest = max(affected, key=lambda layer: figures.gain[layer])
    words = (
        f"{_list(affected).capitalize()} explode: their weights are up to "
        f"{figures.gain[largest]:.3g} times 1/sqrt(m), layer {largest}'s the largest."
    )
    advice = "a smaller rate, clip_norm=1, a smaller init_scale, inputs and targets of size about "
    return Finding(largest, "exploding", words, advice + "1, batch_norm=True.", affected)


def _dead(figures: Figures) -> Iterable[Finding]:
    for layer, facts in enumerate(figures.layers):
        share = figures.dead[layer]
        if layer and figures.dead[layer - 1] == 1.0:
            continue  # nothing reaches it
        small = facts.batch is not None and facts.batch < ENOUGH
        if share >= (1.0 if small else DEAD) and (not small or figures.delta[layer] == 0.0):
            words = (
                f"{figures.name(layer)} is dead: {share:.0%} of its relu units are active for no "
                "sample, and learn nothing."
            )
            advice = "a smaller rate, leaky_relu or elu, init='he_normal', batch_norm=True."
            yield Finding(layer, "dead", words, advice, tuple(range(layer + 1)))


def _flat(figures: Figures) -> Iterable[Finding]:
    """Layers whose activation hardly lets a gradient through."""
    for layer in range(len(figures.layers) - 1):
        if figures.dead[layer] >= DEAD:
            continue
        step, slope = figures.step(layer), figures.slope(layer)
        passed = step / (slope * max(figures.gain[layer + 1], 1e-300))
        if step < SMALL_STEP * slope and passed < 2.0 * SMALL_STEP:
            activation = figures.layers[layer].activation
            why = _FLAT.get(activation, "its activation is flat there")
            affected = tuple(range(layer + 1))
            words = (
                f"{figures.name(layer)} vanishes: {why}; of the gradient that reaches it "
                f"{step:.1g} goes on ({_list(affected)})."
            )
            advice = "inputs of size about 1, smaller weights (init_scale) or a smaller rate, "
            advice += "relu instead, batch_norm=True."
            if activation == "step":
                advice = "sigmoid instead, which is a smooth step."
            yield Finding(layer, "vanishing", words, advice, affected)


def _depth(figures: Figures) -> Iterable[Finding]:
    """Many steps that are each a little too small or too large."""
    product, products = 1.0, {}
    for layer in range(len(figures.layers) - 2, -1, -1):
        step = figures.step(layer)
        product *= 1.0 if math.isnan(step) else max(step, MILD)
        products[layer] = product
    faded = tuple(sorted(layer for layer, value in products.items() if value < FADED))
    limit = SWOLLEN[0 if figures.early else 1]
    swollen = tuple(sorted(layer for layer, value in products.items() if value > limit))
    if faded:
        verb = "vanish" if len(faded) > 1 else "vanishes"
        first = min(faded, key=lambda layer: products[layer])
        words = (
            f"{_list(faded).capitalize()} {verb}: through the {len(figures.layers)} layers the "
            f"gradient shrinks little by little, to {products[first]:.1g} of what it is at the top."
        )
        advice = "relu instead of sigmoid or tanh, batch_norm=True, fewer layers."
        yield Finding(first, "vanishing", words, advice, faded)
    if swollen:
        verb = "explode" if len(swollen) > 1 else "explodes"
        first = max(swollen, key=lambda layer: products[layer])
        words = (
            f"{_list(swollen).capitalize()} {verb}: through the {len(figures.layers)} layers the "
            f"gradient grows little by little, {products[first]:.3g}-fold."
        )
        advice = "a smaller init_scale (or init='he_normal'), clip_norm=1, batch_norm=True."
        yield Finding(first, "exploding", words, advice, swollen)


def _jumps(figures: Figures) -> Iterable[Finding]:
    for layer, change in enumerate(figures.update):
        if figures.weight[layer] > 0.0 and change > JUMP * figures.weight[layer]:
            words = (
                f"{figures.name(layer)} explodes: one step changes its weights by "
                f"{change / figures.weight[layer]:.0%} of their size."
            )
            yield Finding(layer, "exploding", words, "a smaller rate, a warm-up.", (layer,))


def _list(layers: Sequence[int]) -> str:
    """Layers in words.

    >>> _list([0]), _list([0, 1]), _list([0, 1, 2])
    ('layer 0', 'layers 0 and 1', 'layers 0 to 2')
    """
    if len(layers) < 2:
        return f"layer {layers[0]}"
    if len(layers) == 2:
        return f"layers {layers[0]} and {layers[1]}"
    if list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return "layers " + ", ".join(map(str, layers[:-1])) + f" and {layers[-1]}"
