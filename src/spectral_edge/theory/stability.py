"""How far a leading direction may turn when the window moves: published, heuristic and provable bounds.

The right directions v_j are eigenvectors of M = X^T X with eigenvalues lambda_1 >= ... >= lambda_W > 0 and, beyond
them, a null space. When the window moves, M changes by dM, gained rows' outer products less dropped ones'. Perturbation
theory bounds sin(v_j, v_j') by dM over the distance of lambda_j to its neighbours. The published coefficient puts the
change of the *eigenvalues* in the place of dM. That change is at most |dM|_F and can vanish while directions turn, so
what it gives is no bound (`RotatingDirection`).

Eigenvalues and norms of dM are in u^2, u the parameters' unit; sines and alphas are pure numbers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError

Array = NDArray[np.float64]


def neighbour_gaps(eigenvalues: Array, *, null_space: bool) -> Array:
    """Distance of each eigenvalue to its nearest neighbour, in u^2 (arXiv 2603.28964, stability coefficient).

    Args:
        eigenvalues: lambda [..., W], largest first.
        null_space: whether 0 stands below the last one, as it does for M; the published coefficient leaves it out.

    Returns:
        [..., W]; infinite where there is no neighbour.
    """
    value = np.asarray(eigenvalues, dtype=np.float64)
    edge = np.full((*value.shape[:-1], 1), np.inf)
    last = value[..., -1:] if null_space else edge
    step = value[..., :-1] - value[..., 1:]
    return np.minimum(np.concatenate([edge, step], axis=-1), np.concatenate([step, last], axis=-1))


def moment_change_floor(older: Array, newer: Array) -> Array:
    """Hoffman and Wielandt's floor under |dM|_F: (sum_j (lambda_j' - lambda_j)^2)^(1/2), in u^2 (1953).

    The published coefficient uses this for |dM|_F, that is the least value that |dM|_F can have.

    Args:
        older: eigenvalues of one window [..., W], largest first.
        newer: of the next [..., W].

    Returns:
        [...].
    """
    return np.sqrt(((np.asarray(newer) - np.asarray(older)) ** 2).sum(axis=-1))


def row_swap_eigenvalues(gained: Array | float, dropped: Array | float, product: Array | float) -> Array:
    """The two nonzero eigenvalues of dM = n n^T - o o^T, when one row n is gained and one row o dropped, in u^2.

    With s = |n|^2 - |o|^2 they are (s +- sqrt((|n|^2 + |o|^2)^2 - 4 <n, o>^2)) / 2 (this library).

    Args:
        gained: norm of the gained row [...], in u.
        dropped: norm of the dropped row [...].
        product: their inner product [...], in u^2.

    Returns:
        [..., 2], the positive one first.
    """
    new, old = np.asarray(gained, dtype=np.float64) ** 2, np.asarray(dropped, dtype=np.float64) ** 2
    root = np.sqrt(np.maximum((new + old) ** 2 - 4 * np.asarray(product, dtype=np.float64) ** 2, 0.0))
    return np.stack([(new - old + root) / 2, (new - old - root) / 2], axis=-1)


def row_swap_norms(gained: Array | float, dropped: Array | float, product: Array | float) -> tuple[Array, Array]:
    """|dM|_op and |dM|_F when one row is gained and one dropped, each [...], in u^2 (this library).

    Args:
        gained: norm of the gained row [...].
        dropped: norm of the dropped row [...].
        product: their inner product [...].
    """
    value = row_swap_eigenvalues(gained, dropped, product)
    return np.abs(value).max(axis=-1), np.sqrt((value**2).sum(axis=-1))


def moment_change_eigenvalues(rows_gained: Array, rows_dropped: Array) -> Array:
    """Nonzero eigenvalues of dM = N^T N - O^T O for any number of gained and dropped rows, in u^2 (this library).

    With Y = [N; O], J = diag(1, -1) block by block and Y^T = Q R, dM = Y^T J Y and R J R^T share them, without the
    square root of Y Y^T, which would keep half the digits where rows are nearly parallel.

    Args:
        rows_gained: N [m, P].
        rows_dropped: O [n, P].

    Returns:
        [m + n], largest first; zeros where rows depend on each other.
    """
    rows = np.concatenate([rows_gained, rows_dropped])
    sign = np.r_[np.ones(len(rows_gained)), -np.ones(len(rows_dropped))]
    upper: Array = np.asarray(np.linalg.qr(rows.T, mode="r"))  # to numpy's stubs every mode gives Q too
    found = np.linalg.eigvalsh((upper * sign) @ upper.T)
    missing = np.zeros(len(rows) - len(found))  # more rows than parameters
    return np.sort(np.concatenate([found, missing]))[::-1].astype(np.float64)


def alpha(change: Array | float, gap: Array, *, constant: float = 1.0) -> Array:
    """max(0, 1 - C change^2 / gap^2), a pure number: a floor under cos^2 where C and the norm make it a theorem.

    Args:
        change: of the matrix [...], in u^2.
        gap: distance to the nearest eigenvalue [..., W], in u^2.
        constant: C.

    Returns:
        [..., W]; NaN where nothing changed and the gap is zero.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.maximum(0.0, 1.0 - constant * (np.asarray(change)[..., None] / gap) ** 2)


