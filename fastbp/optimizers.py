"""Descriptions of the optimizers: which update, with which constants, at which rate.

Frozen values without state: the Trainer keeps the state rows, so one description may serve many
trainers. The updates themselves are in `kernels/cpu/update_rules.py`. Formulas, element by element,
with the gradient g, the parameter w and the rate eta of the step; where a formula is PyTorch's, so
are the defaults, but SGD's lr, 0.01 (PyTorch: 0.001).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .errors import check_flag, check_not_negative, check_positive, check_probability, unknown_name
from .kernels.tables import UPDATES
from .rates import Schedule, as_schedule

Rate = float | Schedule | Callable[[int], float]
"""A step size: a number, a schedule, or a callable of the step, which counts from 0."""


class Optimizer:
    """Base of the optimizers: what the Trainer asks of one."""

    lr: Rate

    @property
    def name(self) -> str:
        """Key into `fastbp.kernels.tables.UPDATES`."""
        raise NotImplementedError

    def hyper(self) -> tuple[float, ...]:
        """The constants of the update, in the order in which its kernel takes them."""
        return tuple(float(getattr(self, name)) for name, _ in UPDATES[self.name].hyper)

    @property
    def decoupled_decay(self) -> float:
        """lam in w <- w - eta lam w, made before the update (weights only): AdamW's, else 0."""
        return 0.0

    @property
    def code(self) -> int:
        """The integer that the compiled loop switches on."""
        code: int = UPDATES[self.name].code
        return code

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the state rows, each as long as the parameters."""
        rows: tuple[str, ...] = UPDATES[self.name].rows
        return rows

    @property
    def schedule(self) -> Schedule:
        """`lr` as a schedule."""
        return as_schedule(self.lr)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent, with momentum if asked for.

    Plain: w <- w - eta g. With momentum mu: v <- mu v + g; w <- w - eta v (Polyak 1964). With
    nesterov: w <- w - eta (g + mu v), v as before (Nesterov 1983; Sutskever et al. 2013).
    v starts at 0. These are PyTorch's definitions; scikit-learn and Keras keep v <- mu v - eta g;
    w <- w + v, which is the same until eta changes.

    Args:
        lr: rate, 0 or more; a schedule or a callable of the step.
        momentum: mu, in [0, 1).
        nesterov: look ahead; needs momentum above 0.

    Raises:
        ValueError, TypeError: an argument out of its range, or nesterov without momentum.

    >>> SGD(0.1, momentum=0.9).name
    'momentum'
    """

    lr: Rate = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        as_schedule(self.lr)
        check_probability("momentum", self.momentum, "0.9 is usual.")
        if check_flag("nesterov", self.nesterov) and not self.momentum:
            raise ValueError("nesterov=True needs momentum above 0; momentum=0.9 is usual.")

    @property
    def name(self) -> str:
        if self.nesterov:
            return "nesterov"
        return "momentum" if self.momentum else "sgd"


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """s <- s + g^2; w <- w - eta g / (sqrt(s) + eps).

    Duchi, Hazan and Singer (2011). s starts at 0 as in PyTorch; Keras starts it at 0.1 and has
    eps = 1e-7 and lr = 0.001.

    Args:
        lr: rate, 0 or more; a schedule or a callable of the step.
        eps: above 0.

    Raises:
        ValueError, TypeError: an argument out of its range.

    >>> Adagrad().hyper()
    (1e-10,)
    """

    lr: Rate = 0.01
    eps: float = 1e-10

    def __post_init__(self) -> None:
        as_schedule(self.lr)
        check_positive("eps", self.eps)

    @property
    def name(self) -> str:
        return "adagrad"


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """s <- rho s + (1 - rho) g^2; d = sqrt(u + eps) / sqrt(s + eps) g; u <- rho u + (1 - rho) d^2;
    w <- w - eta d.

    Zeiler (2012). s and u start at 0. Defaults are PyTorch's; Keras has lr = 0.001, rho = 0.95 and
    eps = 1e-7, and with that rate hardly moves: the method has no rate of its own (lr = 1).

    Args:
        lr: rate, 0 or more; a schedule or a callable of the step.
        rho: weight of the old average, in [0, 1).
        eps: above 0.

    Raises:
        ValueError, TypeError: an argument out of its range.

    >>> Adadelta().hyper()
    (0.9, 1e-06)
    """

    lr: Rate = 1.0
    rho: float = 0.9
    eps: float = 1e-6

    def __post_init__(self) -> None:
        as_schedule(self.lr)
        check_probability("rho", self.rho)
        check_positive("eps", self.eps)

    @property
    def name(self) -> str:
        return "adadelta"


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """s <- alpha s + (1 - alpha) g^2; w <- w - eta g / (sqrt(s) + eps).

    Hinton, lecture 6e of "Neural networks for machine learning" (2012). s starts at 0. Defaults
    are PyTorch's; Keras has lr = 0.001, alpha (its rho) = 0.9, and eps = 1e-7 under the root.

    Args:
        lr: rate, 0 or more; a schedule or a callable of the step.
        alpha: weight of the old average, in [0, 1).
        eps: above 0.

    Raises:
        ValueError, TypeError: an argument out of its range.

    >>> RMSprop().hyper()
    (0.99, 1e-08)
    """

    lr: Rate = 0.01
    alpha: float = 0.99
    eps: float = 1e-8

    def __post_init__(self) -> None:
        as_schedule(self.lr)
        check_probability("alpha", self.alpha)
        check_positive("eps", self.eps)

    @property
    def name(self) -> str:
        return "rmsprop"


