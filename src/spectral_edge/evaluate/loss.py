"""The change of a loss by mode and by parameter group, from a trace in which a `LossPath` recorded gradients.

Any window and any grouping, without the model: lag rows give the modes, probe rows their products with gradients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError, TraceError
from spectral_edge.evaluate.probed import ProbedTrace, Products, chain_windows, width_of
from spectral_edge.measure import attribution as parts
from spectral_edge.measure import grams, spectrum, subspace

Array = NDArray[np.float64]

RULES = ("first", "second", "trapezoid", "gauss")
"""How the gradient is integrated along the chord: at its start; there with the Hessian; at both ends; at two points."""

_REMEDIES = {
    "gauss": 'record with LossPath(..., gauss=True), or pass rule="trapezoid"',
    "second": 'record with LossPath(..., curvature=True), or pass rule="trapezoid"',
}
_RECORD = "record with LossPath(monitor, model, loss, name=...)"


@dataclass(frozen=True, slots=True)
class LossSeries:
    """The change of a loss over each of N observed updates, by mode of the window that ends with the update.

    Attributes:
        step: of the later observation [N].
        rule: how the chord was integrated, one of `RULES`.
        change: measured change of the loss [N].
        rounding: the loss's rounding unit over the size of the change [N]; a residual of that order means nothing.
        integral: what the rule gives before it is split [N].
        modes: signed parts by mode [N, W], leading mode first; NaN below the rank floor.
        groups: signed parts by mode [N, W] for each parameter group; over groups that divide the watched parameters
            they sum to `modes`.
    """

    step: NDArray[np.int64]
    rule: str
    change: Array
    rounding: Array
    integral: Array
    modes: Array
    groups: Mapping[str, Array]

    @property
    def residual(self) -> Array:
        """What the modes miss, rho = |change - sum of modes| / |change| [N]."""
        return parts.residual(self.change, parts.total(self.modes))

    @property
    def remainder(self) -> Array:
        """What the integral holds beyond the modes above the rank floor [N]."""
        return self.integral - parts.total(self.modes)

    @property
    def shares(self) -> Array:
        """Signed shares of the modes in their sum [N, W]."""
        return parts.signed_shares(self.modes)

    def summed(self, count: int | None = None) -> Array:
        """Running sum over the run of the leading modes' parts [N], in the loss's unit.

        Args:
            count: number of leading modes; all by default.
        """
        return np.nancumsum(parts.total(self.modes, count))


@dataclass(frozen=True, slots=True)
class LossForecast:
    """The change over the update that follows a window, along the modes of that window, which does not contain it.

    Attributes:
        step: of the window's last update, at whose parameters the gradient was taken [N].
        change: measured change of the loss over the following update [N].
        first_order: <g, d> with the update as it then was [N].
        captured: share of that update's energy inside the window's span [N].
        modes: <g, v_j><v_j, d> [N, W]; hindsight, as the update is used.
        drift: <g, v_j><v_j, m> with m the window's mean update [N, W]; a forecast, as only the past is used.
        alpha: squared overlap of each mode with its counterpart one window earlier [N, W]; NaN without that window.
    """

    step: NDArray[np.int64]
    change: Array
    first_order: Array
    captured: Array
    modes: Array
    drift: Array
    alpha: Array

    @property
    def discounted(self) -> Array:
        """sum_j alpha_j <g, v_j><v_j, d> [N]."""
        return parts.discounted(self.modes, self.alpha)

    @property
    def drift_discounted(self) -> Array:
        """sum_j alpha_j <g, v_j><v_j, m> [N]: the forecast that trusts a mode as far as it has lasted."""
        return parts.discounted(self.drift, self.alpha)


@dataclass(frozen=True, slots=True)
class PublishedLoss:
    """The published decomposition of the validation loss's change, at the windows of `decompose`.

    Attributes:
        step: of the later observation [N].
        change: measured change of the validation loss [N].
        modes_pub: -eta alpha_j G_j^train G_j^val [N, W].
        modes_unweighted_pub: -eta G_j^train G_j^val [N, W].
        modes: <G^val, v_j><v_j, d>, what the two stand for [N, W].
    """

    step: NDArray[np.int64]
    change: Array
    modes_pub: Array
    modes_unweighted_pub: Array
    modes: Array


def decompose(
    trace: ProbedTrace,
    window: int | None = None,
    *,
    name: str = "loss",
    rule: str = "gauss",
    group: str | None = None,
    by_group: Sequence[str] = (),
) -> LossSeries:
    """Splits the change of a loss over every observed update by the modes of the window that ends with it.

    Args:
        trace: recorded with a `LossPath`.
        window: number W of updates; that of the recorded run by default.
        name: of the path.
        rule: one of `RULES`; "second" needs curvature=True, "gauss" gauss=True when recording.
        group: a recorded group, to use its own modes and its own share of the integral; its residual counts what the
            other groups do as unexplained.
        by_group: recorded groups among which to divide each mode's part, exactly.

    Raises:
        InputError: if the rule is unknown, it is no trace, or the window cannot be used.
        TraceError: if there is no such path or group, or what the rule needs was not recorded.
    """
    if rule not in RULES:
        raise InputError("rule", expected=" | ".join(RULES), found=repr(rule), remedy="use one of these names")
    width, remedy = width_of(trace, window), _REMEDIES.get(rule, _RECORD)
    products = Products(trace, width, group, remedy=remedy)
    index = chain_windows(trace, width, group)
    change, rounding, known = _changes(trace, name, index)
    along, found = _integrated(products, name, rule, index)
    index, keep = index[known & found], known & found
    rows = trace.lag_rows(group)
    measured = spectrum(grams(rows, index, size=width))
    shares = {
        one: parts.mode_terms(measured, _integrated(Products(trace, width, one), name, rule, index)[0])
        for one in by_group
    }
    return LossSeries(
        trace.steps[index],
        rule,
        change[keep],
        rounding[keep],
        along[keep, -1],
        parts.mode_terms(measured, along[keep]),
        shares,
    )


def forecast(trace: ProbedTrace, window: int | None = None, *, name: str = "loss") -> LossForecast:
    """Judges what the modes of a window say of the update that follows it.

    Args:
        trace: recorded with a `LossPath` and a horizon beyond the window; alpha needs two windows.
        window: number W of updates; that of the recorded run by default.
        name: of the path.

    Raises:
        TraceError: if there is no such path.
        InputError: if it is no trace, or the horizon does not reach beyond the window.
    """
    width = width_of(trace, window)
    rows = trace.lag_rows()
    if width >= trace.horizon:
        raise InputError(
            "window",
            expected=f"below the horizon of {trace.horizon} updates",
            found=str(width),
            remedy="record with a longer horizon, or use a smaller window",
        )
    later = chain_windows(trace, width + 1, None)
    change, _, known = _changes(trace, name, later)
    gradients, found = Products(trace, width, None, remedy=_RECORD).at(f"{name}/gradient", later - 1)
    first, _ = Products(trace, 1, None, remedy=_RECORD).before(f"{name}/gradient", later)
    keep = known & found
    later, index = later[keep], later[keep] - 1
    measured = spectrum(grams(rows, index, size=width))
    following = rows[later, 1 : width + 1][:, ::-1]
    return LossForecast(
        trace.steps[index],
        change[keep],
        first[keep, -1],
        parts.captured_fraction(measured, following, rows[later, 0]),
        parts.span_terms(measured, gradients[keep], following),
        parts.drift_terms(measured, gradients[keep]),
        _lasting(rows, index, width),
    )


def published(
    trace: ProbedTrace, window: int | None = None, *, train: str = "train", validation: str = "validation"
) -> PublishedLoss:
    """The published decomposition beside what it stands for.

    Args:
        trace: recorded with two paths, of the training batch that makes the next update and of the validation loss,
            and with the learning rate.
        window: number W of updates; that of the recorded run by default.
        train: name of the training loss's path.
        validation: name of the validation loss's path.

    Raises:
        TraceError: if there is no such path.
        InputError: if the horizon does not reach beyond the window.
    """
    width = width_of(trace, window)
    index = chain_windows(trace, width + 1, None)
    products = Products(trace, width, None, remedy=_RECORD)
    change, _, known = _changes(trace, validation, index)
    ours, first = products.before(f"{validation}/gradient", index)
    theirs, second = products.before(f"{train}/gradient", index)
    keep = known & first & second
    index = index[keep]
    block = grams(trace.lag_rows(), index, size=width + 1)
    older, newer = spectrum(block[:, :-1, :-1]), spectrum(block[:, 1:, 1:])
    moved = np.sqrt(((newer.eigenvalues - older.eigenvalues) ** 2).sum(axis=-1))
    alpha = subspace.stability(moved, subspace.neighbour_gaps(newer.eigenvalues, null_space=False))
    rate = trace.row_metadata("learning_rate")[index]
    on_train = parts.mode_gradients(newer, theirs[keep])
    on_validation = parts.mode_gradients(newer, ours[keep])
    return PublishedLoss(
        trace.steps[index],
        change[keep],
        parts.loss_change_pub(alpha, on_train, on_validation, rate),
        parts.loss_change_pub(np.ones_like(alpha), on_train, on_validation, rate),
        parts.mode_terms(newer, ours[keep]),
    )


def _changes(trace: ProbedTrace, name: str, index: NDArray[np.intp]) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Change of the loss over the updates at `index`, its rounding relative to it, and where both are known."""
    steps = trace.steps
    columns: list[Array] = []
    for metric in ("loss", "rounding"):
        try:
            at, values = trace.metrics(f"{name}/{metric}")
        except TraceError as error:
            raise TraceError(
                f"the path {name!r}, {error.subject}", expected=error.expected, found=error.found, remedy=_RECORD
            ) from error
        logged = dict(zip(at.tolist(), values.tolist(), strict=True))
        columns.append(np.array([logged.get(int(step), np.nan) for step in steps]))
    loss, rounding = columns
    change = loss[index] - loss[index - 1]
    rounded = parts.ratio(np.hypot(rounding[index], rounding[index - 1]), np.abs(change))
    return change, rounded, np.isfinite(change)


