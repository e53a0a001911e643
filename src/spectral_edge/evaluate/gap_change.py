"""The gap's change as the theory forecasts it, term by term, beside what was measured.

A forecast is made from one full window, for the window `ahead` rows later; with the default these share no row. The
gap is that at the position k* of the window from which the forecast is made, g = sigma_k* - sigma_k*+1, also later:
where k* moves, a gap at another position has not changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError
from spectral_edge.evaluate import scoring
from spectral_edge.evaluate.probed import ProbedTrace, Products
from spectral_edge.evaluate.scoring import Comparison, Forecasts
from spectral_edge.measure import Spectrum, grams, k_stars, persistence, project, spectrum
from spectral_edge.measure.spectrum import RANK_FLOOR
from spectral_edge.quantities import K_STAR_CONVENTIONS
from spectral_edge.theory.gap_flow import Form, strengths_pub
from spectral_edge.theory.terms import curvature_asymmetry, damping, driving_consistent, driving_pub

Array = NDArray[np.float64]

FORMS = ("published", "consistent", "matrix_flow", "matrix_flow_observed", "matrix_flow_given_drive")
"""Theorem 14.2 of arXiv 2603.28964 as printed; with the prefactor that its own Eq. 38 implies; this library's matrix
flow with drives that relax at the measured curvatures; with drives that go on as they did in the window; and with the
updates that came, which describes and forecasts nothing."""

BASELINES = ("size", "last_change")
"""Forecasts without any theory of modes. `size`: the gap changes with the window's size, whose trend is read off its
row norms. `last_change`: a gap that fell since the window before falls by the same factor again, one that rose rises by
the same amount; no change where no such window is known."""

FURTHEST = 50.0
"""Relaxation per row beyond which a drive is gone; keeps exp(-x) in range."""


class Recorded(ProbedTrace, Protocol):
    """What is needed of a trace (`spectral_edge.Trace` offers it)."""

    @property
    def probe_names(self) -> tuple[str, ...]:
        """Names of the probes."""
        ...

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics."""
        ...


@dataclass(frozen=True, slots=True)
class GapChange:
    """Forecasts of one run's gap.

    Attributes:
        step: of the window from which each forecast is made [N].
        position: k* of that window [N], counted from 1.
        gap: g there, in u [N].
        forecasts: measured change, level, scale (the window's sqrt(tr G)) and terms by form, in u; NaN where a term's
            probe or metric is not there. The forms are `FORMS` and `BASELINES`.
        missing: what was not recorded, in words.
    """

    step: NDArray[np.int64]
    position: NDArray[np.intp]
    gap: Array
    forecasts: Forecasts
    missing: tuple[str, ...]


def compare(found: Sequence[GapChange]) -> Comparison:
    """Scores every form on the forecasts that all of those that can be scored make; `print` shows a table.

    Args:
        found: forecasts of runs of one setting. With two runs or more intervals are over runs.

    Raises:
        InputError: if there are too few forecasts.
    """
    missing = dict.fromkeys(words for run in found for words in run.missing)
    return scoring.compare([run.forecasts for run in found], FORMS, against=BASELINES, missing=tuple(missing))


