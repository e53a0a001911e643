"""Follows modes over a series of windows by what they are, not by their place in the spectrum.

Successive windows' modes are paired so that the total squared overlap is largest, and a pair stands only if its squared
overlap exceeds a bar. Above 1/2 a mode has at most one such partner, since squared overlaps with orthonormal directions
add to at most one: at the default bar identities do not depend on how pairs are found.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from spectral_edge.errors import InputError
from spectral_edge.measure.spectrum import Spectrum, spectrum
from spectral_edge.measure.subspace import overlaps

Array = NDArray[np.float64]
Identities = NDArray[np.intp]

UNAMBIGUOUS = 0.5
"""Squared overlap above which a mode has at most one partner."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """Two modes that changed order.

    Attributes:
        window: index of the newer of the two windows.
        rising: identity of the mode that was below and is above.
        falling: identity of the other.
    """

    window: int
    rising: int
    falling: int


@dataclass(frozen=True, slots=True)
class Tracks:
    """Modes with persistent identities over T + 1 windows.

    Attributes:
        identity: which mode stands at each place of the spectrum [T+1, W]; -1 where it lies below the rank floor.
        kept: squared overlap with its predecessor [T+1, W]; NaN for a mode without one.
        births: index of each identity's first window [n].
        deaths: index of the first window that lacks it [n]; T + 1 if it is there to the end.
        crossings: pairs of modes that changed order, in the order of time.
    """

    identity: Identities
    kept: Array
    births: NDArray[np.intp]
    deaths: NDArray[np.intp]
    crossings: tuple[Crossing, ...]

    @property
    def lifetimes(self) -> NDArray[np.intp]:
        """Number of windows that each mode was seen in [n]."""
        return self.deaths - self.births

    def places(self, identity: int) -> Array:
        """Place of one mode in the spectrum of each window, from 1 [T+1]; NaN where it does not exist."""
        found = self.identity == identity
        return np.where(found.any(axis=1), found.argmax(axis=1) + 1.0, np.nan)

    def follow(self, values: Array, identity: int) -> Array:
        """One mode's entries of a quantity by place [T+1, W] -> [T+1]; NaN where it does not exist."""
        place = self.places(identity)
        index = np.where(np.isnan(place), 1, place).astype(np.intp) - 1
        return np.where(np.isnan(place), np.nan, np.take_along_axis(values, index[:, None], axis=1)[:, 0])


def track(overlap: Array, *, least: float = UNAMBIGUOUS) -> Tracks:
    """Persistent identities of modes, with births, deaths and crossings (this library).

    A mode that fades below the bar for one window and returns is a new mode: what is followed is continuity. On windows
    one update apart the bar is easily passed by shared rows alone; see `theory.overlap.noise_overlap`.

    Args:
        overlap: inner products of right directions of successive windows [T, W, W], older modes in rows; NaN where
            undefined. Signs do not matter.
        least: squared overlap above which a mode counts as the same, in [0, 1).

    Returns:
        The tracks.

    Raises:
        InputError: on another shape or bar.
    """
    if overlap.ndim != 3 or overlap.shape[1] != overlap.shape[2]:
        raise InputError("overlaps", expected="[T, W, W]", found=str(overlap.shape), remedy="give one matrix a step")
    if not 0 <= least < 1:
        raise InputError("least", expected="a number in [0, 1)", found=f"{least:g}", remedy="give a squared overlap")
    steps, width, _ = overlap.shape
    identity = np.full((steps + 1, width), -1, dtype=np.intp)
    kept = np.full((steps + 1, width), np.nan)
    births: list[int] = []
    deaths: list[int] = []
    crossings: list[Crossing] = []

    def begin(window: int, place: int) -> None:
        identity[window, place] = len(births)
        births.append(window)
        deaths.append(steps + 1)

    alive = np.zeros((steps + 1, width), dtype=np.bool_)
    alive[:-1] |= ~np.isnan(overlap).all(axis=2)
    alive[1:] |= ~np.isnan(overlap).all(axis=1)
    for place in np.flatnonzero(alive[0]):
        begin(0, int(place))
    for step in range(steps):
        squared = overlap[step] ** 2
        newer = step + 1
        for i, j in _pairs(squared, least):
            if identity[step, i] >= 0:
                identity[newer, j], kept[newer, j] = identity[step, i], squared[i, j]
        for place in np.flatnonzero(alive[newer] & (identity[newer] < 0)):
            begin(newer, int(place))
        gone = np.setdiff1d(identity[step], identity[newer])
        for ended in gone[gone >= 0]:
            deaths[ended] = newer
        crossings += _crossings(identity[step], identity[newer], newer)
    return Tracks(identity, kept, np.array(births, dtype=np.intp), np.array(deaths, dtype=np.intp), tuple(crossings))


