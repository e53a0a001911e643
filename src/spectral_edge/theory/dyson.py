"""The diffusion of singular values that a matrix with Brownian entries causes: drift, potential, implicit integrator.

X(t) in F^{W x P}, P >= W, moves by dX = dB - kappa X dt. Each real component of each entry is an independent standard
Brownian motion, so a real entry (beta = 1) has variance t, a complex one (beta = 2) 2t, a quaternion (beta = 4) 4t.
The singular values then solve (R1), and their squares solve (R2), the Wishart process of Bru 1991; for other beta the
equations still make sense but no matrix of this kind is known. Each drift is a sum of named terms.

The drift is minus the gradient of a strictly convex potential on the chamber sigma_1 > ... > sigma_W > 0, so one step
of the backward Euler-Maruyama scheme is the minimiser of a convex function: order and sign survive any step length.

Numbers of equations, here and in `laguerre` and `residual`, are those of docs/theory/dyson.md.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError

Array = NDArray[np.float64]

_NEWTON_STEPS = 400
_SETTLED = 1e-9
"""Newton decrement, in units of the barrier, at which a step counts as solved; convergence is quadratic there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dyson:
    """Which diffusion (arXiv 2603.28964 names the link; the equations are those of Bru 1991 and its beta version).

    Attributes:
        parameters: number P of columns of the matrix, at least its number W of rows.
        beta: Dyson's index: 1 for real entries, 2 for complex, 4 for quaternions; any value from 1.
        damping: rate kappa of the pull towards zero, per unit of time; 0 for Brownian motion.

    Raises:
        InputError: for beta below 1 (singular values would collide), a negative damping or no parameters.
    """

    parameters: int
    beta: float = 1.0
    damping: float = 0.0

    def __post_init__(self) -> None:
        if self.beta < 1 or self.damping < 0 or self.parameters < 1:
            raise InputError(
                "a Dyson diffusion",
                expected="parameters >= 1, beta >= 1 and damping >= 0",
                found=f"parameters={self.parameters}, beta={self.beta}, damping={self.damping}",
                remedy="below beta = 1 singular values collide and the equation does not say what happens then",
            )

    def wall_strength(self, width: int) -> float:
        """How strongly zero repels, beta (P - W + 1) - 1: a Bessel process of dimension one more.

        Args:
            width: number W of singular values.

        Raises:
            InputError: if it is below 1, where the least singular value reaches zero.
        """
        strength = self.beta * (self.parameters - width + 1) - 1
        if self.parameters < width or strength < 1:
            raise InputError(
                f"{width} singular values at beta = {self.beta}",
                expected="beta (P - W + 1) >= 2, so that none reaches zero",
                found=f"P = {self.parameters}",
                remedy="use more columns than rows (transpose a tall matrix)",
            )
        return strength


def wall(sigma: Array, law: Dyson) -> Array:
    """Repulsion from zero, (beta (P - W + 1) - 1) / (2 sigma_j), [..., W] -> [..., W], unit sigma per time."""
    return law.wall_strength(sigma.shape[-1]) / (2 * sigma)


def repulsion(sigma: Array, law: Dyson) -> Array:
    """Mutual repulsion (beta/2) sum_k [1/(sigma_j - sigma_k) + 1/(sigma_j + sigma_k)], [..., W] -> [..., W].

    The second fraction is the mirror image: -sigma_k is a singular value as well.
    """
    difference, total = _pairs(sigma)
    with np.errstate(divide="ignore"):
        # The diagonal of the differences is infinite and drops out.
        return 0.5 * law.beta * (1 / difference + 1 / total).sum(axis=-1)


def restoring(sigma: Array, law: Dyson) -> Array:
    """Pull towards zero -kappa sigma_j, [..., W] -> [..., W], unit sigma per time."""
    return -law.damping * sigma