def alpha_pub(older: Array, newer: Array, *, constant: float = 1.0) -> Array:
    """The published coefficient: the change of the eigenvalues over the gap, without the null space.

    Source: arXiv 2603.28964 and its replication scripts, which take C = 1.

    Args:
        older: eigenvalues of one window [..., W], largest first, in u^2.
        newer: of the next [..., W].
        constant: C.

    Returns:
        [..., W].
    """
    return alpha(moment_change_floor(older, newer), neighbour_gaps(newer, null_space=False), constant=constant)


def alpha_dm(newer: Array, frobenius: Array | float) -> Array:
    """The coefficient with |dM|_F itself and the null space as a neighbour, C = 1 (this library).

    1 - alpha_dm >= sin^2 held in every window of noise that we drew in 200 dimensions or more, failed in up to one in
    a hundred of three dimensions, and is no theorem: exchanging one row can turn the leading direction by a right angle
    at alpha_dm near 1/2 (`reversed_order`). `alpha_yws` is a theorem.

    Args:
        newer: eigenvalues of the newer window [..., W], largest first, in u^2.
        frobenius: |dM|_F [...].

    Returns:
        [..., W].
    """
    return alpha(frobenius, neighbour_gaps(newer, null_space=True))


def alpha_yws(newer: Array, operator: Array | float) -> Array:
    """The coefficient for which cos^2 >= alpha is a theorem: C = 4 with |dM|_op (Yu, Wang and Samworth 2015).

    Args:
        newer: eigenvalues of the newer window [..., W], largest first, in u^2.
        operator: |dM|_op [...].

    Returns:
        [..., W].
    """
    return alpha(operator, neighbour_gaps(newer, null_space=True), constant=4.0)


def sine_bound_yws(eigenvalues: Array, operator: Array | float) -> Array:
    """sin(v_j, v_j') <= 2 |dM|_op / min(lambda_{j-1} - lambda_j, lambda_j - lambda_{j+1}), lambda_{W+1} = 0.

    Source: Yu, Wang and Samworth 2015, corollary 1. Above 1 it says nothing.

    Args:
        eigenvalues: of either of the two windows [..., W], largest first, in u^2.
        operator: |dM|_op [...].

    Returns:
        [..., W]; infinite where the gap is zero.
    """
    with np.errstate(divide="ignore"):
        return 2 * np.asarray(operator)[..., None] / neighbour_gaps(eigenvalues, null_space=True)


def subspace_bound_yws(eigenvalues: Array, *, leading: int, operator: Array | float, frobenius: Array | float) -> Array:
    """|sin Theta|_F <= 2 min(sqrt(k) |dM|_op, |dM|_F) / (lambda_k - lambda_{k+1}) for the leading k directions.

    Source: Yu, Wang and Samworth 2015, theorem 2. |sin Theta|_F^2 = k - |V_k^T V_k'|_F^2.

    Args:
        eigenvalues: of either of the two windows [..., W], largest first, in u^2.
        leading: k, from 1 to W.
        operator: |dM|_op [...].
        frobenius: |dM|_F [...].

    Returns:
        [...].

    Raises:
        InputError: where k is not a number of directions.
    """
    width = eigenvalues.shape[-1]
    if not 1 <= leading <= width:
        raise InputError("leading", expected=f"1 to {width}", found=str(leading), remedy="give a number of directions")
    below = eigenvalues[..., leading] if leading < width else np.zeros_like(eigenvalues[..., 0])
    change = np.minimum(np.sqrt(leading) * np.asarray(operator), np.asarray(frobenius))
    with np.errstate(divide="ignore"):
        return 2 * change / (eigenvalues[..., leading - 1] - below)


