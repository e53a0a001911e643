"""How much of the leading directions noise keeps from one window to the next, drawn once and looked up ever after.

A table belongs to a window length and a memory. Its nodes are power-law covariances, those of the band's tables, filed
under the moments that windows of 2 W updates show (`innovation_moments`). At each node stand, for every k < W, the 95th
percentile and the mean of O_k = |V_k^T V_k'|_F^2 / k between the two halves.

The percentile at the moments of *one* window is not a 95th percentile, because these moments are estimates, and because
k* favours windows whose leading k directions stand out. So each node also holds a shift of the logit of O_k, the 95th
percentile of what its own windows show above the limit that their own moments give (Beran's prepivoting, 1988), taken
over all of its windows or over those whose largest ratio is at k, whichever is larger.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from spectral_edge.measure.nulls.memory import Memory, factor, normalised
from spectral_edge.measure.nulls.power_law import PowerLaw, solve
from spectral_edge.measure.nulls.table import POSITIONS, ROOTS, draw_whitened, key, moments

Array = NDArray[np.float64]

ENTRIES_ON_DEMAND = 6_000
"""Draws times W at a node where no table was shipped, so that a first use takes seconds (at least 300 draws)."""
_VANISHED = 1e-12
"""An innovation below this share of its row is rounding error."""
_FEW = 200
"""Fewer windows than this do not tell a percentile of those whose largest ratio is at k."""
_ROUNDS = 2
"""Of shifts: a window reads the shifts of several nodes, so the first leaves something to do."""
_SEED = 2_603_289_641
_FILE = "regime_table.npz"


@dataclass(frozen=True, slots=True)
class RegimeTable:
    """What noise keeps over one window, by window length and memory.

    Attributes:
        roots: [X, V] square root of m2 at each node, increasing along X from 0.
        shapes: [X, V] m3 / m2^1.5 at each node, increasing along V.
        limits: [X, V, W-1] square root of the 95th percentile of O_k.
        expected: [X, V, W-1] square root of the mean of O_k.
        shifts: [X, V, W-1] what is added to the logit of the limit.
        draws: draws a node.
    """

    roots: Array
    shapes: Array
    limits: Array
    expected: Array
    shifts: Array
    draws: int


@lru_cache(maxsize=256)
def _innovations(memory: Memory, size: int) -> Array:
    """[size - 1, size] map to rows that are independent and free of a constant drift, whatever their covariance.

    Whitening turns a drift into the direction B^-1 1, which is projected out. Of what is left cosines in time make a
    basis, in which any other stationary memory nearly decorrelates, so that it does not pass for few dimensions.
    """
    _, inverse = factor(memory, size)
    time = np.arange(size)
    waves = np.cos(np.pi * np.outer(time + 0.5, time) / size)
    waves[:, 0] = inverse.sum(axis=1)
    basis = np.linalg.qr(waves)[0][:, 1:]
    found = np.ascontiguousarray(basis.T @ inverse)
    found.flags.writeable = False
    return found


def innovation_moments(cosines: Array, memory: Memory) -> tuple[Array, Array]:
    """Moments m2 and m3 of the innovations' cosines, from which a constant drift has been projected out.

    A constant update is no part of the noise and must not count as a direction in which noise is strong. What changes
    slowly or oscillates counts for little, as few of the waves in time hold it; a direction in which updates jitter
    counts in full.

    Args:
        cosines: [N, n, n] cosines of n successive updates.
        memory: of the optimizer, known and not fitted.

    Returns:
        m2 [N], one over the effective dimension, and m3 [N]; NaN where a cosine is, 0 where no more than rounding is
        left of an update.
    """
    linear = _innovations(memory, cosines.shape[-1])
    left = linear @ cosines @ linear.T
    vanished = (np.diagonal(left, axis1=-2, axis2=-1) < _VANISHED).any(axis=-1)
    if vanished.any():
        left[vanished] = np.eye(left.shape[-1])
    return moments(normalised(left))


def window_overlaps(grams: Array) -> tuple[Array, NDArray[np.intp]]:
    """O_k of the two halves of 2 W updates for k < W, and where the newer half has its largest ratio.

    Args:
        grams: [N, 2W, 2W] Gram matrices of positive definite halves.

    Returns:
        [N, W-1] and positions [N], from 1.
    """
    width = grams.shape[-1] // 2
    older, left = np.linalg.eigh(grams[:, :width, :width])
    newer, right = np.linalg.eigh(grams[:, width:, width:])
    product = left.swapaxes(-1, -2) @ grams[:, :width, width:] @ right
    # a drawn covariance may have as few dimensions as the window has rows: only rounding is left of the last value
    floor = 1e-300
    squared = product**2 / (np.maximum(older, floor)[:, :, None] * np.maximum(newer, floor)[:, None, :])
    total = np.minimum(squared[:, ::-1, ::-1], 1.0).cumsum(axis=1).cumsum(axis=2)
    index = np.arange(width - 1)
    values = np.maximum(newer[:, ::-1], floor)
    position = np.argmax(values[:, :-1] / values[:, 1:], axis=-1) + 1
    return np.minimum(total[:, index, index] / (index + 1), 1.0), position


@dataclass(frozen=True, slots=True)
class Place:
    """Where N windows stand among the nodes of a table: the same nodes in the tables of all memories.

    Attributes:
        row: [N, V] node below along X, in each column of nodes.
        right: [N, V] share of the way to the node above.
        column: [N] column below along V.
        down: [N] share of the way to the column above.
    """

    row: NDArray[np.intp]
    right: Array
    column: NDArray[np.intp]
    down: Array

    def read(self, values: Array) -> Array:
        """Interpolates [X, V, n] node values, to [N, n]."""
        window = np.arange(len(self.column))

        def along(column: NDArray[np.intp]) -> Array:
            at, share = self.row[window, column], self.right[window, column][:, None]
            return values[at, column] * (1.0 - share) + values[at + 1, column] * share

        down = self.down[:, None]
        return along(self.column) * (1.0 - down) + along(self.column + 1) * down


def place(table: RegimeTable, m2: Array, m3: Array) -> Place:
    """The place of moments m2 [N] and m3 [N] in a table; beyond its edge the nearest node."""
    root = np.sqrt(m2)
    shape = m3 / np.maximum(root * m2, 1e-300)
    row = np.minimum((table.roots[1:] <= root[:, None, None]).sum(axis=1), len(table.roots) - 2)
    columns = np.arange(table.roots.shape[1])
    start, end = table.roots[row, columns], table.roots[row + 1, columns]
    right = np.clip((root[:, None] - start) / (end - start), 0.0, 1.0)
    shapes = table.shapes[row, columns] * (1.0 - right) + table.shapes[row + 1, columns] * right
    span = np.maximum(shapes[:, -1] - shapes[:, 0], 1e-12)
    position = np.sqrt(np.clip((shape - shapes[:, 0]) / span, 0.0, 1.0)) * (len(columns) - 1)
    column = np.minimum(position.astype(np.intp), len(columns) - 2)
    return Place(row, right, column, position - column)


def upper_limit(table: RegimeTable, at: Place) -> Array:
    """The 95th percentile of O_k, k < W, at places of the table [N, W-1]."""
    limit = at.read(table.limits) ** 2
    return 1.0 / (1.0 + np.exp(-np.clip(_logit(limit) + at.read(table.shifts), -700.0, 700.0)))


def _logit(share: Array) -> Array:
    inside = np.clip(share, 1e-300, 1.0 - 1e-15)
    return np.log(inside) - np.log1p(-inside)


@lru_cache(maxsize=8)
def _laws(size: int) -> PowerLaw:
    """The nodes' power laws, of at least W dimensions so that every half has rank W."""
    at, position = (axis.ravel() for axis in np.meshgrid(ROOTS[1:], POSITIONS, indexing="ij"))
    return solve(at**2, position, smallest=float(max(size, 3)))[0]