def sigma_drift(sigma: Array, law: Dyson) -> Array:
    """(R1): drift of the singular values, wall + repulsion + restoring, [..., W] -> [..., W].

    Their noise is a standard Brownian motion each, independent of the others. All in units in which a real component
    of an entry moves by variance 1 per unit of time; for variance nu^2 divide sigma by nu.

    Args:
        sigma: distinct singular values, largest first.
        law: the diffusion.

    Raises:
        InputError: if P does not exceed W by enough (`Dyson.wall_strength`).
    """
    return wall(sigma, law) + repulsion(sigma, law) + restoring(sigma, law)


def eigenvalue_drift(eigenvalues: Array, law: Dyson) -> Array:
    """(R2): drift of lambda_j = sigma_j^2, [..., W] -> [..., W].

    It is beta [P + sum_k (lambda_j + lambda_k) / (lambda_j - lambda_k)] - 2 kappa lambda_j; the noise is
    2 sqrt(lambda_j) dB_j. Bru 1991 has beta = 1 and kappa = 0.

    Args:
        eigenvalues: distinct eigenvalues [..., W].
        law: the diffusion.
    """
    difference = eigenvalues[..., :, None] - eigenvalues[..., None, :]
    total = eigenvalues[..., :, None] + eigenvalues[..., None, :]
    width = eigenvalues.shape[-1]
    difference[..., range(width), range(width)] = np.inf
    crowding = (total / difference).sum(axis=-1)
    return law.beta * (law.parameters + crowding) - 2 * law.damping * eigenvalues


def potential(sigma: Array, law: Dyson) -> Array:
    """V with -grad V = `sigma_drift`, [..., W] -> [...]: convex, and exp(-2 V) is the stationary density.

    V = -(a/2) sum ln sigma_j - (beta/2) sum_{j<k} ln(sigma_j^2 - sigma_k^2) + (kappa/2) sum sigma_j^2 with a the
    `Dyson.wall_strength`. Infinite outside the chamber.
    """
    width = sigma.shape[-1]
    upper = np.triu_indices(width, 1)
    difference, total = _pairs(sigma)
    pairs = (difference * total)[..., upper[0], upper[1]]
    inside = (sigma > 0).all(axis=-1) & (pairs > 0).all(axis=-1)
    safe_sigma, safe_pairs = np.where(sigma > 0, sigma, 1.0), np.where(pairs > 0, pairs, 1.0)
    barrier = law.wall_strength(width) * np.log(safe_sigma).sum(axis=-1) + law.beta * np.log(safe_pairs).sum(axis=-1)
    value = 0.5 * (law.damping * (sigma**2).sum(axis=-1) - barrier)
    return np.where(inside, value, np.inf)


def hessian(sigma: Array, law: Dyson) -> Array:
    """Second derivatives of `potential`, [..., W] -> [..., W, W]; positive definite everywhere in the chamber."""
    width = sigma.shape[-1]
    difference, total = _pairs(sigma)
    near, mirror = 1 / difference**2, 1 / total**2
    matrix = 0.5 * law.beta * (mirror - near)
    mirror[..., range(width), range(width)] = 0.0
    own = 0.5 * law.wall_strength(width) / sigma**2 + 0.5 * law.beta * (near + mirror).sum(axis=-1) + law.damping
    matrix[..., range(width), range(width)] = own
    return matrix


