"""Every quantity of many windows at once, family by family, each computed when it is first asked for.

Streaming calls this with the newest window of every group, the analysis of a trace with all windows of one group:
the same code on the same numbers, so both give the same values bit for bit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from spectral_edge.errors import InputError, Outcome
from spectral_edge.measure import edge, gram, motion, regime, subspace
from spectral_edge.measure.nulls import (
    NO_MEMORY,
    SURROGATES,
    BandReading,
    Memory,
    Surrogate,
    band,
    coherence_p,
    cosine_ratios,
    surrogate_band,
)
from spectral_edge.measure.spectrum import Spectrum, effective_rank, spectrum
from spectral_edge.quantities import K_STAR_CONVENTIONS, QUANTITIES, Family

Array = NDArray[np.float64]
Codes = NDArray[np.int8]

NULLS: tuple[str, ...] = ("band", *SURROGATES)
"""Names that `null=` accepts."""


_RESERVED = int(Outcome.UNINFORMATIVE)
"""From this code on a quantity is defined, with a reservation. Comparing with the enumeration itself is slow."""


@dataclass(frozen=True, slots=True)
class Column:
    """One quantity of N windows: values [N] or [N, W] (NaN where undefined) and an `Outcome` code for each window."""

    values: Array
    outcomes: Codes


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """What a measurement depends on besides the inner products.

    Attributes:
        window: number W of updates.
        k_star: the convention that feeds the gaps and every adiabatic parameter.
        null: the null behind `band_*` and `k_star_clear`.
        memory: what the optimizer alone makes updates remember; None where unknown.

    Raises:
        InputError: on an unknown name or a window below two.
    """

    window: int
    k_star: str = "raw"
    null: str = "band"
    memory: Memory | None = None

    def __post_init__(self) -> None:
        if type(self.window) is not int or self.window < 2:
            raise InputError(
                "window", expected="at least 2 updates", found=repr(self.window), remedy="use a larger window"
            )
        for name, value, known in (("k_star", self.k_star, K_STAR_CONVENTIONS), ("null", self.null, NULLS)):
            if value not in known:
                raise InputError(name, expected=" | ".join(known), found=repr(value), remedy="use one of these names")


class Windows(Mapping[str, Column]):
    """All quantities of N windows of updates, by name.

    Args:
        extended: Gram matrices of the last n >= W updates [N, n, n], the window's own in the last W rows and
            columns; NaN where an update is missing. n = W + 1 adds the quantities at lag 1, n = 2W those at lag W.
        options: window, conventions and null.
        learning_rate: of each window's newest update [N]; NaN where unknown.
        sketch_error: relative standard error of an isolated sigma [N]; 0 when exact.
    """

    def __init__(self, extended: Array, options: WindowOptions, *, learning_rate: Array, sketch_error: Array) -> None:
        self.options = options
        self._extended = extended
        self._learning_rate = learning_rate
        self._sketch_error = sketch_error
        self._columns: dict[str, Column] = {}
        width = options.window
        window = extended[:, -width:, -width:]
        self._full = _finite(window)
        self._gram = np.where(self._full[:, None, None], window, np.eye(width))
        self._spectrum: Spectrum = spectrum(self._gram)
        self._cosine = gram.cosines(self._gram)
        moving = _finite(self._cosine)
        self._incomplete = np.where(self._full, Outcome.OK, Outcome.WINDOW_NOT_FULL).astype(np.int8)
        self._unmoving = _first(self._incomplete, np.where(moving, Outcome.OK, Outcome.ZERO_UPDATES))
        self._families: dict[Family, Callable[[], None]] = {
            "spectrum": self._measure_spectrum,
            "memory": self._measure_motion,
            "edge": self._measure_edge,
            "stability": self._measure_stability,
            "overlap": self._measure_overlap,
            "null": self._measure_null,
        }

    def __getitem__(self, name: str) -> Column:
        if name not in self._columns:
            if name not in QUANTITIES:
                raise KeyError(name)
            self._families[QUANTITIES[name].family]()
        return self._columns[name]

    def __iter__(self):  # noqa: ANN204 - the mapping protocol's own type
        return iter(QUANTITIES)

    def __len__(self) -> int:
        return len(QUANTITIES)

    # each family -------------------------------------------------------------------------------------------------

    def _measure_spectrum(self) -> None:
        lam = self._spectrum.eigenvalues
        self._put("sigma", self._spectrum.sigma)
        self._put("rank", self._spectrum.rank.astype(np.float64))
        self._put("gram_trace", lam.sum(axis=-1))
        self._put("effective_rank", effective_rank(lam), default=Outcome.ZERO_UPDATES)

    def _measure_motion(self) -> None:
        self._put("update_norm", np.sqrt(np.maximum(self._gram[:, -1, -1], 0.0)))
        self._put("lag1_cosine", motion.lag1_cosine(self._cosine), self._unmoving)
        self._put("coherence", motion.coherence(self._cosine), self._unmoving)
        self._put("progress_share", motion.progress_share(self._spectrum))
        self._put("mean_square_displacement", motion.mean_square_displacement(self._gram))

    def _measure_edge(self) -> None:
        self._put("ratios", edge.ratios(self._spectrum), default=Outcome.RANK_DEFICIENT)
        conventions = edge.k_stars(self._spectrum, sketch_error=self._sketch_error)
        for name, found in conventions.items():
            defined = (found.position > 0) & ~found.tied
            outcome = np.where(found.position == 0, Outcome.RANK_DEFICIENT, np.where(found.tied, Outcome.TIED, 0))
            self._put(f"k_star_{name}", np.where(defined, found.position, np.nan), self._reserve(outcome))
        position, outcome = self._chosen()
        gap_sigma, gap_lambda = edge.gaps(self._spectrum, position)
        self._put("gap_ratio", edge.at_position(self["ratios"].values, position), outcome)
        self._put("gap_sigma", gap_sigma, outcome)
        self._put("gap_lambda", gap_lambda, outcome)
        lam = self._spectrum.eigenvalues
        if self.options.window < 3:
            nothing = np.full(len(lam), np.nan)
            self._put("g23", nothing, default=Outcome.WINDOW_TOO_SMALL)
            self._put("g23_normalized", nothing, default=Outcome.WINDOW_TOO_SMALL)
            return
        g23 = lam[:, 1] - lam[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            normalized = g23 / lam.sum(axis=-1)
        self._put("g23", g23)
        self._put("g23_normalized", normalized, default=Outcome.ZERO_UPDATES)

    def _measure_stability(self) -> None:
        width = self.options.window
        names = [name for name, quantity in QUANTITIES.items() if quantity.family == "stability"]
        block, incomplete = self._lagged(width + 1, names)
        if block is None:
            return
        newer, older = self._spectrum, spectrum(block[:, :-1, :-1])
        change = subspace.moment_change(block[:, -1:, -1:], block[:, :1, :1], block[:, -1:, :1])
        shift = np.sqrt(((newer.eigenvalues - older.eigenvalues) ** 2).sum(axis=-1))
        for name, distance, null_space in (("alpha_pub", shift, False), ("alpha_dm", change, True)):
            alpha = subspace.stability(distance, subspace.neighbour_gaps(newer.eigenvalues, null_space=null_space))
            self._put(name, np.where(newer.resolved, alpha, np.nan), incomplete)
        turned = subspace.matched(subspace.overlaps(older, newer, block[:, :-1, 1:]))
        self._put("rotation_deg", np.degrees(np.arccos(np.sqrt(turned))), incomplete)

        position, outcome = self._chosen()
        gap_sigma, gap_lambda = edge.gaps(newer, position)
        closed = ~(gap_lambda > newer.rounding)
        outcome = _first(incomplete, outcome, np.where(closed, Outcome.NO_GAP, 0))
        priced = _first(outcome, np.where(np.isfinite(self._learning_rate), 0, Outcome.NO_LEARNING_RATE))
        indexed = subspace.frobenius(block[:, 1:, 1:] - block[:, :-1, :-1])
        with np.errstate(divide="ignore", invalid="ignore"):
            self._put("adiabatic_rot", change / gap_lambda, outcome)
            self._put("adiabatic_pub_sigma", indexed / (self._learning_rate * gap_sigma**2), priced)
            self._put("adiabatic_pub_lambda", indexed / (self._learning_rate * gap_lambda**2), priced)

    def _measure_overlap(self) -> None:
        width = self.options.window
        names = [name for name, quantity in QUANTITIES.items() if quantity.family == "overlap"]
        block, incomplete = self._lagged(2 * width, names)
        if block is None:
            return
        older = spectrum(block[:, :width, :width])
        overlap = subspace.overlaps(older, self._spectrum, block[:, :width, width:])
        self._put("alpha_overlap", subspace.matched(overlap), incomplete)
        position, outcome = self._chosen()
        outcome = _first(incomplete, outcome)
        lost = 1.0 - subspace.subspace_overlap(overlap, position)
        self._put("adiabatic_emp", lost, outcome)
        cosine = gram.cosines(block)
        moving = _finite(cosine)
        whole = np.where(moving[:, None, None], cosine, np.eye(2 * width))
        noise = regime.noise_reading(whole, position, self._memory)
        undefined = np.where(np.isnan(lost), Outcome.RANK_DEFICIENT, 0)
        outcome = _first(outcome, undefined, np.where(moving, 0, Outcome.ZERO_UPDATES))
        self._put("regime", regime.label(lost, noise), self._assume(outcome))

    def _measure_null(self) -> None:
        moving = self._unmoving == Outcome.OK
        whole = np.where(moving[:, None, None], self._cosine, np.eye(self.options.window))
        raw = np.where(moving[:, None, None], self._gram, np.eye(self.options.window))
        probability = coherence_p(raw, self._memory)
        self._put("coherence_p", probability, self._assume(self._unmoving))
        normalised = np.where(moving[:, None], cosine_ratios(whole), np.nan)
        self._put("cosine_ratios", normalised, self._unmoving)
        compared, reading = self._compare(whole, normalised, np.where(moving[:, None], self["ratios"].values, np.nan))
        outcome = self._assume(self._unmoving) if self.options.null == "band" else self._unmoving
        self._put("band_percentile", reading.percentile, outcome)
        self._put("band_low", reading.low, outcome)
        self._put("band_high", reading.high, outcome)
        self._put("band_max", reading.maximum, outcome)
        largest = np.where(np.isnan(compared), -np.inf, compared)
        inside = ~(largest.max(axis=-1) > reading.maximum)
        problem = np.where(
            np.isinf(largest).all(axis=-1), Outcome.RANK_DEFICIENT, np.where(inside, Outcome.INSIDE_BAND, 0)
        )
        clear = np.where(problem == 0, np.argmax(largest, axis=-1) + 1, np.nan)
        self._put("k_star_clear", clear, _first(self._unmoving, problem, outcome))

    def _compare(self, cosine: Array, normalised: Array, raw: Array) -> tuple[Array, BandReading]:
        """The ratios that a null speaks of, and what it says of them.

        The band describes row-normalised windows, since ratios of the raw window move with every change of update
        norm; a named surrogate matches the row norms instead.
        """
        if self.options.null == "band":
            return normalised, band(cosine, normalised, self._memory)
        return raw, surrogate_band(cast("Surrogate", self.options.null), self._gram, raw)

    # shared ------------------------------------------------------------------------------------------------------

    @property
    def _memory(self) -> Memory:
        return self.options.memory or NO_MEMORY

    def _chosen(self) -> tuple[NDArray[np.intp], Codes]:
        column = self[f"k_star_{self.options.k_star}"]
        return np.where(np.isnan(column.values), 0, column.values).astype(np.intp), column.outcomes

    def _lagged(self, size: int, names: list[str]) -> tuple[Array | None, Codes]:
        """The extended block of `size` updates made finite, and why it is undefined where it is."""
        if self._extended.shape[-1] < size:
            for name in names:
                shape = (len(self._full),) if QUANTITIES[name].shape == "scalar" else self._spectrum.sigma.shape
                self._put(name, np.full(shape, np.nan), default=Outcome.HORIZON_TOO_SHORT)
            return None, self._incomplete
        block = self._extended[:, -size:, -size:]
        known = _finite(block)
        outcome = _first(self._incomplete, np.where(known, 0, Outcome.HISTORY_TOO_SHORT))
        return np.where(known[:, None, None], block, np.eye(size)), outcome

    def _reserve(self, outcome: NDArray[np.integer]) -> Codes:
        few = Outcome.UNINFORMATIVE if self.options.window < 4 else Outcome.OK
        return _first(outcome, np.full(len(outcome), few))

    def _assume(self, outcome: Codes) -> Codes:
        note = Outcome.OK if self.options.memory is not None else Outcome.MEMORY_ASSUMED
        return _first(outcome, np.full(len(outcome), note))

    def _put(
        self,
        name: str,
        values: Array,
        outcome: NDArray[np.integer] | None = None,
        *,
        default: Outcome = Outcome.RANK_DEFICIENT,
    ) -> None:
        """Files a column: undefined where its outcome says so, and with a reason wherever it is undefined."""
        codes = self._incomplete if outcome is None else _first(self._incomplete, outcome)
        undefined = (codes > 0) & (codes < _RESERVED)
        values = np.where(undefined if values.ndim == 1 else undefined[:, None], np.nan, values)
        empty = np.isnan(values) if values.ndim == 1 else np.isnan(values).all(axis=-1)
        self._columns[name] = Column(values, _first(codes, np.where(empty & ~undefined, default, 0)))


def _finite(blocks: Array) -> NDArray[np.bool_]:
    """Which of N matrices have no NaN or infinity."""
    return np.asarray(np.isfinite(blocks).all(axis=(-2, -1)))


def _first(*outcomes: NDArray[np.integer]) -> Codes:
    """The first outcome that is not OK, window by window; a reservation yields to a reason to be undefined."""
    result = outcomes[0].astype(np.int8)
    for code in outcomes[1:]:
        if not code.any():
            continue
        open_ = (result == 0) | ((result >= _RESERVED) & (code > 0) & (code < _RESERVED))
        result = np.where(open_, code, result).astype(np.int8)
    return result
