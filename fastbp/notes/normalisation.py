"""Standardising and batch normalisation, forward and backward.

Z is (n, k): n dimensions, k samples of the batch side by side (notes 004 Clarification 39).  Each
dimension is treated by itself.  ``form`` chooses the divisor s:

* ``"notes"``: s = sigma + eps (notes 004 Key Equation 37 and Definition 41);
* ``"sqrt"``: s = sqrt(sigma^2 + eps), which other libraries and exchange formats use.

The notes put off the backward pass to an appendix.  With mean zero g and Zbar = (Z - mu) / s::

    dZbar_j/dZ_i = ([i = j] - 1/k) / s  -  (Z_j - mu) / s^2 * ds/dZ_i
    ds/dZ_i      = (Z_i - mu) / (k sigma)   ("notes")    or   (Z_i - mu) / (k s)   ("sqrt")

because the mean moves all samples together and so does not change sigma.
"""

from __future__ import annotations

import numpy as np

from .jacobians import Array
from .network import Record


def batch_statistics(Z: Array) -> tuple[Array, Array]:
    """Mean and population variance of each row of Z (n, k), both (n, 1).

    Source: notes 004 Key Equation 37 (division by k).

    >>> mean, variance = batch_statistics(np.array([[1.0, 3.0]]))
    >>> mean.tolist(), variance.tolist()
    ([[2.0]], [[1.0]])
    """
    mean = np.asarray(Z.mean(axis=1, keepdims=True))
    return mean, np.asarray(((Z - mean) ** 2).mean(axis=1, keepdims=True))


def divisor(variance: Array, eps: float, form: str) -> Array:
    """s (n, 1) from the variance (n, 1): what Z - mu is divided by.

    Source: notes 004 Key Equation 37 for ``form="notes"``.

    >>> divisor(np.array([[9.0]]), 1.0, "notes").tolist()
    [[4.0]]
    """
    return {"notes": np.sqrt(variance) + eps, "sqrt": np.sqrt(variance + eps)}[form]


def standardise(Z: Array, eps: float = 0.0, form: str = "notes") -> Array:
    """Zbar = (Z - mu) / s, (n, k) to (n, k).

    Mean 0; the standard deviation is sigma / s, which is 1 only for eps = 0.
    Source: notes 004 Key Equation 37.

    >>> standardise(np.array([[1.0, 3.0]])).tolist()
    [[-1.0, 1.0]]
    """
    mean, variance = batch_statistics(Z)
    return (Z - mean) / divisor(variance, eps, form)


def standardise_jacobian(z: Array, eps: float, form: str = "notes") -> Array:
    """dZbar/dZ, (k, k), of one dimension z (k,): row i belongs to Z_i, column j to Zbar_j.

    Where sigma = 0 the second term is taken as 0 ("notes" form: sigma has a kink there).
    Source: derived at the head of this file from notes 004 Key Equation 37.

    >>> standardise_jacobian(np.array([1.0, 3.0]), eps=0.0).round(12).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    k = z.size
    mean, variance = batch_statistics(z.reshape(1, k))
    s, sigma = divisor(variance, eps, form), np.sqrt(variance)
    centred = z.reshape(k, 1) - mean
    radius = {"notes": sigma, "sqrt": s}[form]
    ds_dz = np.divide(centred, k * radius, out=np.zeros_like(centred), where=radius > 0)
    return np.asarray((np.eye(k) - 1.0 / k) / s - ds_dz @ centred.T / s**2)


def batch_norm_forward(Z: Array, G: Array, B: Array, eps: float, form: str = "notes") -> Record:
    """Zhat = G * Zbar + B, (n, k), with what the backward pass needs: ``mu``, ``var``, ``Zbar``.

    Z and Zbar are (n, k); the scales G, the shifts B, mu and var are (n, 1).
    Source: notes 004 Definition 41 (its index k on the left should read j).

    >>> one, two = np.array([[1.0]]), np.array([[2.0]])
    >>> batch_norm_forward(np.array([[1.0, 3.0]]), G=two, B=one, eps=0.0)["Zhat"].tolist()
    [[-1.0, 3.0]]
    """
    mean, variance = batch_statistics(Z)
    Zbar = (Z - mean) / divisor(variance, eps, form)
    return {"mu": mean, "var": variance, "Zbar": Zbar, "Zhat": G * Zbar + B}


def batch_norm_backward(
    record: Record, G: Array, dL_dZhat: Array, eps: float, form: str = "notes"
) -> Record:
    """``dL/dZbar`` and ``dL/dZ`` (n, k), ``dL/dG`` and ``dL/dB`` (n, 1), from dL/dZhat (n, k).

    With g = dL/dZbar and means taken over the batch, the Jacobian of the file's head gives::

        dL/dZ = (g - mean(g) - c Zbar mean(g Zbar)) / s
        c = (sigma + eps) / sigma ("notes", 0 where sigma = 0)   or   c = 1 ("sqrt")

    Source: derived from notes 004 Definition 41; the notes give no backward pass.

    >>> one = np.array([[1.0]])
    >>> record = batch_norm_forward(np.array([[1.0, 3.0]]), G=one, B=one, eps=0.0)
    >>> batch_norm_backward(record, one, np.array([[1.0, 0.0]]), eps=0.0)["dL/dG"].tolist()
    [[-1.0]]
    """
    Zbar, s, sigma = record["Zbar"], divisor(record["var"], eps, form), np.sqrt(record["var"])
    g = G * dL_dZhat
    ratio = np.divide(s, sigma, out=np.zeros_like(s), where=sigma > 0)
    factor = {"notes": ratio, "sqrt": np.ones_like(s)}[form]
    projection = factor * Zbar * (g * Zbar).mean(axis=1, keepdims=True)
    return {
        "dL/dZbar": g,
        "dL/dZ": (g - g.mean(axis=1, keepdims=True) - projection) / s,
        "dL/dG": (dL_dZhat * Zbar).sum(axis=1, keepdims=True),
        "dL/dB": dL_dZhat.sum(axis=1, keepdims=True),
    }