def draw_regime_table(size: int, memory: Memory, *, draws: int, seed: int = _SEED) -> RegimeTable:
    """Draws the table of one window length and memory.

    Args:
        size: window length W, at least 2.
        memory: the optimizer's.
        draws: pairs of windows a node.
        seed: of a local generator; no global random state is touched.

    Returns:
        The table.
    """
    nodes = (len(ROOTS), len(POSITIONS))
    lower, _ = factor(memory, 2 * size)
    count = (len(ROOTS) - 1) * len(POSITIONS)
    m2, m3 = np.empty((count, draws)), np.empty((count, draws))
    seen = np.empty((count, draws, size - 1))
    largest = np.empty((count, draws), dtype=np.intp)
    for index, white in enumerate(draw_whitened(_laws(size), 2 * size, draws=draws, seed=seed)):
        gram = lower @ white @ lower.T
        m2[index], m3[index] = innovation_moments(normalised(gram), memory)
        seen[index], largest[index] = window_overlaps(gram)
    roots, shapes = np.zeros(nodes), np.zeros(nodes)
    limits, expected, shifts = (np.zeros((*nodes, size - 1)) for _ in range(3))
    roots[1:] = np.sqrt(m2.mean(axis=1)).reshape(-1, nodes[1])
    # where headed covariances are scarce, sampling may disorder the columns by less than matters
    shapes[1:] = np.maximum.accumulate((m3.mean(axis=1) / m2.mean(axis=1) ** 1.5).reshape(-1, nodes[1]), axis=1)
    shapes[0] = shapes[1]
    limits[1:] = np.sqrt(np.quantile(seen, 0.95, axis=1)).reshape(-1, nodes[1], size - 1)
    expected[1:] = np.sqrt(seen.mean(axis=1)).reshape(-1, nodes[1], size - 1)
    # without noise only what the memory itself keeps is left
    limits[0] = expected[0] = np.sqrt(window_overlaps(memory.matrix(2 * size)[None])[0][0])
    table = RegimeTable(roots, shapes, limits, expected, shifts, draws)
    for _ in range(_ROUNDS):
        found = np.zeros_like(shifts)
        for index in range(count):
            above = _logit(seen[index]) - _logit(upper_limit(table, place(table, m2[index], m3[index])))
            shift = np.quantile(above, 0.95, axis=0)
            for k in range(1, size):
                chosen = above[largest[index] == k, k - 1]
                if len(chosen) >= _FEW:
                    shift[k - 1] = max(shift[k - 1], float(np.quantile(chosen, 0.95)))
            found[1 + index // nodes[1], index % nodes[1]] = shift
        found[0] = found[1]
        shifts += found
    return table


def pack(tables: dict[str, RegimeTable]) -> dict[str, NDArray[np.generic]]:
    """Arrays to be written by `np.savez_compressed`, from tables by `nulls.table.key`."""
    note = {"draws": {name: table.draws for name, table in tables.items()}, "seed": _SEED}
    arrays: dict[str, NDArray[np.generic]] = {"parameters": np.array(json.dumps(note))}
    for name, table in tables.items():
        arrays[f"{name}_roots"], arrays[f"{name}_shapes"] = table.roots, table.shapes
        for part in ("limits", "expected", "shifts"):
            arrays[f"{name}_{part}"] = getattr(table, part).astype(np.float32)
    return arrays


@lru_cache(maxsize=64)
def _shipped(name: str) -> RegimeTable | None:
    """The shipped table of this name, if there is one."""
    source = resources.files("spectral_edge.measure") / _FILE
    if not source.is_file():
        return None
    with source.open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
        if f"{name}_limits" not in arrays:
            return None
        note = json.loads(str(arrays["parameters"]))
        parts = [arrays[f"{name}_{part}"].astype(np.float64) for part in ("limits", "expected", "shifts")]
        return RegimeTable(arrays[f"{name}_roots"], arrays[f"{name}_shapes"], *parts, draws=int(note["draws"][name]))


@lru_cache(maxsize=64)
def _found(name: str, size: int, memory: Memory) -> RegimeTable:
    return _shipped(name) or draw_regime_table(size, memory, draws=max(ENTRIES_ON_DEMAND // size, 300))


@lru_cache(maxsize=256)
def regime_table_for(size: int, memory: Memory) -> RegimeTable:
    """The table of a window length and memory: shipped, else drawn on first use (seconds) and kept."""
    rounded = Memory(float(f"{memory.beta:.6g}"), float(f"{memory.interval:.3g}"))
    if rounded.beta == 0.0:
        rounded = Memory(0.0, 1.0)
    return _found(key(size, rounded), size, rounded)
