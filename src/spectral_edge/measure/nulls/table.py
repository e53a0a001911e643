"""Quantiles of the gap ratios of structureless updates, drawn once and looked up ever after.

A table belongs to a window length and a memory. Its axes are x = sqrt(m2) and the shape position v of
`power_law.solve`; at each node it holds quantiles of every R_j and of max_j R_j among draws
G* = B (sum_k lambda_k z_k z_k^T + Wishart tail) B^T with rows renormalised to cosines. To first order in x,
R_j - R_j(T) is proportional to x for any memory, so linear interpolation in x is exact where it bridges decades.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from spectral_edge.measure.nulls.coherence import pairs
from spectral_edge.measure.nulls.memory import Memory, factor, normalised, whitened
from spectral_edge.measure.nulls.power_law import PowerLaw, solve

RANK_FLOOR = 1e-10
"""Eigenvalues below this share of the largest count as zero: they are rounding error of a float64 Gram matrix."""

PROBABILITIES = np.array([0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999])
"""Probabilities whose quantiles are stored."""
SCORES = ndtri(PROBABILITIES)
LOW, HIGH = 2, 10
"""Positions of the 1st and the 99th percentile."""

_SMALL = (1e-4, 3e-4, 1e-3, 3e-3, 6e-3, 0.01, 0.017, 0.03, 0.045, 0.065, 0.09, 0.12)
_LARGE = (0.16, 0.2, 0.25, 0.3, 0.36, 0.43, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98)
ROOTS = np.array((0.0, *_SMALL, *_LARGE))
"""Nodes in x = sqrt(p2)."""
POSITIONS = np.linspace(0.0, 1.0, 5)
"""Nodes in the shape position v."""
ENTRIES_ON_DEMAND = 12_000
"""Draws times W at a node where no table was shipped, so that a first use takes seconds (at least 400 draws). With the
1200 draws of W = 10 the 99th percentile is the 98.7th to 99.3th, one standard error either way."""
_SEED = 260_328_964
_FILE = "band_table.npz"


@dataclass(frozen=True, slots=True)
class BandTable:
    """Quantiles for one window length and memory, by the moments that whitened windows of each law show.

    Attributes:
        roots: [X, V] sqrt(m2) at each node, increasing along X from 0.
        shapes: [X, V] m3/m2^1.5 at each node, increasing along V.
        quantiles: [X, V, Q, W] of R_1..R_(W-1) and of their maximum, increasing along Q.
        draws: draws a node.
    """

    roots: NDArray[np.float64]
    shapes: NDArray[np.float64]
    quantiles: NDArray[np.float64]
    draws: int


def moments(white: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Moments of cosines: m2, the mean of c_ij^2 over pairs, and m3, that of c_ij c_jk c_ki over triples.

    Args:
        white: [N, W, W] whitened cosines.

    Returns:
        m2 [N] and m3 [N] (0 where W < 3, which has no triples).
    """
    count, size = white.shape[0], white.shape[-1]
    off = white - np.eye(size)
    cube = ((off @ off) * off).reshape(count, size * size).sum(axis=-1)
    entries = pairs(white)
    m2 = (entries * entries).sum(axis=-1) / max(entries.shape[-1], 1)
    m3 = cube / max(size * (size - 1) * (size - 2), 1)
    return m2, m3