def reversed_order(*, level: float = 1.0, gap: float = 0.2, excess: float = 0.01) -> tuple[Array, Array]:
    """Two windows of three rows, one row exchanged, whose leading directions are orthogonal (this library).

    The eigenvalues go from level +- excess gap / 2 to level +- gap / 2 with the axes exchanged, by |dM|_op = (1 +
    excess) gap / 2. So the factor 2 of Yu, Wang and Samworth cannot be lowered, and neither |dM|_op / gap nor |dM|_F /
    gap bounds the sine.

    Args:
        level: mean eigenvalue, in u^2, above half the gap.
        gap: between the newer window's eigenvalues, in u^2.
        excess: how decided the older window's order is, against the newer one's.

    Returns:
        Rows of the older and of the newer window, each [3, 2].

    Raises:
        InputError: where an eigenvalue would be negative.
    """
    if not (0 < gap < 2 * level and 0 < excess < 1):
        raise InputError(
            "eigenvalues",
            expected="0 < gap < 2 level and 0 < excess < 1",
            found=f"gap {gap:g}, level {level:g}, excess {excess:g}",
            remedy="narrow the gap",
        )
    kept = np.diag(np.sqrt([level - excess * gap / 2, level - gap / 2]))
    swapped = np.sqrt((1 + excess) * gap / 2)
    return np.concatenate([[[0.0, swapped]], kept]), np.concatenate([kept, [[swapped, 0.0]]])


@dataclass(frozen=True, slots=True, kw_only=True)
class RotatingDirection:
    """Updates of norm one that turn by a fixed angle in a plane: the counterexample to the published bound.

    Their Gram matrix is the same at all times, cos(angle (i - j)), so that the eigenvalues never move and the published
    bound is 0, while both directions turn by the angle at every step (this library).

    Attributes:
        window: number W of updates, at least 3.
        angle: of a turn, in radians, between 0 and pi / W, so that v_1 is the direction of the middle of the window.

    Raises:
        InputError: outside of these.
    """

    window: int = 10
    angle: float = 0.3

    def __post_init__(self) -> None:
        if self.window < 3:
            raise InputError("window", expected="at least 3 updates", found=str(self.window), remedy="use a longer one")
        if not 0 < self.angle < np.pi / self.window:
            raise InputError(
                "angle of a turn",
                expected="between 0 and pi / window",
                found=f"{self.angle:g}",
                remedy="turn by less at a time, or shorten the window",
            )

    @property
    def eigenvalues(self) -> Array:
        """Those of the Gram matrix [W]: W/2 +- |sin(W angle) / (2 sin angle)|, then zeros."""
        spread = abs(np.sin(self.window * self.angle) / (2 * np.sin(self.angle)))
        return np.r_[self.window / 2 + spread, self.window / 2 - spread, np.zeros(self.window - 2)]

    @property
    def operator(self) -> float:
        """|dM|_op = |sin(W angle)|."""
        return float(abs(np.sin(self.window * self.angle)))

    @property
    def frobenius(self) -> float:
        """|dM|_F, sqrt(2) times the operator norm."""
        return float(np.sqrt(2.0) * self.operator)

    @property
    def sine(self) -> float:
        """True sine of the angle between v_1 of successive windows."""
        return float(np.sin(self.angle))

    @property
    def sine_pub(self) -> float:
        """What the published bound allows: nothing."""
        return 0.0

    @property
    def sine_dm(self) -> float:
        """|dM|_F / gap = sqrt(2) sin(angle) as long as lambda_2 is nearer to lambda_1 than to 0."""
        return float(self.frobenius / neighbour_gaps(self.eigenvalues, null_space=True)[0])

    @property
    def sine_yws(self) -> float:
        """2 |dM|_op / gap = 2 sin(angle): without the factor 2 the bound would be met exactly."""
        return float(sine_bound_yws(self.eigenvalues, self.operator)[0])
