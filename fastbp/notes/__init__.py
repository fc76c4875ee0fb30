"""The mathematics of the lecture notes, executable and written to be read.

Column vectors, denominator layout, explicit Jacobian matrices, float64, NumPy only.  This is the
truth that the kernels are checked against end to end; nothing here is fast, and nothing here knows
the kernels.  The notes are cited by number: 000 and 004 (MIT, explanatory notes 2023 and 2024), 001
(handwritten), 002 (Colorado, lecture 15), 003 (MIT, slides).  What they print otherwise is in
docs/errata.md, and docs/mathematics.md leads from each formula to its kernel.

* ``jacobians``: the layout, element-wise operations, expansion, sum, the chain;
* ``activations`` and ``losses``: tables of functions and of their derivatives;
* ``network``: forward and backward for one sample, every quantity by name;
* ``normalisation``: standardising and batch norm, in both forms;
* ``training``: batches, weight decay, SGD-NEURAL-NET.
"""

from .activations import (
    ACTIVATION_DERIVATIVES,
    ACTIVATIONS,
    LEAKY_SLOPE,
    NOTES_PRINT_OTHERWISE,
    Printed,
    activation_jacobian,
    elu,
    gelu,
    identity,
    leaky_relu,
    normal_cdf,
    relu,
    sigmoid,
    silu,
    softmax,
    softmax_jacobian,
    softplus,
    step,
    tanh,
)
from .jacobians import (
    BINARY_OPERATIONS,
    Array,
    binary_jacobians,
    chain,
    column,
    diagonal,
    expansion_jacobians,
    numerical_jacobian,
    sum_jacobian,
)
from .losses import (
    LOSS_ALIASES,
    LOSS_DERIVATIVES,
    LOSSES,
    SHORT_PAIRS,
    absolute_error,
    binary_cross_entropy,
    cross_entropy,
    half_squared_error,
    loss_derivative,
    loss_value,
    squared_error,
)
from .network import (
    Layer,
    Record,
    backward,
    chain_factors,
    chain_product,
    forward,
    linear,
    linear_by_input,
    linear_by_weights,
    trace,
)
from .normalisation import (
    batch_norm_backward,
    batch_norm_forward,
    batch_statistics,
    divisor,
    standardise,
    standardise_jacobian,
)
from .training import (
    Gradient,
    batch_gradient,
    batch_loss,
    gradient_step,
    random_layers,
    sgd_neural_net,
    weight_decay_step,
)

__all__ = [
    "ACTIVATIONS",
    "ACTIVATION_DERIVATIVES",
    "BINARY_OPERATIONS",
    "LEAKY_SLOPE",
    "LOSSES",
    "LOSS_ALIASES",
    "LOSS_DERIVATIVES",
    "NOTES_PRINT_OTHERWISE",
    "SHORT_PAIRS",
    "Array",
    "Gradient",
    "Layer",
    "Printed",
    "Record",
    "absolute_error",
    "activation_jacobian",
    "backward",
    "batch_gradient",
    "batch_loss",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_statistics",
    "binary_cross_entropy",
    "binary_jacobians",
    "chain",
    "chain_factors",
    "chain_product",
    "column",
    "cross_entropy",
    "diagonal",
    "divisor",
    "elu",
    "expansion_jacobians",
    "forward",
    "gelu",
    "gradient_step",
    "half_squared_error",
    "identity",
    "leaky_relu",
    "linear",
    "linear_by_input",
    "linear_by_weights",
    "loss_derivative",
    "loss_value",
    "normal_cdf",
    "numerical_jacobian",
    "random_layers",
    "relu",
    "sgd_neural_net",
    "sigmoid",
    "silu",
    "softmax",
    "softmax_jacobian",
    "softplus",
    "squared_error",
    "standardise",
    "standardise_jacobian",
    "step",
    "sum_jacobian",
    "tanh",
    "trace",
    "weight_decay_step",
]
