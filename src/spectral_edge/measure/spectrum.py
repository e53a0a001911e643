"""Eigenvalues of Gram matrices with their rounding floor and rank.

Going through the Gram matrix halves the digits, but float64 products leave enough of them: the smallest of ten
singular values keeps 2e-5 at condition number 1e6 (tests/oracles/test_dense_svd.py).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RANK_FLOOR = 1e-10
"""Eigenvalues at or below this share of the largest carry no direction (theory section 1, edge cases)."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Eigenpairs of N Gram matrices.

    Attributes:
        eigenvalues: lambda [N, W], largest first, clipped at zero.
        left: u_j in the columns of [N, W, W].
        rank: number of eigenvalues above the floor [N].
        rounding: absolute rounding error of an eigenvalue [N], about W eps lambda_1.
    """

    eigenvalues: Array
    left: Array
    rank: NDArray[np.intp]
    rounding: Array

    @property
    def sigma(self) -> Array:
        """Singular values [N, W]."""
        return np.sqrt(self.eigenvalues)

    @property
    def resolved(self) -> NDArray[np.bool_]:
        """Which modes lie above the rank floor [N, W]."""
        return np.arange(self.eigenvalues.shape[-1]) < self.rank[:, None]


def spectrum(gram: Array) -> Spectrum:
    """Eigenpairs of symmetric positive semidefinite matrices [N, W, W]; every entry must be finite.

    LAPACK leaves an absolute error of a few eps lambda_1 in every eigenvalue. Rayleigh quotients in extended
    precision remove it, since an eigenvector's error enters them squared; what stays is the rounding of the Gram
    matrix itself. Where long double is no wider than double the quotients only do no harm.
    """
    _, vectors = np.linalg.eigh(gram)
    wide = vectors.astype(np.longdouble)
    product = gram.astype(np.longdouble) @ wide
    quotient = (product * wide).sum(axis=-2) / (wide * wide).sum(axis=-2)
    eigenvalues = np.maximum(quotient, 0).astype(np.float64)
    order = np.argsort(-eigenvalues, axis=-1, kind="stable")
    eigenvalues = np.take_along_axis(eigenvalues, order, axis=-1)
    left = np.take_along_axis(vectors, order[:, None, :], axis=-1)
    largest = eigenvalues[:, :1]
    rank = np.where(largest[:, 0] > 0, (eigenvalues > RANK_FLOOR * largest).sum(axis=-1), 0)
    rounding = gram.shape[-1] * np.finfo(np.float64).eps * largest[:, 0]
    return Spectrum(eigenvalues, left, rank, rounding)


def effective_rank(eigenvalues: Array) -> Array:
    """Exponential of the entropy of normalised eigenvalues [N, W] -> [N] (Roy and Vetterli 2007, of G)."""
    total = eigenvalues.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = eigenvalues / total
        terms = np.where(share > 0, share * np.log(share), 0.0)
    return np.where(total[:, 0] > 0, np.exp(-terms.sum(axis=-1)), np.nan)