def cosine_ratios(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ratios of consecutive singular values of row-normalised windows: what the band describes.

    Args:
        cosines: [N, W, W] cosines between rows.

    Returns:
        [N, W-1]; NaN where either eigenvalue lies below the rank floor, and throughout windows with NaN.
    """
    bad = np.isnan(cosines.sum(axis=(-2, -1)))
    if bad.any():
        cosines = np.where(bad[:, None, None], np.eye(cosines.shape[-1]), cosines)
    values = np.linalg.eigvalsh(cosines)[:, ::-1]
    values = np.where(values > RANK_FLOOR * values[:, :1], values, np.nan)
    values[bad] = np.nan
    return np.sqrt(values[:, :-1] / values[:, 1:])


def _bartlett(freedom: float, normals: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """[draws, W, W] Wishart matrices with real degrees of freedom > W - 1, from given off-diagonal normals."""
    draws, size = normals.shape[0], normals.shape[-1]
    lower = np.tril(normals, -1)
    diagonal = np.arange(size)
    shape = 0.5 * (freedom - diagonal)
    lower[:, diagonal, diagonal] = np.sqrt(2.0 * rng.standard_gamma(shape, size=(draws, size)))
    return lower @ lower.transpose(0, 2, 1)


def draw_whitened(law: PowerLaw, size: int, *, draws: int, seed: int = _SEED) -> Iterator[NDArray[np.float64]]:
    """Gram matrices of memoryless structureless windows, one batch for each power law in turn.

    Eigenvalues beyond 4 W enter as one Wishart matrix that matches the tail's first two moments. All laws
    share their random numbers, so that quantiles vary smoothly from law to law.

    Args:
        law: [n] covariances.
        size: window length W.
        draws: windows a law.
        seed: of a local generator; no global random state is touched.

    Yields:
        [draws, W, W] Gram matrices of unspecified scale.
    """
    explicit = 4 * size
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((draws, size, explicit))
    normals = rng.standard_normal((draws, size, size))
    weights = law.weights(explicit)
    first, second = law.sums(1, skip=explicit), law.sums(2, skip=explicit)
    for index in range(len(weights)):
        scaled = base * np.sqrt(weights[index])
        gram = scaled @ scaled.transpose(0, 2, 1)
        if first[index] > 0.0:
            # fewer effective dimensions than rows would leave Bartlett undefined; such a tail has next to no energy
            freedom = max(first[index] ** 2 / second[index], float(size))
            gram += (first[index] / freedom) * _bartlett(freedom, normals, np.random.default_rng([seed, 1]))
        yield gram


def _with_maximum(ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, W]: the ratios, then the largest of them."""
    return np.concatenate([ratios, np.fmax.reduce(ratios, axis=-1)[:, None]], axis=-1)


@lru_cache(maxsize=8)
def _laws(size: int) -> tuple[PowerLaw, NDArray[np.float64]]:
    """The nodes' power laws, of at least W dimensions so that every ratio is defined, and their shapes."""
    at, position = (axis.ravel() for axis in np.meshgrid(ROOTS[1:], POSITIONS, indexing="ij"))
    return solve(at**2, position, smallest=float(max(size, 3)))


def draw_table(size: int, memory: Memory, *, draws: int, seed: int = _SEED) -> BandTable:
    """Draw the table of one window length and memory.

    Renormalising rows before whitening lowers the moments of unevenly spread noise, the more the longer the memory. A
    node therefore bears the moments that its own windows show, relative to what they show without memory: a window
    is matched to the same law under every memory.

    Args:
        size: window length W, at least 2.
        memory: the optimizer's memory.
        draws: windows a node.
        seed: of a local generator.

    Returns:
        The table.
    """
    nodes = (len(ROOTS), len(POSITIONS))
    law, shape = _laws(size)
    lower, _ = factor(memory, size)
    roots, shapes = np.zeros(nodes), np.zeros(nodes)
    roots[1:], shapes[1:] = ROOTS[1:, None], shape.reshape(-1, nodes[1])
    quantiles = np.empty((*nodes, len(PROBABILITIES), size))
    # without noise only the memory's own spectrum remains
    quantiles[0] = _with_maximum(cosine_ratios(memory.matrix(size)[None]))
    for index, gram in enumerate(draw_whitened(law, size, draws=draws, seed=seed)):
        node = 1 + index // nodes[1], index % nodes[1]
        cosines = normalised(lower @ gram @ lower.T)
        if memory.beta > 0.0:
            plain, seen = (
                [np.mean(m) for m in moments(white)] for white in (normalised(gram), whitened(cosines, memory))
            )
            roots[node] *= np.sqrt(seen[0] / plain[0])
            shapes[node] *= (seen[1] / plain[1]) * (plain[0] / seen[0]) ** 1.5
        sample = _with_maximum(cosine_ratios(cosines))
        # positions that the rank floor leaves undefined keep what they had at the node before, at a smaller m2
        known = np.flatnonzero((~np.isnan(sample)).sum(axis=0) >= draws // 2)
        measure = np.nanquantile if np.isnan(sample).any() else np.quantile
        quantiles[node] = quantiles[node[0] - 1, node[1]]
        quantiles[node][:, known] = measure(sample[:, known], PROBABILITIES, axis=0)
    shapes[0] = shapes[1]
    return BandTable(roots, shapes, quantiles, draws)


def key(size: int, memory: Memory) -> str:
    """Name under which a table is shipped. The interval counts to three digits; the band does not resolve more."""
    return f"W{size}_beta{memory.beta:.6g}_s{memory.interval:.3g}"


def pack(tables: dict[str, BandTable], **parameters: object) -> dict[str, NDArray[np.generic]]:
    """Arrays to be written by `np.savez_compressed`, from tables by `key`."""
    note = {"draws": {name: table.draws for name, table in tables.items()}, "seed": _SEED, **parameters}
    arrays: dict[str, NDArray[np.generic]] = {"parameters": np.array(json.dumps(note))}
    for name, table in tables.items():
        arrays[f"{name}_roots"], arrays[f"{name}_shapes"] = table.roots, table.shapes
        arrays[f"{name}_excess"] = (table.quantiles - 1.0).astype(np.float32)  # R - 1 keeps its digits near 1
    return arrays


@lru_cache(maxsize=64)
def _shipped(name: str) -> BandTable | None:
    """The shipped table of this name, if there is one."""
    source = resources.files("spectral_edge.measure.nulls") / _FILE
    if not source.is_file():
        return None
    with source.open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
        if f"{name}_excess" not in arrays:
            return None
        note = json.loads(str(arrays["parameters"]))
        return BandTable(
            roots=arrays[f"{name}_roots"],
            shapes=arrays[f"{name}_shapes"],
            quantiles=1.0 + arrays[f"{name}_excess"].astype(np.float64),
            draws=int(note["draws"][name]),
        )


@lru_cache(maxsize=64)
def _found(name: str, size: int, memory: Memory) -> BandTable:
    return _shipped(name) or draw_table(size, memory, draws=max(ENTRIES_ON_DEMAND // size, 400))


@lru_cache(maxsize=256)
def table_for(size: int, memory: Memory) -> BandTable:
    """The table of a window length and memory: shipped, else drawn on first use and kept."""
    rounded = Memory(float(f"{memory.beta:.6g}"), float(f"{memory.interval:.3g}"))
    if rounded.beta == 0.0:
        rounded = Memory(0.0, 1.0)
    return _found(key(size, rounded), size, rounded)
