"""The gap's change as the theory forecasts it, term by term, beside what was measured.

A forecast is made from one full window, for the window `ahead` rows later; with the default these share no row. The
gap is that at the position k* of the window from which the forecast is made, g = sigma_k* - sigma_k*+1, also later:
where k* moves, a gap at another position has not changed.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError
from spectral_edge.evaluate.scoring import Forecasts
from spectral_edge.measure import Spectrum, grams, group_rows, k_stars, persistence, project, spectrum
from spectral_edge.records import ProbeRow
from spectral_edge.theory.terms import curvature_asymmetry, damping, driving_consistent, driving_pub

Array = NDArray[np.float64]

FORMS = ("published", "consistent", "matrix_flow", "matrix_flow_given_drive")
"""Theorem 14.2 of arXiv 2603.28964 as printed; with the prefactor that its own Eq. 38 implies; this library's matrix
flow with the newest update continued; and the same with the updates that came, which describes only."""


class Recorded(Protocol):
    """What is needed of a trace (`spectral_edge.Trace` offers it)."""

    @property
    def steps(self) -> NDArray[np.int64]: ...  # noqa: D102
    @property
    def probe_names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def metric_names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def window(self) -> int: ...  # noqa: D102
    def lag_rows(self, group: None = None) -> Array: ...  # noqa: D102
    def row_metadata(self, name: str) -> Array: ...  # noqa: D102
    def probes(self, name: str) -> list[ProbeRow]: ...  # noqa: D102
    def metrics(self, name: str) -> tuple[NDArray[np.int64], Array]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class GapChange:
    """Forecasts of one run's gap.

    Attributes:
        step: of the window from which each forecast is made [N].
        position: k* of that window [N], counted from 1.
        gap: g there, in u [N].
        forecasts: measured change, level, scale (the window's sqrt(tr G)) and terms by form, in u; NaN where a term's
            probe or metric is not there.
        missing: what was not recorded, in words.
    """

    step: NDArray[np.int64]
    position: NDArray[np.intp]
    gap: Array
    forecasts: Forecasts
    missing: tuple[str, ...]


def gap_change(
    trace: Recorded,
    *,
    window: int | None = None,
    stride: int = 1,
    ahead: int | None = None,
    k_star: str = "raw",
    gradient: str = "gradient",
) -> GapChange:
    """Forecasts the gap's change over `ahead` rows from every `ahead`-th window, by each of `FORMS`.

    The published forms need the probe `gradient` at the window's last update and the metrics `curvature_1`, ... (as
    `spectral_edge.modes.mode_curvature(...).metrics()` names them); the matrix flow needs lag rows only and uses
    `relaxation_1`, ... where they were logged.

    Args:
        trace: the recorded run.
        window: number W of rows; the run's own by default.
        stride: observations that a row sums.
        ahead: rows between a window and the one that is forecast; W by default, which share no row.
        k_star: the convention, one of "raw", "weighted", "restricted", "abs".
        gradient: name of the probe of the loss' gradient.

    Raises:
        InputError: if the trace is too short for two forecasts.
    """
    width = trace.window if window is None else window
    ahead = width if ahead is None else ahead
    rows, span = trace.lag_rows(), width * stride
    ends = np.arange(len(rows) - 1 - ahead * stride, span - 2, -ahead * stride)[::-1]
    # One block that holds both windows would need a longer horizon; new rows meet old modes by their lags instead.
    older = grams(rows, ends, size=width, stride=stride) if len(ends) else np.empty((0, width, width))
    newer = grams(rows, ends + ahead * stride, size=width, stride=stride) if len(ends) else older
    known = np.isfinite(older).all(axis=(1, 2)) & np.isfinite(newer).all(axis=(1, 2))
    ends, older, newer = ends[known], older[known], newer[known]
    if len(ends) < 2:
        raise InputError(
            "the trace",
            expected=f"at least two windows of {width} rows, {ahead} rows apart, and what follows them",
            found=f"{len(rows)} updates",
            remedy="use a smaller window, stride or ahead",
        )
    now, then = spectrum(older), spectrum(newer)
    position = k_stars(now)[k_star].position
    inside = position > 0
    ends, position = ends[inside], position[inside]
    now, then, older = _some(now, inside), _some(then, inside), older[inside]
    steps = trace.steps[ends]
    missing: list[str] = []
    slopes = _gradients(trace, now, steps, stride, gradient, missing)
    curvature = _logged(trace, "curvature", steps, width, missing)
    relaxation = _logged(trace, "relaxation", steps, width, missing)
    rate, decay = (trace.row_metadata(name)[ends] for name in ("learning_rate", "weight_decay"))
    interval = np.median(np.diff(trace.steps)) * stride
    gap = _gap(now.sigma, position)
    terms: dict[str, dict[str, Array]] = {}
    sigma, slope, bend = (_pair(values, position) for values in (now.sigma, slopes, curvature))
    published = np.array(
        [_published(sigma[n], slope[n], bend[n], float(rate[n]), float(decay[n]), width) for n in range(len(ends))]
    )
    published *= interval * ahead
    for form, last in (("published", "driving_pub"), ("consistent", "driving_consistent")):
        columns = published[:, [0, 1, 2 if form == "published" else 3]].T
        terms[form] = dict(zip(("curvature_asymmetry", "damping", last), columns, strict=True))
    kept = np.where(np.isfinite(relaxation), np.exp(-relaxation * interval), np.clip(persistence(now), -1.0, 1.0))
    newest = now.sigma * now.left[:, -1, :]
    powers = np.arange(1, ahead + 1)[None, :, None]
    continued = np.nan_to_num(newest)[:, None, :] * np.nan_to_num(kept)[:, None, :] ** powers
    terms["matrix_flow"] = _flow_terms(now, position, continued, ahead)
    terms["matrix_flow_given_drive"] = _flow_terms(now, position, _came(rows, now, ends, ahead, stride), ahead)
    scale = np.sqrt(np.trace(older, axis1=1, axis2=2))
    forecasts = Forecasts(_gap(then.sigma, position) - gap, gap, scale, terms)
    return GapChange(steps, position, gap, forecasts, tuple(missing))


def _flow_terms(now: Spectrum, position: NDArray[np.intp], drive: Array, ahead: int) -> dict[str, Array]:
    """Terms of the gap's change when `ahead` rows leave and the driven ones [N, ahead, W] come, in the modes' basis."""
    rows = now.sigma[:, None, :] * now.left
    kept = rows[:, ahead:, :]
    gap = _gap(now.sigma, position)
    left = _gap(_singular(kept, now.sigma.shape[1]), position)
    come = _gap(_singular(np.concatenate([kept, drive], axis=1), now.sigma.shape[1]), position)
    return {"gap_window_loss": left - gap, "driving": come - left}


def _published(sigma: Array, slope: Array, curvature: Array, rate: float, decay: float, window: int) -> list[float]:
    """The published terms of one forecast, in u a step: both first ones, and the third as printed and as consistent."""
    terms = [
        curvature_asymmetry(sigma, rate=rate, curvature=curvature),
        damping(sigma[0] - sigma[1], rate=rate, curvature=curvature, decay=decay),
        driving_pub(sigma, rate=rate, window=window, source=slope**2),
        driving_consistent(sigma, rate=rate, window=window, source=slope**2),
    ]
    return [float(term) for term in terms]


def _singular(rows: Array, width: int) -> Array:
    """Singular values [N, width] of stacked rows [N, n, width], largest first; zeros where there are fewer rows."""
    out = np.zeros((len(rows), width))
    if rows.shape[1]:
        known = np.isfinite(rows).all(axis=(1, 2))
        found = np.linalg.svd(rows[known], compute_uv=False)[:, :width]
        out[known, : found.shape[1]] = found
        out[~known] = np.nan
    return out


def _came(rows: Array, now: Spectrum, ends: NDArray[np.intp], ahead: int, stride: int) -> Array:
    """The rows that came, by their projections on the older window's modes [N, ahead, W]; NaN beyond the horizon."""
    width, horizon = now.sigma.shape[1], rows.shape[1]
    found = np.full((len(ends), ahead, width), np.nan)
    for k in range(1, ahead + 1):
        products = np.zeros((len(ends), width))
        for i in range(width):
            for a in range(stride):
                for b in range(stride):
                    lag = (width - 1 - i + k) * stride + b - a
                    time = ends + (k - 1) * stride + 1 + b
                    products[:, i] += rows[time, lag] if lag < horizon else np.nan
        # Along directions below the rank floor a window holds nothing and knows nothing.
        found[:, k - 1] = np.where(now.resolved, project(now, products), 0.0)
    return found


