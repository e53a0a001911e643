"""Readings of runs without a test accuracy: where k* stands by interval, against memory alone, and around a shift."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiment_pages.records import Run
from spectral_edge import EdgeSeries, InputError, Trace
from spectral_edge.measure import Memory, decline_pub, k_stars, known_memory, spectrum

INTERVALS = (10, 20, 25, 50, 100, 200)
"""Steps that one update of a window spans, as far as a trace allows."""
CONVENTIONS = ("raw", "weighted", "restricted")
WINDOW = 10

Array = NDArray[np.float64]


def walks(trace: Trace, run: Run, *, every_interval: bool) -> dict[str, Any]:
    """Readings over all full windows of the whole model, by the steps that one update spans.

    Args:
        trace: of the run.
        run: its record.
        every_interval: whether at every one of `INTERVALS` that the trace allows, or at that of the observations alone.
    """
    every = run.config["observe_every"]
    found: dict[str, Any] = {}
    for interval in INTERVALS if every_interval else (every,):
        if interval % every:
            continue
        try:
            series = trace.edge(WINDOW, stride=interval // every, k_star="weighted")
        except InputError:  # the windows reach further back than was recorded
            continue
        if len(series["step"]):
            found[str(interval)] = _walk(trace, series, interval // every, run)
    return found


def _walk(trace: Trace, series: EdgeSeries, stride: int, run: Run) -> dict[str, Any]:
    positions = {name: _shares(series[f"k_star_{name}"]) for name in CONVENTIONS}
    known = np.isfinite(series["band_max"])
    clear = np.isfinite(series["k_star_clear"])
    fall = decline_pub(series["g23"], series["step"])
    reading = {
        "windows": len(series["step"]),
        "k_star": positions,
        "memory_alone": memory_alone(trace, series, stride),
        "outside": float((clear & known).sum() / known.sum()) if known.any() else None,
        "coherence": _mean(series["coherence"]),
        "fold": None if fall is None else float(fall.fold),
    }
    at = run.config["task"].get("shift_at") or run.config.get("perturb_at")
    return reading if at is None else {**reading, "around": around(series, at)}


def memory_alone(trace: Trace, series: EdgeSeries, stride: int) -> dict[str, dict[str, float]] | None:
    """Shares of k* if updates of these norms had nothing in common but what momentum gives them; None if unknown.

    A window's Gram matrix is then n_i n_j T_ij, up to fluctuations that fall with the number of parameters. Nothing is
    fitted. Noise of fewer effective dimensions spreads its spectrum further than this.

    Args:
        trace: for momentum and number of parameters.
        series: its windows.
        stride: observations that one update sums.
    """
    watched: Mapping[str, Any] = trace.metadata.get("monitor", {})
    memory = known_memory(watched.get("momentum"), trace.steps, every=watched.get("every"), stride=stride)
    norms = series["update_norm"]
    if memory is None or len(norms) < WINDOW:
        return None
    rows = np.lib.stride_tricks.sliding_window_view(norms, WINDOW)
    found = k_stars(spectrum(_noise(rows, memory, dimension=trace.parameter_count)))
    return {name: _shares(np.where(found[name].position > 0, found[name].position, np.nan)) for name in CONVENTIONS}


def _noise(norms: Array, memory: Memory, *, dimension: int) -> Array:
    """Gram matrices [N, W, W] of structureless updates with these norms [N, W] and this memory."""
    rng = np.random.default_rng(20_260_328)
    count, width = norms.shape
    spread = rng.standard_normal((count, width, width))
    spread = (spread + spread.transpose(0, 2, 1)) / np.sqrt(2)
    lower = np.linalg.cholesky(memory.matrix(width))
    correlated = lower @ (np.eye(width) + spread / np.sqrt(dimension)) @ lower.T
    return norms[:, :, None] * correlated * norms[:, None, :]


def around(series: EdgeSeries, at: int) -> dict[str, float]:
    """Change of means from the last windows before a step to the first that lie behind it entirely.

    Args:
        series: windows in the order of their last steps.
        at: the step.
    """
    steps = series["step"]
    spacing = int(np.median(np.diff(steps)))
    before = np.flatnonzero(steps <= at)[-WINDOW:]
    after = np.flatnonzero(steps >= at + WINDOW * spacing)[:WINDOW]
    if not len(before) or not len(after):
        return {}
    columns = {
        "coherence": series["coherence"],
        "sigma_2 / sigma_3": series["ratios"][:, 1],
        "sigma_3 / sigma_4": series["ratios"][:, 2],
        "R at the weighted k*": series["gap_ratio"],
        "effective rank": series["effective_rank"],
        "log of the update norm": np.log(np.where(series["update_norm"] > 0, series["update_norm"], np.nan)),
    }
    known = {name: (values[before], values[after]) for name, values in columns.items()}
    return {
        name: float(np.nanmean(last) - np.nanmean(first))
        for name, (first, last) in known.items()
        if np.isfinite(first).any() and np.isfinite(last).any()
    }


def _mean(values: Array) -> float | None:
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def _shares(positions: Array) -> dict[str, float]:
    """Share of each position among the windows that have one."""
    known = positions[np.isfinite(positions)]
    values, counts = np.unique(known, return_counts=True)
    return {str(int(value)): float(count / len(known)) for value, count in zip(values, counts, strict=True)}