def overlaps_at(extended: Array, window: int, lag: int) -> Array:
    """Inner products of right directions of the newest window and of the one `lag` updates before [N, W, W].

    Args:
        extended: Gram matrices of the last n >= W + lag updates [N, n, n], finite.
        window: W.
        lag: number of updates between the windows, at least 1.

    Returns:
        Older modes in rows; NaN where a mode lies below the rank floor.

    Raises:
        InputError: where the Gram matrices do not reach back that far.
    """
    older, newer, cross = _halves(extended, window, lag)
    return overlaps(older, newer, cross)


def shared_overlap(window: int, lag: int) -> float:
    """Share of a noise window that lies in the span of the window `lag` updates before: (W - lag) / W, then 0."""
    return max(window - lag, 0) / window


def recovered_share(eigenvalues: Array, position: NDArray[np.intp]) -> Array:
    """Estimated |<v, v_j>|^2 between a stable direction and its estimate v_j, for the leading modes [N, W].

    1 - b / lambda_j with b the mean eigenvalue beyond `position`: in isotropic noise of many dimensions every
    eigenvalue holds the noise energy of one row. Noise with a head of its own makes b too small, the share too large.

    Args:
        eigenvalues: lambda [N, W], largest first.
        position: how many leading modes are no noise [N], from 1 to W - 1; 0 where undefined.

    Returns:
        [N, W]; NaN beyond `position`.
    """
    width = eigenvalues.shape[-1]
    place = np.arange(width)
    beyond = (place >= position[:, None]) & (position > 0)[:, None]
    count = beyond.sum(axis=-1)
    total = np.where(beyond, eigenvalues, 0.0).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = 1.0 - (total / count)[:, None] / eigenvalues
    return np.where(place < position[:, None], np.maximum(share, 0.0), np.nan)


def attenuated_overlap(older: Array, newer: Array, position: NDArray[np.intp]) -> Array:
    """Squared overlap that perfectly stable leading modes would show between windows that share no row [N, W].

    The product of both windows' `recovered_share`. An overlap far below it says that a mode turned; a low overlap alone
    does not.

    Args:
        older: eigenvalues of the older windows [N, W].
        newer: of the newer windows [N, W].
        position: how many leading modes are no noise [N].

    Returns:
        [N, W]; NaN beyond `position`.
    """
    return recovered_share(older, position) * recovered_share(newer, position)


def _halves(extended: Array, window: int, lag: int) -> tuple[Spectrum, Spectrum, Array]:
    size = window + lag
    if lag < 1 or extended.shape[-1] < size:
        raise InputError(
            f"overlaps at lag {lag}",
            expected=f"a lag of at least 1 and {size} updates",
            found=f"{extended.shape[-1]} updates",
            remedy="record with a longer horizon, or use a smaller window or lag",
        )
    block = extended[:, -size:, -size:]
    return spectrum(block[:, :window, :window]), spectrum(block[:, lag:, lag:]), block[:, :window, lag:]


def _pairs(squared: Array, least: float) -> list[tuple[int, int]]:
    """Pairs of largest total squared overlap, those above the bar."""
    rows = np.flatnonzero(~np.isnan(squared).all(axis=1))
    columns = np.flatnonzero(~np.isnan(squared).all(axis=0))
    if len(rows) == 0 or len(columns) == 0:
        return []
    # what lies under the bar must not push a mode out of a pair that lies above it
    block = np.nan_to_num(squared[np.ix_(rows, columns)])
    first, second = linear_sum_assignment(np.where(block > least, block, 0.0), maximize=True)
    return [(int(rows[i]), int(columns[j])) for i, j in zip(first, second, strict=True) if block[i, j] > least]


def _crossings(older: Identities, newer: Identities, window: int) -> list[Crossing]:
    """Pairs alive in both windows whose order differs."""
    places = {int(name): place for place, name in enumerate(older) if name >= 0}
    both = [int(name) for name in newer if int(name) in places]
    return [
        Crossing(window, rising=above, falling=below)
        for index, above in enumerate(both)
        for below in both[index + 1 :]
        if places[above] > places[below]
    ]