def _gradients(
    trace: Recorded, now: Spectrum, steps: NDArray[np.int64], stride: int, name: str, missing: list[str]
) -> Array:
    """G_j = <v_j, gradient> at the windows' ends [N, W], from the probe's products with the updates."""
    found = np.full(now.sigma.shape, np.nan)
    if name not in trace.probe_names:
        missing.append(f"the probe {name!r}: monitor.probe({name}=...) after each step() that observed")
        return found
    by_step = {row.step: row for row in trace.probes(name)}
    width = now.sigma.shape[1]
    products = np.full(now.sigma.shape, np.nan)
    for index, step in enumerate(steps.tolist()):
        row = by_step.get(step)
        if row is not None and row.lags.shape[1] >= width * stride:
            lags = group_rows(row.lags, range(len(row.lags)))[: width * stride]
            products[index] = lags.reshape(width, stride).sum(axis=1)[::-1]
    known = np.isfinite(products).all(axis=1, keepdims=True)
    return np.where(known, project(now, np.nan_to_num(products)), np.nan)


def _logged(trace: Recorded, name: str, steps: NDArray[np.int64], width: int, missing: list[str]) -> Array:
    """Values that were logged by mode as `name_1`, `name_2`, ... at the windows' ends [N, W]."""
    found = np.full((len(steps), width), np.nan)
    for j in range(width):
        if f"{name}_{j + 1}" in trace.metric_names:
            at, values = trace.metrics(f"{name}_{j + 1}")
            known = dict(zip(at.tolist(), values.tolist(), strict=True))
            found[:, j] = [known.get(step, np.nan) for step in steps.tolist()]
    if not np.isfinite(found).any():
        missing.append(f"the metrics {name}_1, ... of modes.mode_curvature(...).metrics()")
    return found


def _pair(values: Array, position: NDArray[np.intp]) -> Array:
    """What belongs to the modes k* and k* + 1 [N, 2]."""
    return np.take_along_axis(values, position[:, None] - 1 + np.arange(2), axis=1)


def _gap(sigma: Array, position: NDArray[np.intp]) -> Array:
    pair = _pair(sigma, position)
    return pair[:, 0] - pair[:, 1]


def _some(window: Spectrum, which: NDArray[np.bool_]) -> Spectrum:
    return Spectrum(window.eigenvalues[which], window.left[which], window.rank[which], window.rounding[which])