def implicit_step(sigma: Array, increment: Array, step: float, law: Dyson) -> Array:
    """One backward Euler-Maruyama step: the minimiser of V(x) + |x - sigma - increment|^2 / (2 step).

    The function is self-concordant after scaling, so damped Newton steps cannot leave the chamber and converge
    (Nesterov and Nemirovskii 1994); how many it takes depends on where they begin, so they begin where the drift alone
    would lead. A start on the boundary, zero included, is allowed.

    Args:
        sigma: singular values now, largest first [N, W].
        increment: Brownian increments over the step [N, W], variance `step` each.
        step: length of the step in time.
        law: the diffusion.

    Returns:
        Singular values after the step [N, W], strictly ordered and positive.

    Raises:
        InputError: if the step is not positive, or no minimiser is found (an increment that is not finite).
    """
    if not step > 0:
        raise InputError("a time step", expected="a positive number", found=f"{step}", remedy="give a longer step")
    width = sigma.shape[-1]
    scale = min(law.wall_strength(width), law.beta if width > 1 else np.inf) / 2
    target = sigma + increment
    # x = sigma + step (a / (2 x) - kappa x), a the strength of wall and pairs together, keeps the order.
    push, pull = law.wall_strength(width) + 2 * law.beta * (width - 1), 1 + law.damping * step
    point = _inside((sigma + np.sqrt(sigma**2 + 2 * push * pull * step)) / (2 * pull), step)
    active = np.arange(len(point))
    for _ in range(_NEWTON_STEPS):
        x = point[active]
        gradient = (x - target[active]) / step - sigma_drift(x, law)
        curvature = hessian(x, law)
        curvature[..., range(width), range(width)] += 1 / step
        move = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        decrement = np.sqrt(np.maximum((gradient * move).sum(axis=-1), 0.0) / scale)
        point[active] = x - move / (1 + np.where(decrement > 0.25, decrement, 0.0))[:, None]
        active = active[~(decrement < _SETTLED)]
        if len(active) == 0:
            return point
    raise InputError(
        "an implicit step",
        expected="finite singular values and increments",
        found=f"{len(active)} that did not settle in {_NEWTON_STEPS} Newton steps, with W = {width},"
        f" P = {law.parameters} and a step of {step:g}",
        remedy="check the input for NaN and infinity, or take shorter steps",
    )


def integrate(start: Array, increments: Array, step: float, law: Dyson) -> Array:
    """Paths of (R1) along given Brownian paths, so that a refinement can be driven by the same noise.

    Strong order 1 where singular values stay apart, less for beta near 1, where close encounters dominate; weak order
    1 up to a logarithm (`step_bias`). Spacings need steps below about a fiftieth of their mean square at beta = 1, and
    half of that at beta = 2; longer ones read as more repulsion.

    Args:
        start: singular values at time zero [N, W]; zeros are allowed.
        increments: Brownian increments [T, N, W], variance `step` each.
        step: length of a step in time.
        law: the diffusion.

    Returns:
        Singular values at times 0, step, ..., T step [T + 1, N, W].
    """
    path = np.empty((len(increments) + 1, *start.shape))
    path[0] = start
    for index, increment in enumerate(increments):
        path[index + 1] = implicit_step(path[index], increment, step, law)
    return path


def step_bias(sigma: Array, step: float, law: Dyson) -> Array:
    """What an undamped implicit step that ended in sigma lacks of the growth of sum sigma_j^2, [N, W] -> [N].

    |sigma'|^2 = |sigma + increment|^2 + step (beta W P - W) - step^2 |drift(sigma')|^2 holds to rounding, since the
    drift is homogeneous of degree -1, while the exact mean grows by beta W P step. This is the last term. Its
    mean is not of order step^2 at beta = 1, where E 1/(sigma_j - sigma_k)^2 diverges as a logarithm.

    Args:
        sigma: singular values after the step.
        step: length of the step.
        law: the diffusion, undamped.
    """
    return -(step**2) * (sigma_drift(sigma, law) ** 2).sum(axis=-1)


def _pairs(sigma: Array) -> tuple[Array, Array]:
    """sigma_j - sigma_k and sigma_j + sigma_k [..., W, W], infinite on the diagonal."""
    difference = sigma[..., :, None] - sigma[..., None, :]
    total = sigma[..., :, None] + sigma[..., None, :]
    width = sigma.shape[-1]
    difference[..., range(width), range(width)] = np.inf
    total[..., range(width), range(width)] = np.inf
    return difference, total


def _inside(sigma: Array, step: float) -> Array:
    """The given points, those on the boundary of the chamber moved inwards by the scale of the step."""
    width = sigma.shape[-1]
    gaps = np.append(sigma[:, :-1] - sigma[:, 1:], sigma[:, -1:], axis=-1)
    floor = 1e-6 * np.sqrt(step)
    spread = np.sqrt(step) * np.arange(width, 0, -1.0)
    return np.where((gaps > floor).all(axis=-1)[:, None], sigma, sigma + spread)
