"""The adiabatic parameter: as published, as a rotation, as a rotation in a relaxation time, as what is lost.

The parameter is to compare how fast directions turn with how fast training relaxes along them, so it has to be a pure
number: the same for a loss in other units, for parameters in other units, for a trajectory described otherwise. The
published form divides by the learning rate alone and is no such number; `transformed` says what it becomes.

Units: u of the parameters, l of the loss; the learning rate of gradient descent has u^2 / l.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError

Array = NDArray[np.float64]
Values = Array | float


def adiabatic_pub_sigma(change: Values, *, learning_rate: Values, gap_sigma: Values) -> Array:
    """|dG|_F / (eta g^2) with g = sigma_k* - sigma_{k*+1}: unit 1/eta (arXiv 2603.28964, later abstracts).

    Args:
        change: Frobenius norm of the change of the Gram matrix, in u^2.
        learning_rate: eta.
        gap_sigma: g, in u.

    Returns:
        The parameter; NaN where the gap is zero.
    """
    return _ratio(change, np.asarray(learning_rate) * np.asarray(gap_sigma) ** 2)


def adiabatic_pub_lambda(change: Values, *, learning_rate: Values, gap_lambda: Values) -> Array:
    """The same with g = lambda_k* - lambda_{k*+1}: unit 1/(eta u^2) (arXiv 2603.28964, later abstracts).

    Args:
        change: Frobenius norm of the change of the Gram matrix, in u^2.
        learning_rate: eta.
        gap_lambda: g, in u^2.

    Returns:
        The parameter; NaN where the gap is zero.
    """
    return _ratio(change, np.asarray(learning_rate) * np.asarray(gap_lambda) ** 2)


def adiabatic_ntk(change_rate: Values, *, learning_rate: Values, gap: Values) -> Array:
    """|dK/dt|_F / (eta g^2) with K the tangent kernel and g a gap of its eigenvalues (arXiv 2603.28964, version 1).

    A residual relaxes at eta K a step and an eigenvector of K turns by about |dK/dt| / g a step. So this is rotation in
    the time in which the two sides of the gap drift apart by a factor e. It is a pure number, provided that g is a
    gap of K itself and that K holds the curvature of the loss at the output (K = J J^T l'' / n), without which scaling
    the loss changes it.

    Args:
        change_rate: change of the kernel in one step, its Frobenius norm.
        learning_rate: eta.
        gap: in the kernel's unit.

    Returns:
        The parameter; NaN where the gap is zero.
    """
    return _ratio(change_rate, np.asarray(learning_rate) * np.asarray(gap) ** 2)


def adiabatic_rot(change: Values, *, gap_lambda: Values) -> Array:
    """|dM|_F / (lambda_k* - lambda_{k*+1}): rotation possible in one observation, a pure number (this library).

    Args:
        change: |dM|_F, in u^2.
        gap_lambda: in u^2.

    Returns:
        The parameter; NaN where the gap is zero.
    """
    return _ratio(change, gap_lambda)


def adiabatic_relax(rotation: Values, *, interval: Values, relaxation_rate: Values) -> Array:
    """A_rot / (s kappa): rotation in one relaxation time of the pair at the gap, a pure number (this library).

    Args:
        rotation: `adiabatic_rot`, for each observation.
        interval: s, optimizer steps in one observation.
        relaxation_rate: kappa, the mean of eta (h_j + omega) over the pair, for each step; h_j the curvature along v_j,
            preconditioned as the steps are.

    Returns:
        The parameter; NaN where nothing relaxes, that is where kappa <= 0.
    """
    rate = np.asarray(relaxation_rate, dtype=np.float64)
    return _ratio(rotation, np.where(rate > 0, rate, 0.0) * np.asarray(interval))


def adiabatic_emp(overlap: Values, *, leading: int) -> Array:
    """1 - |V_k^T V_k'|_F^2 / k over one window: what is lost, a pure number (this library).

    Args:
        overlap: |V_k^T V_k'|_F^2 of the leading k directions of windows that share no row.
        leading: k.
    """
    return 1.0 - np.asarray(overlap, dtype=np.float64) / leading


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescaling:
    """Other units for the same updates, or other numbers for the same run.

    Attributes:
        loss: factor of the loss.
        parameters: factor of every update.
        rate: factor of the learning rate.
        units: whether the parameters themselves are meant in other units, so that curvature changes by loss /
            parameters^2; else only the steps are longer, on the same loss, and curvature changes by the factor of the
            loss.

    Raises:
        InputError: on a factor that is not positive.
    """

    loss: float = 1.0
    parameters: float = 1.0
    rate: float = 1.0
    units: bool = True

    def __post_init__(self) -> None:
        for name in ("loss", "parameters", "rate"):
            value = getattr(self, name)
            if not 0 < value < np.inf:
                raise InputError(
                    name, expected="a positive factor", found=f"{value:g}", remedy="give the factor itself"
                )

    @property
    def curvature(self) -> float:
        """Factor of the curvature along a direction."""
        return self.loss / self.parameters**2 if self.units else self.loss

    @property
    def same_trajectory(self) -> bool:
        """Whether gradient descent runs the same course in these units, that is eta h unchanged."""
        return self.units and bool(np.isclose(self.rate * self.curvature, 1.0, rtol=1e-12))


EXPONENTS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "adiabatic_pub_sigma": (0.0, -1.0, 0.0),
        "adiabatic_pub_lambda": (-2.0, -1.0, 0.0),
        "adiabatic_rot": (0.0, 0.0, 0.0),
        "adiabatic_relax": (0.0, -1.0, -1.0),
        "adiabatic_emp": (0.0, 0.0, 0.0),
    }
)
"""Powers of the factors of parameters, rate and curvature; `adiabatic_relax` without decay or preconditioning."""


def transformed(name: str, change: Rescaling) -> float:
    """The factor by which a parameter changes when the same updates are described otherwise (this library).

    A pure number has the factor 1 for every change of units that leaves the trajectory alone.

    Args:
        name: one of `EXPONENTS`.
        change: the other description.

    Returns:
        The factor.

    Raises:
        InputError: on an unknown name.
    """
    if name not in EXPONENTS:
        raise InputError("adiabatic parameter", expected=" | ".join(EXPONENTS), found=repr(name), remedy="use a name")
    parameters, rate, curvature = EXPONENTS[name]
    return float(change.parameters**parameters * change.rate**rate * change.curvature**curvature)


def _ratio(above: Values, below: Values) -> Array:
    divisor = np.asarray(below, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(divisor > 0, np.asarray(above, dtype=np.float64) / divisor, np.nan)
