"""The kernel families one by one, through their public doors and without allocation."""

import numpy as np

from fastbp import kernels

from .common import DTYPES, FULL, Suite

# rows, inputs, outputs
SIZES = [(32, 64, 64), (128, 784, 128)] + ([(256, 512, 512)] if FULL else [])
ACTIVATIONS = ["relu", "sigmoid", "tanh", "gelu", "softmax"]


def _matrix(rows, columns, dtype):
    return np.random.default_rng(0).standard_normal((rows, columns)).astype(dtype)


class Products(Suite):
    """The three products of a layer, by shape."""

    params = [SIZES, DTYPES]
    param_names = ["rows, inputs, outputs", "dtype"]

    def setup(self, size, dtype):
        n, m, k = size
        self.A, self.W, self.dZ = (_matrix(*s, dtype) for s in ((n, m), (m, k), (n, k)))
        self.b, self.db = np.zeros(k, dtype), np.zeros(k, dtype)
        self.out, self.dW, self.dA = (np.empty(s, dtype) for s in ((n, k), (m, k), (n, m)))
        self.time_linear_forward(size, dtype)
        self.time_weight_gradient(size, dtype)
        self.time_input_gradient(size, dtype)

    def time_linear_forward(self, size, dtype):
        kernels.linear_forward(self.A, self.W, self.b, "relu", out=self.out)

    def time_weight_gradient(self, size, dtype):
        kernels.weight_gradient(self.A, self.dZ, out=self.dW, bias_out=self.db)

    def time_input_gradient(self, size, dtype):
        kernels.input_gradient(self.dZ, self.W, out=self.dA)

    def time_numpy(self, size, dtype):
        """The yardstick: NumPy's product of the same size."""
        np.matmul(self.A, self.W, out=self.out)


class Activations(Suite):
    """f(Z) and dL/dZ on 256 x 512 elements."""

    params = [ACTIVATIONS, DTYPES]
    param_names = ["activation", "dtype"]

    def setup(self, activation, dtype):
        self.Z, self.dA = _matrix(256, 512, dtype), _matrix(256, 512, dtype)
        self.out, self.dZ = np.empty_like(self.Z), np.empty_like(self.Z)
        self.time_activate(activation, dtype)
        self.A = self.out.copy()
        self.time_apply_derivative(activation, dtype)

    def time_activate(self, activation, dtype):
        kernels.activate(activation, self.Z, out=self.out)

    def time_apply_derivative(self, activation, dtype):
        kernels.apply_derivative(activation, self.dA, self.A, self.Z, out=self.dZ)


class BatchNorm(Suite):
    """Statistics, forward and backward on 256 x 512 elements."""

    params = DTYPES
    param_names = ["dtype"]

    def setup(self, dtype):
        self.Z, self.dU = _matrix(256, 512, dtype), _matrix(256, 512, dtype)
        self.out, self.normalized, self.dZ = (np.empty_like(self.Z) for _ in range(3))
        self.mean, self.variance = np.zeros(512, dtype), np.ones(512, dtype)
        self.gamma, self.beta = np.ones(512, dtype), np.zeros(512, dtype)
        self.gamma_out, self.beta_out = np.zeros(512, dtype), np.zeros(512, dtype)
        self.time_batch_statistics(dtype)
        self.time_forward(dtype)
        self.time_backward(dtype)

    def time_batch_statistics(self, dtype):
        kernels.batch_statistics(self.Z, mean=self.mean, variance=self.variance)

    def time_forward(self, dtype):
        kernels.batchnorm_forward(
            self.Z,
            self.mean,
            self.variance,
            self.gamma,
            self.beta,
            out=self.out,
            normalized=self.normalized,
        )

    def time_backward(self, dtype):
        kernels.batchnorm_backward(
            self.dU,
            self.normalized,
            self.variance,
            self.gamma,
            out=self.dZ,
            gamma_out=self.gamma_out,
            beta_out=self.beta_out,
        )
