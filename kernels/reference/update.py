"""The optimizers in plain NumPy: as PyTorch defines them, then as scikit-learn and Keras do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from ..tables import UPDATES

# A rule gets the gradient g, the state rows (changed in place) and the step's number, and returns
# the direction d of w <- w - lr d. A rule of STEPS gets lr, too, and returns what is added to w.


def sgd(g: np.ndarray, state: np.ndarray, step: int) -> np.ndarray:
    """d = g, the notes' step (004 6.52)."""
    return g


def momentum(g: np.ndarray, state: np.ndarray, step: int, *, momentum: float) -> np.ndarray:
    """v <- mu v + g; d = v (Polyak 1964)."""
    state[0] = momentum * state[0] + g
    return state[0]


def nesterov(g: np.ndarray, state: np.ndarray, step: int, *, momentum: float) -> np.ndarray:
    """v <- mu v + g; d = g + mu v (Nesterov 1983)."""
    state[0] = momentum * state[0] + g
    return g + momentum * state[0]


def adagrad(g: np.ndarray, state: np.ndarray, step: int, *, eps: float) -> np.ndarray:
    """s <- s + g^2; d = g / (sqrt(s) + eps) (Duchi, Hazan and Singer 2011)."""
    state[0] += g * g
    return g / (np.sqrt(state[0]) + eps)


def adadelta(g: np.ndarray, state: np.ndarray, step: int, *, rho: float, eps: float) -> np.ndarray:
    """s of g^2 and x of d^2, both means; d = sqrt(x + eps) / sqrt(s + eps) g (Zeiler 2012)."""
    state[0] = rho * state[0] + (1 - rho) * g * g
    delta = np.sqrt(state[1] + eps) / np.sqrt(state[0] + eps) * g
    state[1] = rho * state[1] + (1 - rho) * delta * delta
    return delta


def rmsprop(g: np.ndarray, state: np.ndarray, step: int, *, alpha: float, eps: float) -> np.ndarray:
    """s <- alpha s + (1 - alpha) g^2; d = g / (sqrt(s) + eps) (Hinton 2012, lecture 6e)."""
    state[0] = alpha * state[0] + (1 - alpha) * g * g
    return g / (np.sqrt(state[0]) + eps)


def adam(
    g: np.ndarray, state: np.ndarray, step: int, *, beta1: float, beta2: float, eps: float
) -> np.ndarray:
    """m, v: means of g and g^2; d = m_hat / (sqrt(v_hat) + eps) (Kingma and Ba 2015)."""
    state[0] = beta1 * state[0] + (1 - beta1) * g
    state[1] = beta2 * state[1] + (1 - beta2) * g * g
    m_hat = state[0] / (1 - beta1**step)
    v_hat = state[1] / (1 - beta2**step)
    return m_hat / (np.sqrt(v_hat) + eps)


def classical_momentum(
    g: np.ndarray, state: np.ndarray, step: int, lr: float, *, momentum: float
) -> np.ndarray:
    """Sutskever et al. (2013), equation 1."""
    state[0] = momentum * state[0] - lr * g
    return state[0]


def classical_nesterov(
    g: np.ndarray, state: np.ndarray, step: int, lr: float, *, momentum: float
) -> np.ndarray:
    """Sutskever et al. (2013), equations 3 and 4."""
    state[0] = momentum * state[0] - lr * g
    return momentum * state[0] - lr * g


def adam_epsilon_hat(
    g: np.ndarray, state: np.ndarray, step: int, lr: float, *, beta1: float, beta2: float,
    eps: float,
) -> np.ndarray:  # fmt: skip
    """Kingma and Ba (2015), end of section 2."""
    state[0] = beta1 * state[0] + (1 - beta1) * g
    state[1] = beta2 * state[1] + (1 - beta2) * g * g
    rate = lr * np.sqrt(1 - beta2**step) / (1 - beta1**step)
    return -rate * state[0] / (np.sqrt(state[1]) + eps)


RULES: Final[dict[str, Callable[..., np.ndarray]]] = {
    rule.__name__: rule for rule in (sgd, momentum, nesterov, adagrad, adadelta, rmsprop, adam)
}
STEPS: Final[dict[str, Callable[..., np.ndarray]]] = {
    rule.__name__: rule for rule in (classical_momentum, classical_nesterov, adam_epsilon_hat)
}


def update(
    optimizer: str,
    parameters: np.ndarray,
    gradient: np.ndarray,
    state: np.ndarray,
    *,
    step: int,
    lr: float,
    l2: float = 0.0,
    shrink: float = 1.0,
    **hyper: float,
) -> None:
    """One step in place: shrink w, add l2 * w (as it was) to the gradient, follow the rule."""
    values = {**dict(UPDATES[optimizer].hyper), **hyper}
    penalised = gradient + l2 * parameters
    if optimizer in STEPS:
        change = STEPS[optimizer](penalised, state, step, lr, **values)
    else:
        change = -lr * RULES[optimizer](penalised, state, step, **values)
    parameters[:] = shrink * parameters + change
