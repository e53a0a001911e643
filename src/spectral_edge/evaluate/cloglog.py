"""Regression of a yes or no with the complementary log-log link: chance 1 - exp(-exp(eta)), eta = design @ beta."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog, minimize

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fit:
    """A maximum of the likelihood.

    Attributes:
        beta: coefficients [k].
        likelihood: its logarithm.
        error: standard error of the last coefficient, from the expected information.
    """

    beta: Array
    likelihood: float
    error: float


def rank(design: Array) -> int:
    """Number of independent columns of a design whose columns have a mean square of about one [n, k]."""
    return int(np.linalg.matrix_rank(design, tol=1e-8 * float(np.sqrt(len(design)))))


def separated(design: Array, y: Array) -> bool:
    """Whether some direction of the coefficients makes no row less likely and one more so (Konis 2007).

    The likelihood then has no maximum at finite coefficients. For a design [n, k] and outcomes of 0 or 1 [n].
    """
    signed = np.where(y > 0, 1.0, -1.0)[:, None] * design
    best = linprog(-signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(len(y)), bounds=(-1, 1), method="highs")
    return bool(best.status == 0 and -best.fun > 1e-7 * len(y))


def fit(design: Array, y: Array) -> Fit | None:
    """The maximum for a design [n, k] and outcomes of 0 or 1 [n]; None without convergence.

    The likelihood is concave, so that Newton's steps within a trusted region come to its maximum; scoring without one,
    as for other links, runs away where the outcome is nearly separated.
    """

    def rate(beta: Array) -> Array:
        return np.exp(np.clip(design @ beta, -700, 700))

    def loss(beta: Array) -> float:
        rates = rate(beta)
        return -float((y * np.log(-np.expm1(-rates)) - (1 - y) * rates).sum())

    def slope(beta: Array) -> Array:
        rates = rate(beta)
        return -((y * rates / np.expm1(rates) - (1 - y) * rates) @ design)

    def curvature(beta: Array) -> Array:
        rates = rate(beta)
        weight = y * rates / np.expm1(rates) * (rates / -np.expm1(-rates) - 1) + (1 - y) * rates
        return (design.T * weight) @ design

    share = float(np.clip(y.mean(), 1 / len(y), 1 - 1 / len(y)))
    level = np.full(len(y), np.log(-np.log1p(-share)))
    start = np.linalg.lstsq(design, level, rcond=None)[0]
    with np.errstate(all="ignore"):
        found = minimize(
            loss, start, jac=slope, hess=curvature, method="trust-exact", options={"gtol": 1e-8, "maxiter": 1000}
        )
        beta = np.asarray(found.x, dtype=np.float64)
        rates = rate(beta)
        weight = rates**2 * np.exp(-rates) / -np.expm1(-rates)
        error = float(np.sqrt(np.linalg.pinv((design.T * weight) @ design, hermitian=True)[-1, -1]))
    # At the maximum itself no step improves the last digits any more, which the optimizer calls a failure.
    flat = float(np.abs(found.jac).max()) < 1e-5
    usable = flat and bool(np.isfinite([*beta, float(found.fun), error]).all())
    return Fit(beta, -float(found.fun), error) if usable else None


def score(x: Array, z: Array, y: Array, beta: Array) -> Array:
    """Rao's statistics of one more column, chi-squared with one degree of freedom; 0 for one that z determines [m].

    Args:
        x: m choices of the column [m, n].
        z: the design without it [n, k].
        y: outcomes of 0 or 1 [n].
        beta: where the likelihood without it is largest [k].
    """
    rate = np.exp(np.clip(z @ beta, -30, 30))
    chance = -np.expm1(-rate)
    slope = y * rate / chance - rate
    weight = rate**2 * np.exp(-rate) / chance
    mixed = x @ (weight[:, None] * z)
    own = x**2 @ weight
    information = own - np.einsum(
        "mi,ij,mj->m", mixed, np.linalg.pinv((z.T * weight) @ z, rcond=1e-10, hermitian=True), mixed
    )
    usable = information > 1e-12 * own
    return np.where(usable, (x @ slope) ** 2 / np.where(usable, information, 1.0), 0.0)