def _integrated(products: Products, name: str, rule: str, index: NDArray[np.intp]) -> tuple[Array, NDArray[np.bool_]]:
    """Products of the chord's mean gradient with the windows that end at `index`, and where they are known."""
    if rule == "gauss":
        first, known = products.at(f"{name}/gauss_1", index)
        second, also = products.at(f"{name}/gauss_2", index)
        return parts.gauss_products([first, second]), known & also
    start, known = products.before(f"{name}/gradient", index)
    if rule == "first":
        return start, known
    other = "gradient" if rule == "trapezoid" else "hessian"
    end, also = products.at(f"{name}/{other}", index)
    joined = parts.trapezoid_products(start, end) if rule == "trapezoid" else start + 0.5 * end
    return joined, known & also


def _lasting(rows: Array, index: NDArray[np.intp], width: int) -> Array:
    """Squared overlap of each mode with its counterpart in the window before, which shares no row."""
    alpha = np.full((len(index), width), np.nan)
    if rows.shape[-1] < 2 * width:
        return alpha
    block = grams(rows, index, size=2 * width)
    known = np.isfinite(block).all(axis=(-2, -1))
    if known.any():
        block = block[known]
        older, newer = spectrum(block[:, :width, :width]), spectrum(block[:, width:, width:])
        alpha[known] = subspace.matched(subspace.overlaps(older, newer, block[:, :width, width:]))
    return alpha