def gap_change(
    trace: Recorded,
    *,
    window: int | None = None,
    stride: int = 1,
    ahead: int | None = None,
    k_star: str = "raw",
    gradient: str = "gradient",
    integrate: bool = False,
) -> GapChange:
    """Forecasts the gap's change over `ahead` rows from every `ahead`-th window, by each of `FORMS` and `BASELINES`.

    The published forms need the probe `gradient` at the window's last update, the metrics `curvature_1`, ... (as
    `spectral_edge.modes.mode_curvature(...).metrics()` names them), learning rate and weight decay; `matrix_flow` needs
    `relaxation_1`, .... Curvature and relaxation are of the modes of the window that the run was watched with, so they
    are used for that window at stride 1 only. The other forms need lag rows alone.

    Learning rate and weight decay are those of the first parameter group at the window's end. The published forms know
    neither momentum nor preconditioning; in `matrix_flow` both are in the measured rates.

    Args:
        trace: the recorded run.
        window: number W of rows; the run's own by default.
        stride: observations that a row sums.
        ahead: rows between a window and the one that is forecast; W by default, which share no row.
        k_star: the convention, one of "raw", "weighted", "restricted", "abs".
        gradient: name of the probe of the loss' gradient.
        integrate: solve the published flow over the steps to the window that is forecast, with gradients, curvatures
            and rate as they are at its start, instead of multiplying its rate by their number.

    Raises:
        InputError: if the trace is too short for two forecasts, or on an unknown convention.
    """
    if k_star not in K_STAR_CONVENTIONS:
        raise InputError(
            "k_star", expected=" | ".join(K_STAR_CONVENTIONS), found=repr(k_star), remedy="use one of these names"
        )
    width = trace.window if window is None else window
    ahead = width if ahead is None else ahead
    rows = trace.lag_rows()
    ends, older, newer = _windows(rows, width, stride, ahead)
    now, then = spectrum(older), spectrum(newer)
    position = k_stars(now)[k_star].position
    inside = position > 0
    ends, position, older, newer = ends[inside], position[inside], older[inside], newer[inside]
    now, then = _some(now, inside), _some(then, inside)
    gap = _gap(now.sigma, position)
    steps = trace.steps[ends]
    elapsed = (trace.steps[ends + ahead * stride] - steps).astype(np.float64)
    missing: list[str] = []
    live = width == trace.window and stride == 1
    curvature = _logged(trace, "curvature", steps, width, missing, live=live)
    relaxation = _logged(trace, "relaxation", steps, width, missing, live=live)
    slopes = _gradients(trace, now, ends, stride, gradient, missing)
    rate, decay = (_settings(trace, name, ends, missing) for name in ("learning_rate", "weight_decay"))
    pairs = (_pair(values, position) for values in (now.sigma, slopes, curvature))
    inputs = [_Inputs(*known, window=width) for known in zip(*pairs, rate.tolist(), decay.tolist(), strict=True)]
    came, outside = _came(rows, now, newer, ends, ahead, stride)
    terms = {
        "published": _published(inputs, elapsed, "published", integrate=integrate),
        "consistent": _published(inputs, elapsed, "consistent", integrate=integrate),
        "matrix_flow": _flow(now, position, _kept(relaxation, elapsed / ahead), ahead),
        "matrix_flow_observed": _flow(now, position, np.clip(np.nan_to_num(persistence(now)), 0.0, 1.0), ahead),
        "matrix_flow_given_drive": _flow_terms(now, position, came, outside, ("driving", "outside")),
        "size": {"size": gap * np.expm1(ahead * _growth(older))},
        "last_change": {"last_change": _last_change(rows, ends, gap, position, width, stride, ahead)},
    }
    scale = np.sqrt(np.trace(older, axis1=1, axis2=2))
    forecasts = Forecasts(_gap(then.sigma, position) - gap, gap, scale, terms)
    return GapChange(steps, position, gap, forecasts, tuple(missing))


def _windows(rows: Array, width: int, stride: int, ahead: int) -> tuple[NDArray[np.intp], Array, Array]:
    """Last updates of the windows to forecast from, aligned to the newest row; Gram matrices of these and the later."""
    jump = ahead * stride
    ends = np.arange(len(rows) - 1 - jump, width * stride - 2, -jump)[::-1]
    # An update without its product with the one before follows a hole; none may lie between the two windows.
    holes = np.concatenate([[0], np.cumsum(~np.isfinite(rows[:, 1]))])
    ends = ends[holes[ends + jump + 1] == holes[ends + 1]]
    older, newer = (grams(rows, at, size=width, stride=stride) for at in (ends, ends + jump))
    known = _finite(older) & _finite(newer)
    ends, older, newer = ends[known], older[known], newer[known]
    if len(ends) < 2:
        raise InputError(
            "the trace",
            expected=f"at least two windows of {width} rows, {ahead} rows apart, and what follows them",
            found=f"{len(rows)} updates",
            remedy="use a smaller window, stride or ahead",
        )
    return ends, older, newer


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What the published flow is told of a window, for the modes k* and k* + 1 [2]: nothing later than its end."""

    sigma: Array
    gradient: Array
    curvature: Array
    rate: float
    decay: float
    window: int

    def free(self, d: Array) -> list[Array]:
        """The first two terms at strengths d [..., 2], in u a step."""
        damped = damping(d[..., 0] - d[..., 1], rate=self.rate, curvature=self.curvature, decay=self.decay)
        return [curvature_asymmetry(d, rate=self.rate, curvature=self.curvature), damped]

    def stepped(self, steps: int, form: Form) -> list[float]:
        """The terms' rates at the window's end times the number of steps."""
        push = driving_pub if form == "published" else driving_consistent
        driven = push(self.sigma, rate=self.rate, window=self.window, source=self.gradient**2)
        return [steps * float(term) for term in (*self.free(self.sigma), driven)]

    def solved(self, steps: int, form: Form) -> list[float]:
        """The flow over the same steps with its inputs held; each term is integrated along the solution."""
        source = np.broadcast_to(self.gradient**2, (steps + 1, 2))
        rate, h, decay = self.rate, self.curvature, self.decay
        with np.errstate(over="ignore", invalid="ignore"):
            d = strengths_pub(self.sigma, source, rate=rate, curvature=h, window=self.window, decay=decay, form=form)
            first = [float(np.trapezoid(term)) for term in self.free(d)]
            change = float(d[-1, 0] - d[-1, 1] - d[0, 0] + d[0, 1])
        return [*first, change - sum(first)]


def _published(inputs: Sequence[_Inputs], steps: Array, form: Form, *, integrate: bool) -> dict[str, Array]:
    """The three terms' changes of the gap until the window that is forecast [N], in u."""
    names = ("curvature_asymmetry", "damping", "driving_pub" if form == "published" else "driving_consistent")
    found = [(one.solved if integrate else one.stepped)(int(s), form) for one, s in zip(inputs, steps, strict=True)]
    return dict(zip(names, np.array(found).reshape(-1, 3).T, strict=True))


