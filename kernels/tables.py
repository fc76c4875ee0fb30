"""The tables that every backend, test and document reads: activations, losses, optimizers.

An entry is a name, the integer code that the compiled loop switches on, and the facts that the
Python side needs to know. Adding one is a line here, a branch in each backend's kernel, a function
in `reference/`, and what else README.md beside this file lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Activation:
    """What the face has to know of an activation f.

    Attributes:
        code: integer the compiled loop switches on.
        from_output: f'(z) can be computed from a = f(z) alone, so Z need not be kept.
        sign_alone: the sign of a is enough for it.
        smooth: infinitely differentiable (no kink), so that gradients can be checked everywhere.
        analytic: the complex step may be used.
        low, high: bounds of the range, for matching with the domain of a loss.
        init: default weight initialisation.
    """

    code: int
    from_output: bool
    sign_alone: bool
    smooth: bool
    analytic: bool
    low: float
    high: float
    init: str


_INF = float("inf")

ACTIVATIONS: Final[dict[str, Activation]] = {
    "identity": Activation(0, True, True, True, True, -_INF, _INF, "glorot_uniform"),
    "step": Activation(1, True, True, False, False, 0.0, 1.0, "glorot_uniform"),
    "relu": Activation(2, True, True, False, False, 0.0, _INF, "he_normal"),
    "leaky_relu": Activation(3, True, True, False, False, -_INF, _INF, "he_normal"),
    "elu": Activation(4, True, False, False, False, -1.0, _INF, "he_normal"),
    "sigmoid": Activation(5, True, False, True, True, 0.0, 1.0, "glorot_uniform"),
    "tanh": Activation(6, True, False, True, True, -1.0, 1.0, "glorot_uniform"),
    "softplus": Activation(7, True, False, True, True, 0.0, _INF, "he_normal"),
    "silu": Activation(8, False, False, True, True, -0.2784645427610738, _INF, "he_normal"),
    "gelu": Activation(9, False, False, True, True, -0.16997120747990369, _INF, "he_normal"),
    "softmax": Activation(10, True, False, True, True, 0.0, 1.0, "glorot_uniform"),
    "exp": Activation(11, True, False, True, True, 0.0, _INF, "glorot_uniform"),
}

IDENTITY: Final = ACTIVATIONS["identity"].code
RELU: Final = ACTIVATIONS["relu"].code
LEAKY_SLOPE: Final = 0.01
ELU_ALPHA: Final = 1.0


@dataclass(frozen=True)
class Loss:
    """What the face has to know of a loss L(a, y), summed over the outputs of one sample.

    Attributes:
        code: integer the compiled loop switches on.
        low, high: the domain of a; an activation whose range leaves it is refused.
        smooth: no kink in a.
        pairs: activations with which dL/dZ is short and computed from the logits.
        targets: the range of y.
        classes: "one" output, the likeliest, is the class; "each" is one, above 0.5; "": numbers.
    """

    code: int
    low: float
    high: float
    smooth: bool
    pairs: tuple[str, ...]
    targets: tuple[float, float] = (-_INF, _INF)
    classes: str = ""


LOSSES: Final[dict[str, Loss]] = {
    "squared_error": Loss(0, -_INF, _INF, True, ("identity",)),
    "half_squared_error": Loss(1, -_INF, _INF, True, ("identity",)),
    "absolute_error": Loss(2, -_INF, _INF, False, ()),
    "binary_cross_entropy": Loss(3, 0.0, 1.0, True, ("sigmoid",), (0.0, 1.0), "each"),
    "cross_entropy": Loss(4, 0.0, 1.0, True, ("softmax",), (0.0, 1.0), "one"),
    "poisson": Loss(5, 0.0, _INF, True, ("exp",), (0.0, _INF)),
}

LOSS_ALIASES: Final = {"nll": "binary_cross_entropy", "nllm": "cross_entropy"}


@dataclass(frozen=True)
class Update:
    """One optimizer's update rule.

    Attributes:
        code: integer the compiled loop switches on.
        rows: names of its state rows, each as long as the parameters.
        hyper: its hyperparameters in the order of the compiled loop, with their defaults.
    """

    code: int
    rows: tuple[str, ...]
    hyper: tuple[tuple[str, float], ...] = ()


UPDATES: Final[dict[str, Update]] = {
    "sgd": Update(0, ()),
    "momentum": Update(1, ("velocity",), (("momentum", 0.9),)),
    "nesterov": Update(2, ("velocity",), (("momentum", 0.9),)),
    "adagrad": Update(3, ("square_sum",), (("eps", 1e-10),)),
    "adadelta": Update(4, ("square_average", "delta_average"), (("rho", 0.9), ("eps", 1e-6))),
    "rmsprop": Update(5, ("square_average",), (("alpha", 0.99), ("eps", 1e-8))),
    "adam": Update(
        6,
        ("first_moment", "second_moment"),
        (("beta1", 0.9), ("beta2", 0.999), ("eps", 1e-8)),
    ),
    # The step is kept, not the sum of gradients: the same until the rate changes.
    "classical_momentum": Update(7, ("velocity",), (("momentum", 0.9),)),
    "classical_nesterov": Update(8, ("velocity",), (("momentum", 0.9),)),
    # eps is added to sqrt(v), not to sqrt(v_hat).
    "adam_epsilon_hat": Update(
        9,
        ("first_moment", "second_moment"),
        (("beta1", 0.9), ("beta2", 0.999), ("eps", 1e-8)),
    ),
}

MOST_HYPER: Final = 4
"""Room for the hyperparameters of any optimizer."""

# Purposes of random numbers: the low three bits of Philox's last counter word (`cpu/philox.py`), so
# at most 8.
SHUFFLE, DROPOUT, NOISE, SAMPLE, INIT = range(5)