@dataclass(frozen=True)
class Adam(Optimizer):
    """m <- beta1 m + (1 - beta1) g; v <- beta2 v + (1 - beta2) g^2;
    w <- w - eta m_hat / (sqrt(v_hat) + eps), m_hat = m / (1 - beta1^t), v_hat = v / (1 - beta2^t).

    Kingma and Ba (2015); t = 1, 2, ... in the corrections; m and v start at 0. eps is added to
    sqrt(v_hat), as in the paper and PyTorch; Keras, ONNX and scikit-learn add it to sqrt(v) and
    fold both corrections into the rate, which weakens eps in the first steps.

    Args:
        lr: rate, 0 or more; a schedule or a callable of the step.
        beta1, beta2: weights of the old averages, in [0, 1).
        eps: above 0.

    Raises:
        ValueError, TypeError: an argument out of its range.

    >>> Adam(1e-3).hyper()
    (0.9, 0.999, 1e-08)
    """

    lr: Rate = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        as_schedule(self.lr)
        check_probability("beta1", self.beta1)
        check_probability("beta2", self.beta2)
        check_positive("eps", self.eps)

    @property
    def name(self) -> str:
        return "adam"


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled decay: w <- w - eta weight_decay w, then Adam's update.

    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), in PyTorch's form; the
    decay touches weights only, not biases, gamma and beta (PyTorch decays all it is given). It is
    no part of the loss: the Trainer's weight_decay, which adds lam ||W||^2, is another thing.

    Args:
        lr: rate, 0 or more; a schedule or a callable of the step.
        beta1, beta2: weights of the old averages, in [0, 1).
        eps: above 0.
        weight_decay: 0 or more.

    Raises:
        ValueError, TypeError: an argument out of its range.

    >>> AdamW(1e-3).decoupled_decay
    0.01
    """

    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("weight_decay", self.weight_decay)

    @property
    def decoupled_decay(self) -> float:
        return float(self.weight_decay)


OPTIMIZERS: Final[dict[str, Callable[[], Optimizer]]] = {
    "sgd": SGD,
    "momentum": lambda: SGD(momentum=0.9),
    "nesterov": lambda: SGD(momentum=0.9, nesterov=True),
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
}


def get_optimizer(spec: object) -> Optimizer:
    """The optimizer that `spec` means: an Optimizer, its class, or a name such as "adam".

    A class or a name gives its defaults; "momentum" and "nesterov" are SGD(momentum=0.9).

    Raises:
        ValueError: an unknown name; the nearest known one is suggested.
        TypeError: anything else.

    >>> get_optimizer("momentum")
    SGD(lr=0.01, momentum=0.9, nesterov=False)
    """
    if isinstance(spec, Optimizer):
        return spec
    if isinstance(spec, type) and issubclass(spec, Optimizer) and spec is not Optimizer:
        return spec()
    if isinstance(spec, str) and spec in OPTIMIZERS:
        return OPTIMIZERS[spec]()
    error = unknown_name("optimizer", spec, OPTIMIZERS)
    if isinstance(error, TypeError):
        error = TypeError(f"{str(error)[:-1]}, or an optimizer such as Adam(1e-3).")
    raise error