def _kept(relaxation: Array, steps: Array) -> Array:
    """What a drive keeps over one row of so many steps [N, W]; a mode without a rate keeps all of it.

    NaN where no rate at all was logged.
    """
    kept = np.exp(-np.clip(np.where(np.isfinite(relaxation), relaxation, 0.0) * steps[:, None], 0.0, FURTHEST))
    return np.where(np.isfinite(relaxation).any(axis=1, keepdims=True), kept, np.nan)


def _flow(now: Spectrum, position: NDArray[np.intp], kept: Array, ahead: int) -> dict[str, Array]:
    """The matrix flow with drives and noise as a window shows them, if a drive keeps the share `kept` [N, W] per row.

    Along each mode the window's rows are a q^k, fitted by least squares, and noise. The drives go on as a q^k. What
    noise puts into the fitted a is taken from their energy. Each new row also gets the noise's energy, in a direction
    of its own, since among many parameters rows of noise share none.
    """
    width = now.sigma.shape[1]
    rows = now.sigma[:, None, :] * now.left
    age = np.arange(width - 1, -1, -1.0)[None, :, None]
    # Scaled to 1 at the oldest row, q^-age would overflow for a drive that is gone within a row.
    shape = kept[:, None, :] ** (width - 1 - age)
    information = (shape**2).sum(axis=1)
    oldest = (rows * shape).sum(axis=1) / information
    noise = ((rows - oldest[:, None, :] * shape) ** 2).sum(axis=(1, 2)) / (width - 1)
    newest = oldest * kept ** (width - 1)
    fitted = (newest**2).sum(axis=1)
    spurious = noise / now.rank * (kept ** (2 * (width - 1)) / information).sum(axis=1)
    share = np.sqrt(np.clip(1 - np.divide(spurious, fitted, out=np.ones_like(fitted), where=fitted > 0), 0.0, 1.0))
    drive = (share[:, None] * newest)[:, None, :] * kept[:, None, :] ** np.arange(1, ahead + 1)[None, :, None]
    return _flow_terms(now, position, drive, np.repeat(noise[:, None], ahead, axis=1), ("driving", "noise"))


def _flow_terms(
    now: Spectrum, position: NDArray[np.intp], drive: Array, energy: Array, names: tuple[str, str]
) -> dict[str, Array]:
    """Parts of the gap's change: rows leave, others come along the modes, and these have energy besides.

    Args:
        now: of the windows [N].
        position: of the gap [N].
        drive: the rows that come, along the modes [N, ahead, W].
        energy: what each has besides, in a direction of its own [N, ahead].
        names: of the last two parts.
    """
    width, ahead = now.sigma.shape[1], drive.shape[1]
    stay = max(width - ahead, 0)
    old = (now.sigma[:, None, :] * now.left)[:, width - stay :, :]
    drive, energy = drive[:, ahead - (width - stay) :], energy[:, ahead - (width - stay) :]
    kept = np.concatenate([old, np.zeros_like(drive)], axis=1)
    along = np.concatenate([old, drive], axis=1)
    # Energy stands as its root in columns of its own: through the Gram matrix half of the digits would be lost.
    beside = np.concatenate([np.zeros((len(old), stay)), np.sqrt(energy)], axis=1)[:, :, None] * np.eye(width)
    left, driven, whole = (
        _gap(_singular(rows), position) for rows in (kept, along, np.concatenate([along, beside], axis=2))
    )
    return {"gap_window_loss": left - _gap(now.sigma, position), names[0]: driven - left, names[1]: whole - driven}


def _singular(rows: Array) -> Array:
    """Singular values of wide matrices [N, W, m], largest first [N, W]; NaN where one is not known."""
    known, out = _finite(rows), np.full(rows.shape[:2], np.nan)
    out[known] = np.linalg.svd(rows[known], compute_uv=False)
    return out


