"""Regression of a yes or no with the complementary log-log link: chance 1 - exp(-exp(eta)), eta = design @ beta."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from spectral_edge.evaluate.optional import statsmodels

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

    Raises:
        MissingExtraError: without statsmodels.
    """
    purpose = "the hazard model"
    family = statsmodels("genmod.families.family", purpose)
    links = statsmodels("genmod.families.links", purpose)
    models = statsmodels("genmod.generalized_linear_model", purpose)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        fitted = models.GLM(y, design, family=family.Binomial(link=links.CLogLog())).fit(maxiter=100)
        beta, likelihood = np.asarray(fitted.params, dtype=np.float64), float(fitted.llf)
        error = float(np.asarray(fitted.bse)[-1])
    usable = bool(fitted.converged) and bool(np.isfinite([*beta, likelihood, error]).all())
    return Fit(beta, likelihood, error) if usable else None


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
