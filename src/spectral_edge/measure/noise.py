"""How much of a window's energy is signal, from Gram matrices that do not hold the noise's own energy.

A window's Gram matrix has the expectation signal + nu^2 P, so its singular values say nothing about a signal until it
exceeds all the noise. Inner products between rows whose noise is independent have no such term. There are two ways to
get them: replicates, two updates from the same state on different half-batches, and the cross-Gram matrix of two
windows that share no row. Both still fluctuate, and both still see what their rows share: see `inherited_share` and
`remembered_share`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError

Array = NDArray[np.float64]

_MEDIAN_SQUARE = 0.6527759416
"""Median of the squared singular values of a large square noise matrix, in units of its size times the entries'
variance: of the density sqrt(4 / s - 1) / (2 pi) on (0, 4) (Gavish and Donoho 2014)."""


@dataclass(frozen=True, slots=True)
class SignalEstimate:
    """Energies of what independent rows share, for each of N windows.

    Attributes:
        energies: d^2 by mode [N, W], largest first and not corrected; where there is no signal they scatter about zero
            (replicates, with either sign) or lie below the floor (lag).
        floor: largest energy that noise alone is expected to show [N]. Half of the fluctuations of a finite
            window may lie above such an edge's mean: it is a scale, not a test.
        signal: the largest energy without the part that noise adds to it [N]; NaN at or below the floor.
    """

    energies: Array
    floor: Array
    signal: Array


@dataclass(frozen=True, slots=True)
class ReplicateEstimate(SignalEstimate):
    """What replicates say beyond the signal.

    Attributes:
        noise_energy: E|noise|^2 of one half-batch row [N], twice that of a full-batch row.
        dimension: effective noise dimension P_eff [N].
    """

    noise_energy: Array
    dimension: Array


def replicate_signal(gram: Array) -> ReplicateEstimate:
    """Signal and noise from replicate updates, [N, 2W, 2W].

    The symmetrised cross-Gram matrix (A B^T + B A^T) / 2 has the signal's Gram matrix as its expectation, and the
    differences A - B hold noise only. Zero-signal floor: E sqrt(2 W / P_eff), the edge of a symmetric matrix whose
    off-diagonal entries have variance E^2 / (2 P_eff).

    Args:
        gram: inner products of the rows of A, then of B: row i of each starts from the same state and sees its own
            half-batch. Where the optimizer has momentum, see `inherited_share`.

    Raises:
        InputError: unless the matrices have an even size of at least 4.
    """
    width = _half(gram)
    cross = gram[:, :width, width:]
    symmetric = 0.5 * (cross + np.swapaxes(cross, -1, -2))
    energies = np.linalg.eigvalsh(symmetric)[:, ::-1].astype(np.float64)
    noise = replicate_differences(gram)
    noise_energy = 0.5 * np.trace(noise, axis1=-2, axis2=-1) / width
    dimension = effective_dimension(noise)
    floor = noise_energy * np.sqrt(2.0 * width / dimension)
    return ReplicateEstimate(energies, floor, _corrected(energies[:, 0], floor), noise_energy, dimension)


def replicate_differences(gram: Array) -> Array:
    """Gram matrices of A - B, [N, 2W, 2W] -> [N, W, W]: drift and everything else that replicates share is gone.

    Args:
        gram: inner products of the rows of A, then of B.

    Raises:
        InputError: unless the matrices have an even size of at least 4.
    """
    width = _half(gram)
    first, second, cross = gram[:, :width, :width], gram[:, width:, width:], gram[:, :width, width:]
    return first + second - cross - np.swapaxes(cross, -1, -2)


def effective_dimension(gram: Array) -> Array:
    """P_eff [N]: one over the mean squared cosine between different rows without a common part, [N, W, W].

    Drift has to be gone, as in `replicate_differences`; in raw rows it counts as few dimensions. With W (W-1) / 2
    pairs the relative standard error is about 2 / W.

    Args:
        gram: Gram matrices of noise rows.
    """
    width = gram.shape[-1]
    squares = np.diagonal(gram, axis1=-2, axis2=-1)
    upper = np.triu_indices(width, 1)
    norms = squares[:, upper[0]] * squares[:, upper[1]]
    cosine_square = np.divide(gram[:, upper[0], upper[1]] ** 2, norms, out=np.full_like(norms, np.nan), where=norms > 0)
    mean = cosine_square.mean(axis=-1)
    return np.divide(1.0, mean, out=np.full_like(mean, np.nan), where=mean > 0)


def lag_signal(
    gram: Array, *, width: int, noise_energy: Array | float | None = None, dimension: Array | float | None = None
) -> SignalEstimate:
    """Energy that persists from a window to one that shares no row with it, [N, L, L] with L >= 2 W.

    The singular values of X_old X_new^T are products of the strengths in the two windows of modes that persist. It
    costs no gradients. The rows between the windows, L - 2 W of them, are left out, which lets an optimizer's memory
    fade. Zero-signal floor: 2 E sqrt(W / P_eff). Where E and P_eff are not given it is taken from the median
    singular value, which few modes cannot move in windows of three rows or more (Gavish and Donoho 2014).

    Args:
        gram: extended Gram matrices; the first W rows are the old window and the last W rows the new one.
        width: number W of rows in a window.
        noise_energy: E, expected squared norm of a noise row.
        dimension: P_eff, effective noise dimension.

    Raises:
        InputError: if the matrices are too small for two windows, only one of E and P_eff is given, or neither for
            windows of two rows, whose median is half signal.
    """
    if width < 2 or gram.shape[-1] < 2 * width:
        raise InputError(
            "extended Gram matrices",
            expected="at least two windows of at least two rows",
            found=f"{gram.shape[-1]} rows for a window of {width}",
            remedy="record with a horizon of at least twice the window",
        )
    if (noise_energy is None) != (dimension is None):
        raise InputError(
            "noise of the lag-W estimate",
            expected="both noise_energy and dimension, or neither",
            found="one of them",
            remedy="give both",
        )
    if noise_energy is None and width < 3:
        raise InputError(
            "noise of the lag-W estimate",
            expected="noise_energy and dimension for windows of two rows",
            found="neither",
            remedy="give both, or use a wider window",
        )
    energies = np.linalg.svd(gram[:, :width, -width:], compute_uv=False).astype(np.float64)
    if noise_energy is None or dimension is None:
        scale = np.median(energies, axis=-1) / np.sqrt(width * _MEDIAN_SQUARE)
    else:
        scale = np.broadcast_to(np.asarray(noise_energy) / np.sqrt(dimension), energies.shape[:1])
    floor = 2.0 * np.sqrt(width) * scale
    return SignalEstimate(energies, floor, _corrected(energies[:, 0], floor))


def inherited_share(*, beta: float, interval: int) -> float:
    """Share of a replicate row's energy that both replicates inherit from the optimizer's momentum (this library).

    Replicates start from one state, and the momentum in it carries on in both: of a row sum_i m_i, i = 1..s, the part
    m_0 (beta + ... + beta^s) is common. Pure noise then shows this share of its energy as signal.

    Args:
        beta: momentum coefficient, in [0, 1).
        interval: optimizer steps s in a row.
    """
    decayed = 1.0 - beta**interval
    variance = interval * (1.0 - beta**2) - 2.0 * beta * decayed
    # Both in units of the gradient noise over (1 - beta)^2 (1 - beta^2).
    return beta**2 * decayed**2 / variance


def inherited_gram(*, beta: float, interval: int, width: int) -> Array:
    """Expected cross-Gram matrix of replicates without signal, over a row's noise energy [W, W] (this library).

    It is symmetrised. Replicate A is the run itself; B leaves it for one row at a time. The diagonal is the inherited
    share. A row of B and a later one of A share what that row of B inherited; a row of A and a later one of B share
    all that the memory of the run holds.

    Args:
        beta: momentum coefficient, in [0, 1).
        interval: optimizer steps s in a row.
        width: number W of rows.
    """
    share = inherited_share(beta=beta, interval=interval)
    lag = np.abs(np.subtract.outer(np.arange(width), np.arange(width))).astype(np.float64)
    kept = share * (beta**interval) ** lag
    if beta == 0.0:
        return np.zeros((width, width))
    # Correlation of rows of the run: rho_1 beta^(s (lag - 1)), with rho_1 = share / beta.
    run = share / beta * (beta**interval) ** np.maximum(lag - 1, 0)
    return np.where(lag == 0, share, 0.5 * (kept + run))


def remembered_share(memory: Array, *, width: int) -> float:
    """Largest energy that memory alone shows in the lag-W cross-Gram matrix, over a window's energy (this library).

    Args:
        memory: correlation matrix of L >= 2 W successive noise rows [L, L], as the optimizer causes it.
        width: number W of rows in a window.
    """
    return float(np.linalg.svd(memory[:width, -width:], compute_uv=False)[0]) / width


def _corrected(energy: Array, floor: Array) -> Array:
    """Inverse of y = t + (floor / 2)^2 / t, by which square noise raises a single mode's energy t.

    It is the same map for symmetric noise (Capitaine, Donati-Martin and Feral 2009) and for noise without symmetry
    (Benaych-Georges and Nadakuditi 2012).
    """
    seen = energy > floor
    root = np.sqrt(np.where(seen, energy * energy - floor * floor, 0.0))
    return np.where(seen, 0.5 * (energy + root), np.nan)


def _half(gram: Array) -> int:
    size = gram.shape[-1]
    if size < 4 or size % 2:
        raise InputError(
            "Gram matrices of replicates",
            expected="an even number of rows, at least 4",
            found=str(size),
            remedy="stack the W rows of A, then the W rows of B",
        )
    return size // 2