def _came(
    rows: Array, now: Spectrum, newer: Array, ends: NDArray[np.intp], ahead: int, stride: int
) -> tuple[Array, Array]:
    """The rows that came: projections on the older window's modes [N, ahead, W], NaN beyond the horizon, and energy.

    The energy is what a row has outside those modes [N, ahead]; unknown (NaN) for rows that have left again.
    """
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
    energy = np.full((len(ends), ahead), np.nan)
    last = min(ahead, width)
    energy[:, ahead - last :] = np.diagonal(newer, axis1=1, axis2=2)[:, width - last :]
    outside = energy - (found**2).sum(axis=2)
    return found, np.where(outside <= RANK_FLOOR * energy, 0.0, outside)


def _growth(gram: Array) -> Array:
    """Trend of the logarithm of the row norms, per row [N]; 0 where a row is zero."""
    square = np.diagonal(gram, axis1=1, axis2=2)
    moving = np.asarray((square > 0).all(axis=1))
    place = np.arange(square.shape[1]) - (square.shape[1] - 1) / 2
    slope = (0.5 * np.log(np.where(moving[:, None], square, 1.0)) * place).sum(axis=1) / (place**2).sum()
    return np.where(moving, slope, 0.0)


def _last_change(
    rows: Array, ends: NDArray[np.intp], gap: Array, position: NDArray[np.intp], width: int, stride: int, ahead: int
) -> Array:
    """The gap's last change again: a fall by the same factor, a rise by the same amount."""
    old = grams(rows, ends - ahead * stride, size=width, stride=stride)
    known = _finite(old)
    was = _gap(spectrum(np.where(known[:, None, None], old, np.eye(width))).sigma, position)
    larger = np.where(np.maximum(gap, was) > 0, np.maximum(gap, was), 1.0)
    return np.where(known, gap * (gap - was) / larger, 0.0)


def _gradients(
    trace: Recorded, now: Spectrum, ends: NDArray[np.intp], stride: int, name: str, missing: list[str]
) -> Array:
    """G_j = <v_j, gradient> at the windows' ends [N, W], from the probe's products with the updates."""
    count, width = now.sigma.shape
    products, known = np.full((count, width * stride), np.nan), np.zeros(count, dtype=bool)
    if name in trace.probe_names:
        products, known = Products(trace, width * stride, None).at(name, ends)
    if not known.any():
        missing.append(
            f"the probe {name!r}: monitor.probe({name}=...) after the step() that observed, where forecasts start: "
            f"{_places(trace.steps[ends])}"
        )
    summed = np.nan_to_num(products).reshape(count, width, stride).sum(axis=2)
    return np.where(known[:, None], project(now, summed), np.nan)


def _logged(
    trace: Recorded, name: str, steps: NDArray[np.int64], width: int, missing: list[str], *, live: bool
) -> Array:
    """Values that were logged by mode as `name_1`, `name_2`, ... at the ends of windows [N, W].

    They are of these windows' modes only if these are the ones that were watched: `live`.
    """
    found = np.full((len(steps), width), np.nan)
    if not live:
        missing.append(f"{name} of these modes: what was logged belongs to the window of {trace.window} single updates")
        return found
    for j in range(width):
        if f"{name}_{j + 1}" in trace.metric_names:
            at, values = trace.metrics(f"{name}_{j + 1}")
            known = dict(zip(at.tolist(), values.tolist(), strict=True))
            found[:, j] = [known.get(step, np.nan) for step in steps.tolist()]
    if not np.isfinite(found).any():
        missing.append(
            f"the metrics {name}_1, ... of modes.mode_curvature(...).metrics(), logged where forecasts start: "
            f"{_places(steps)}"
        )
    return found


def _settings(trace: Recorded, name: str, ends: NDArray[np.intp], missing: list[str]) -> Array:
    """The optimizer's setting at the windows' ends [N]."""
    values = trace.row_metadata(name)[ends]
    if not np.isfinite(values).any():
        missing.append(f"the {name.replace('_', ' ')}: pass the optimizer to the monitor")
    return values


def _places(steps: NDArray[np.int64]) -> str:
    return f"at the steps {', '.join(map(str, steps[:2].tolist()))}, ..."


def _finite(blocks: Array) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(blocks).all(axis=(1, 2)))


def _pair(values: Array, position: NDArray[np.intp]) -> Array:
    """What belongs to the modes k* and k* + 1 [N, 2]."""
    return np.take_along_axis(values, position[:, None] - 1 + np.arange(2), axis=1)


def _gap(sigma: Array, position: NDArray[np.intp]) -> Array:
    pair = _pair(sigma, position)
    return pair[:, 0] - pair[:, 1]


def _some(window: Spectrum, which: NDArray[np.bool_]) -> Spectrum:
    return Spectrum(window.eigenvalues[which], window.left[which], window.rank[which], window.rounding[which])
