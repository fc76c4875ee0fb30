"""The hot loops, by family; installed as `fastbp.kernels`.

Each function here is a public door: it checks its arrays, allocates only what was not given, and
runs the serial bodies that the training loop runs. `fastbp.kernels.reference` has each of them in
plain NumPy under the same name and signature.
"""

from .cpu.activation import activate, apply_derivative
from .cpu.batchnorm_doors import batch_statistics, batchnorm_backward, batchnorm_forward
from .cpu.linear import input_gradient, linear_forward, weight_gradient
from .cpu.loss import loss_and_delta, loss_forward, loss_gradient
from .cpu.random_doors import dropout, perturb, philox
from .cpu.update import update

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
