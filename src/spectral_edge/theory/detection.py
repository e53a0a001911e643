"""When a planted direction shows in a window of updates, and when it can be read off.

The model is X = d u v^T + N: one unit direction v in parameter space with time course u, and noise rows of energy
E = E|row|^2 spread over `dimension` directions (isotropic noise of deviation nu on P parameters has E = nu^2 P and
dimension P; an uneven covariance S has E = tr S and dimension (tr S)^2 / tr S^2). With x = d^2 / E and
c = W / dimension, W rows say the following (Benaych-Georges and Nadakuditi 2012; exact for many rows, and within a few
per cent at ten):

- d is seen at all where x > sqrt(c), a tiny strength when there are many more parameters than rows;
- the time course u is then read with squared cosine (x^2 - c) / (x^2 + c x);
- the direction v is read with squared cosine (x^2 - c) / (x^2 + x), about d^2 / (d^2 + E).

So detection is easy and direction recovery is not: half of v needs d^2 = E, which is (dimension / W)^(1/4) times the
detection threshold. Every argument is an array or a number, and they broadcast.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError

Array = NDArray[np.float64]
Numeric = float | Array
"""A number or an array of them."""


def d_crit_pub(sigma: Array, *, parameters: int) -> Array:
    """The published critical strength nu (P (W-1))^(1/4), [..., W] -> [...], in the unit of sigma.

    nu^2 is the mean of the smaller half of the squared singular values, over P. Published as a bar that a *planted*
    strength has to pass (arXiv 2603.28964), it was compared with observed singular values, which hold the
    noise's own energy and pass it whatever the data.

    Args:
        sigma: singular values of the window, largest first.
        parameters: number P of tracked parameters.
    """
    width = sigma.shape[-1]
    nu_squared = (sigma[..., width // 2 :] ** 2).mean(axis=-1) / parameters
    return np.sqrt(nu_squared) * (parameters * (width - 1)) ** 0.25


def detection_ratio_pub(sigma: Array, *, parameters: int) -> Array:
    """The published test statistic sigma_W / d_crit, [..., W] -> [...]; NaN where the window's lower half is zero.

    Args:
        sigma: singular values of the window, largest first.
        parameters: number P of tracked parameters.
    """
    bar = d_crit_pub(sigma, parameters=parameters)
    return np.divide(sigma[..., -1], bar, out=np.full_like(bar, np.nan), where=bar > 0)


def detection_ratio_limit(*, parameters: Numeric, width: Numeric) -> Array:
    """The largest value (P / (W-1))^(1/4) that the published ratio can take, whatever the data.

    The ratio is this number times sigma_W over the root mean square of the window's lower half, which is at
    most one and tends to one for noise in many dimensions; at W = 2 it is one exactly.

    Args:
        parameters: number P of tracked parameters.
        width: number W of rows.
    """
    return (np.asarray(parameters, dtype=np.float64) / (np.asarray(width, dtype=np.float64) - 1.0)) ** 0.25


def effective_dimension(spectrum: Array) -> Array:
    """(tr S)^2 / tr S^2 of covariance eigenvalues [..., K] -> [...]: how many equal ones fluctuate as much.

    Args:
        spectrum: eigenvalues of the noise covariance, in any order and unit.
    """
    return spectrum.sum(axis=-1) ** 2 / (spectrum**2).sum(axis=-1)


def detection_threshold(*, width: Numeric, dimension: Numeric, noise_energy: Numeric) -> Array:
    """Planted strength d above which the window shows it: sqrt(E) (W / dimension)^(1/4).

    For isotropic noise that is nu (W P)^(1/4). With an uneven covariance E stays what it is and only the dimension
    shrinks, so the threshold rises. Use W - 1 where the rows' mean was subtracted.

    Args:
        width: number W of rows.
        dimension: effective dimension of the noise; P where it is isotropic.
        noise_energy: E, expected squared norm of a noise row.
    """
    aspect = np.asarray(width, dtype=np.float64) / dimension
    return np.sqrt(noise_energy) * aspect**0.25


def left_overlap(signal: Numeric, *, width: Numeric, dimension: Numeric, noise_energy: Numeric) -> Array:
    """Squared cosine of the planted and the found time course; 0 at and below the detection threshold.

    Args:
        signal: planted strength d.
        width: number W of rows.
        dimension: effective dimension of the noise.
        noise_energy: E, expected squared norm of a noise row.
    """
    x, c = _reduced(signal, width, dimension, noise_energy)
    return _positive_part(x * x - c, x * x + c * x)


def right_overlap(signal: Numeric, *, width: Numeric, dimension: Numeric, noise_energy: Numeric) -> Array:
    """Squared cosine of the planted and the found parameter direction; 0 at and below the detection threshold.

    Args:
        signal: planted strength d.
        width: number W of rows.
        dimension: effective dimension of the noise.
        noise_energy: E, expected squared norm of a noise row.
    """
    x, c = _reduced(signal, width, dimension, noise_energy)
    return _positive_part(x * x - c, x * x + x)


def sample_sigma(signal: Numeric, *, width: Numeric, dimension: Numeric, noise_energy: Numeric) -> Array:
    """Largest singular value that a window with planted strength d shows.

    sqrt(E (1 + x)(c + x) / x) above the threshold; below it the noise's own edge sqrt(E) (1 + sqrt(c)), which
    depends on the signal no more.

    Args:
        signal: planted strength d.
        width: number W of rows.
        dimension: effective dimension of the noise.
        noise_energy: E, expected squared norm of a noise row.
    """
    x, c = _reduced(signal, width, dimension, noise_energy)
    # The map has its minimum, the noise's edge, at x = sqrt(c), so that clipping x there is all that is needed.
    x = np.maximum(x, np.sqrt(c))
    return np.sqrt(noise_energy * (1.0 + x) * (c + x) / x)


def signal_from_sigma(sigma: Numeric, *, width: Numeric, dimension: Numeric, noise_energy: Numeric) -> Array:
    """Planted strength d behind an observed singular value, the inverse of `sample_sigma`; NaN inside the noise.

    Args:
        sigma: observed singular value.
        width: number W of rows.
        dimension: effective dimension of the noise.
        noise_energy: E, expected squared norm of a noise row; known from elsewhere, for instance from replicates.
    """
    c = np.asarray(width, dtype=np.float64) / dimension
    # In units of E: y = x + 1 + c + c / x.
    excess = np.asarray(sigma, dtype=np.float64) ** 2 / noise_energy - 1.0 - c
    inside = excess * excess - 4.0 * c
    with np.errstate(invalid="ignore"):
        x = 0.5 * (excess + np.sqrt(inside))
    return np.where((excess > 0) & (inside >= 0), np.sqrt(noise_energy * np.maximum(x, 0.0)), np.nan)


def signal_for_left_overlap(overlap: Numeric, *, width: Numeric, dimension: Numeric, noise_energy: Numeric) -> Array:
    """Planted strength d at which the time course is read with a wanted squared cosine.

    Args:
        overlap: wanted squared cosine, in [0, 1).
        width: number W of rows.
        dimension: effective dimension of the noise.
        noise_energy: E, expected squared norm of a noise row.

    Raises:
        InputError: if the overlap is outside [0, 1).
    """
    wanted = _wanted(overlap)
    c = np.asarray(width, dtype=np.float64) / dimension
    return _root(wanted, wanted * c, c, noise_energy)


def direction_threshold(*, overlap: Numeric = 0.5, width: Numeric, dimension: Numeric, noise_energy: Numeric) -> Array:
    """Planted strength d at which the parameter direction is read with a wanted squared cosine.

    About sqrt(E) for one half and 3 sqrt(E) for nine tenths, however many rows or parameters there are.

    Args:
        overlap: wanted squared cosine, in [0, 1).
        width: number W of rows.
        dimension: effective dimension of the noise.
        noise_energy: E, expected squared norm of a noise row.

    Raises:
        InputError: if the overlap is outside [0, 1).
    """
    wanted = _wanted(overlap)
    c = np.asarray(width, dtype=np.float64) / dimension
    return _root(wanted, wanted, c, noise_energy)


class Phase(IntEnum):
    """What a window can say of a planted direction."""

    UNDETECTABLE = 0
    DIRECTION_LOST = 1
    DIRECTION_RECOVERED = 2

    @property
    def label(self) -> str:
        """In words."""
        return ("undetectable", "detected, direction lost", "direction recovered")[self]


@dataclass(frozen=True, slots=True)
class PhaseDiagram:
    """What windows can say of a planted direction; all arrays have the broadcast shape of the arguments.

    Attributes:
        phase: values of `Phase`.
        left: squared cosine of the time courses.
        right: squared cosine of the parameter directions.
    """

    phase: NDArray[np.int64]
    left: Array
    right: Array


def phase_diagram(
    signal: Numeric, *, width: Numeric, dimension: Numeric, noise_energy: Numeric, overlap: float = 0.5
) -> PhaseDiagram:
    """Labels each combination of strength, rows, dimension and noise by what can be known there (this library).

    Args:
        signal: planted strength d.
        width: number W of rows.
        dimension: effective dimension of the noise.
        noise_energy: E, expected squared norm of a noise row.
        overlap: squared cosine from which a direction counts as recovered.

    Raises:
        InputError: if the overlap is outside [0, 1).
    """
    _wanted(overlap)
    left = left_overlap(signal, width=width, dimension=dimension, noise_energy=noise_energy)
    right = right_overlap(signal, width=width, dimension=dimension, noise_energy=noise_energy)
    phase = (left > 0).astype(np.int64) + ((left > 0) & (right >= overlap))
    return PhaseDiagram(phase, left, right)


def _reduced(signal: Numeric, width: Numeric, dimension: Numeric, noise_energy: Numeric) -> tuple[Array, Array]:
    """Signal energy over noise energy x, and rows over dimensions c."""
    x = np.asarray(signal, dtype=np.float64) ** 2 / noise_energy
    c = np.asarray(width, dtype=np.float64) / dimension
    return x, c


def _positive_part(numerator: Array, denominator: Array) -> Array:
    positive = np.maximum(numerator, 0.0)
    return np.divide(positive, denominator, out=np.zeros_like(positive + denominator), where=positive > 0)


def _wanted(overlap: Numeric) -> Array:
    wanted = np.asarray(overlap, dtype=np.float64)
    if not ((wanted >= 0.0) & (wanted < 1.0)).all():
        raise InputError(
            "wanted squared cosine", expected="numbers in [0, 1)", found=repr(overlap), remedy="a full 1 needs no noise"
        )
    return wanted


def _root(wanted: Array, linear: Array, aspect: Array, noise_energy: Numeric) -> Array:
    """sqrt(E x) for the positive root of (1 - wanted) x^2 - linear x - c = 0."""
    rest = 1.0 - wanted
    x = (linear + np.sqrt(linear * linear + 4.0 * aspect * rest)) / (2.0 * rest)
    return np.sqrt(noise_energy * x)
