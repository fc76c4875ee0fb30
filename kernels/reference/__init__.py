"""Each kernel once in plain NumPy, written to be read: the truth the others are tested against.

The names, arguments, shapes and results are those of `fastbp.kernels`, but that `update` takes the
name of an optimizer alone, no code; nothing is checked here.
"""

from .activation import activate, apply_derivative
from .batchnorm import batch_statistics, batchnorm_backward, batchnorm_forward
from .linear import input_gradient, linear_forward, weight_gradient
from .loss import loss_and_delta, loss_forward, loss_gradient
from .random import dropout, perturb, philox
from .update import update

__all__ = [
    "activate",
    "apply_derivative",
    "batch_statistics",
    "batchnorm_backward",
    "batchnorm_forward",
    "dropout",
    "input_gradient",
    "linear_forward",
    "loss_and_delta",
    "loss_forward",
    "loss_gradient",
    "perturb",
    "philox",
    "update",
    "weight_gradient",
]
