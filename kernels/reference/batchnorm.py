"""Batch normalisation in plain NumPy, in both forms."""

from __future__ import annotations

import numpy as np


def batch_statistics(
    Z: np.ndarray, *, mean: np.ndarray | None = None, variance: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population variance of each column, about the first row so that nothing cancels."""
    centered = Z - Z[0]
    shift = centered.mean(axis=0)
    mean = np.empty_like(Z[0]) if mean is None else mean
    variance = np.empty_like(Z[0]) if variance is None else variance
    variance[:] = np.square(centered - shift).mean(axis=0)
    mean[:] = Z[0] + shift
    return mean, variance


def _scale(variance: np.ndarray, eps: float, form: str) -> tuple[np.ndarray, np.ndarray]:
    """The divisor's reciprocal and the factor on the variance's term of the gradient."""
    if form == "sqrt":
        return 1 / np.sqrt(variance + eps), np.ones_like(variance)
    if form == "sigma":
        sigma = np.sqrt(variance)
        factor = np.divide(sigma + eps, sigma, out=np.zeros_like(sigma), where=sigma != 0)
        return 1 / (sigma + eps), factor
    raise ValueError(f"form: expected 'sqrt' or 'sigma', got {form!r}")


def batchnorm_forward(
    Z: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    *,
    eps: float = 1e-5,
    form: str = "sqrt",
    out: np.ndarray | None = None,
    normalized: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Zhat = (Z - mean) * scale and gamma * Zhat + beta; returns (out, normalized)."""
    out = np.empty_like(Z) if out is None else out
    normalized = np.empty_like(Z) if normalized is None else normalized
    scale, _ = _scale(variance, eps, form)
    normalized[...] = (Z - mean) * scale
    out[...] = gamma * normalized + beta
    return out, normalized


def batchnorm_backward(
    dU: np.ndarray,
    normalized: np.ndarray,
    variance: np.ndarray,
    gamma: np.ndarray,
    *,
    eps: float = 1e-5,
    form: str = "sqrt",
    out: np.ndarray | None = None,
    gamma_out: np.ndarray | None = None,
    beta_out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dL/dZ, dL/dgamma, dL/dbeta: what reaches Zhat, less its mean and its part along Zhat."""
    out = np.empty_like(dU) if out is None else out
    dgamma = np.empty_like(gamma) if gamma_out is None else gamma_out
    dbeta = np.empty_like(gamma) if beta_out is None else beta_out
    scale, factor = _scale(variance, eps, form)
    rows = dU.shape[0]
    dgamma[:] = (dU * normalized).sum(axis=0)
    dbeta[:] = dU.sum(axis=0)
    out[...] = gamma * scale * (dU - (dbeta + normalized * factor * dgamma) / rows)
    return out, dgamma, dbeta
