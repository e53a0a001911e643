"""A gap that keeps itself up: its two states, why a watched run cannot show the loop, and how well a slow cycle can.

Run from the repository's root: python examples/theory/feedback.py

Nothing here is judged by a rule of this script. The verdict on loops under a slow cycle is that of
`spectral_edge.modes.hysteresis`, and shares of verdicts are counted over seeds that were not used to write it; settings
were fixed on seeds below 2000.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectral_edge.measure.gram import cosines, grams
from spectral_edge.measure.motion import coherence
from spectral_edge.measure.spectrum import spectrum
from spectral_edge.measure.subspace import moment_change, neighbour_gaps, overlaps, stability
from spectral_edge.modes.contrast import Paired, paired
from spectral_edge.modes.cycle import Cycle, Readings, read
from spectral_edge.modes.hysteresis import Loops, RateDependence, loops, rate_dependence
from spectral_edge.modes.streams import Drift, planted, stream
from spectral_edge.plots.frame import COLOURS, FAINT, INK, LARGE, NORMAL, SMALL, new_figure, plain
from spectral_edge.simulate.feedback import Feedback, FeedbackResult
from spectral_edge.simulate.record import save, script_options
from spectral_edge.theory.feedback import Loop, evolve, fixed_points, fold_drives, open_state, triangle

Array = NDArray[np.float64]

FIRST_SEED = 5000
WINDOW, DIMENSION, BINS = 10, 400, 8
LOOP = Loop(window=WINDOW, rate=0.1, floor=0.03)
WEAK, STRONG, HOLD = 0.05, 0.8, 200.0
"""Drives of the watched streams, on either side of both folds, and how long each stays on average."""
LAGS = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30)
RESPONSE = "log_ratio"


@dataclass(frozen=True)
class Settings:
    """How much of everything.

    Attributes:
        seeds: streams of each kind that are watched.
        length: observations of each.
        runs: seeds of each kind that is driven slowly.
        periods: of the slow cycle, in observations.
        cycles: of each period.
        points: of the control, for the area of an infinitely slow cycle.
    """

    seeds: int = 40
    length: int = 3000
    runs: int = 12
    periods: tuple[int, ...] = (160, 320, 640, 1280)
    cycles: int = 5
    points: int = 60


QUICK = Settings(seeds=2, length=600, runs=2, periods=(40, 80, 160), points=4)


# the minimal loop ----------------------------------------------------------------------------------------------------


def minimal_loop() -> dict[str, object]:
    """States of the loop without a floor, and what a slow fall and rise of the drive does to it."""
    loop = Loop(window=WINDOW)
    drive = triangle(0.1, 0.6, period=4000.0, cycles=1, step=0.5)
    path = evolve(np.array(0.9), drive, loop, step=0.5)
    lost = np.flatnonzero(path < 0.5)
    return {
        "fold": fold_drives(loop)[0],
        "drive": [0.27, 0.3, 0.5, 1.0],
        "states": fixed_points(np.array([0.27, 0.3, 0.5, 1.0]), loop),
        "lost_at": drive[::2][lost[0]],
        "after_the_cycle": path[-1],
    }


# watched streams -----------------------------------------------------------------------------------------------------


def telegraph(length: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A switch that is thrown by chance, on average every `HOLD` observations, at half steps [2 length - 1]."""
    return np.cumsum(rng.random(2 * length - 1) < 0.5 / HOLD) % 2 == 0


def in_the_loop(length: int, rng: np.random.Generator) -> Array:
    """Energy of the drift under a switched drive where the gap keeps the drift up."""
    drive = np.where(telegraph(length, rng), STRONG, WEAK)
    start = np.array(np.nanmax(fixed_points(drive[0], LOOP)))
    return drive[::2] * evolve(start, drive, LOOP, step=1.0)


def in_the_open(length: int, rng: np.random.Generator) -> Array:
    """The same where the drive alone sets what persistence tends to."""
    drive = np.where(telegraph(length, rng), STRONG, WEAK)
    return drive[::2] * evolve(open_state(drive[0], LOOP), drive, LOOP, step=1.0, closed=False)


def switched(length: int, rng: np.random.Generator) -> Array:
    """A drift that is there or not: no persistence that follows anything."""
    return np.where(telegraph(length, rng), STRONG, 0.0)[::2]


STREAMS: dict[str, tuple[str, Callable[[int, np.random.Generator], Array]]] = {
    "loop": ("loop", in_the_loop),
    "open": ("open twin", in_the_open),
    "switch": ("drift on or off", switched),
}


@dataclass(frozen=True)
class Watched:
    """What a window shows of a stream, for every observation at which two windows fit.

    Attributes:
        gap: first minus second singular value.
        before: the same one window earlier, of rows that the window does not share.
        alpha: stability coefficient of the leading mode from one observation to the next, with the moment change.
        overlap: squared overlap of the leading directions of the two windows that share no row.
        coherence: mean cosine of the window's updates.
    """

    gap: Array
    before: Array
    alpha: Array
    overlap: Array
    coherence: Array


def watch(lag_rows: Array) -> Watched:
    """Reads a stream."""
    ends = np.arange(2 * WINDOW - 1, len(lag_rows))
    block = grams(lag_rows, ends, size=2 * WINDOW)
    older, newer = (
        spectrum(np.ascontiguousarray(block[:, part, part])) for part in (slice(0, WINDOW), slice(WINDOW, None))
    )
    last = block[:, -WINDOW - 1 :, -WINDOW - 1 :]
    change = moment_change(last[:, -1:, -1:], last[:, :1, :1], last[:, -1:, :1])
    return Watched(
        gap=newer.sigma[:, 0] - newer.sigma[:, 1],
        before=older.sigma[:, 0] - older.sigma[:, 1],
        alpha=stability(change, neighbour_gaps(newer.eigenvalues, null_space=True))[:, 0],
        overlap=overlaps(older, newer, block[:, :WINDOW, WINDOW:])[:, 0, 0] ** 2,
        coherence=coherence(cosines(block[:, WINDOW:, WINDOW:])),
    )


def correlations(found: Watched) -> tuple[list[float], list[float]]:
    """Of alpha with the gap m observations later, for each lag: plain, and given the present gap."""
    plainly: list[float] = []
    given: list[float] = []
    for m in LAGS:
        count = len(found.gap) - m
        now, later, present = found.alpha[:count], found.gap[m:], found.gap[:count]
        plainly.append(_correlation(now, later))
        rest = [series - _fitted(present[:, None], series, present[:, None]) for series in (now, later)]
        given.append(_correlation(*rest) if m else np.nan)
    return plainly, given


def _correlation(one: Array, other: Array) -> float:
    constant = np.ptp(one) == 0 or np.ptp(other) == 0
    return np.nan if constant else float(np.corrcoef(one, other)[0, 1])


def h2_gain(found: Watched) -> float:
    """What alpha over disjoint windows adds to the prediction of the gap one window ahead, out of sample.

    The gap now, the gap one window ago and the coherence of the window predict it by least squares on the first half of
    a stream; the gain is in R^2 on the second half when the overlap of the two windows joins them.
    """
    count = len(found.gap) - WINDOW
    later = found.gap[WINDOW:]
    known = np.stack([found.gap[:count], found.before[:count], found.coherence[:count]], axis=1)
    joined = np.column_stack([known, found.overlap[:count]])
    # Rows of the last training target are not shared with the first test window.
    half, start = count // 2, count // 2 + 3 * WINDOW
    scores: list[float] = []
    for features in (known, joined):
        error = later[start:] - _fitted(features[:half], later[:half], features[start:])
        scores.append(1 - float((error**2).sum() / ((later[start:] - later[:half].mean()) ** 2).sum()))
    return scores[1] - scores[0]


def _fitted(features: Array, target: Array, at: Array) -> Array:
    design, there = (np.column_stack([np.ones(len(x)), x]) for x in (features, at))
    return there @ np.linalg.lstsq(design, target, rcond=None)[0]


@dataclass(frozen=True)
class Seen:
    """What watching one kind of stream shows, over seeds.

    Attributes:
        correlation: of alpha and the gap, by lag.
        given_the_present_gap: the same when a straight line in the present gap is taken from both; NaN at lag 0.
        h2_gain: of R^2 out of sample, see `h2_gain`.
    """

    correlation: list[Paired]
    given_the_present_gap: list[Paired]
    h2_gain: Paired


def watched(kind: str, settings: Settings, first_seed: int = FIRST_SEED) -> Seen:
    """Correlations and gains of one kind of stream over seeds."""
    plainly: list[list[float]] = []
    given: list[list[float]] = []
    gains: list[float] = []
    for seed in range(first_seed, first_seed + settings.seeds):
        rng = np.random.default_rng([list(STREAMS).index(kind), seed])
        energy = STREAMS[kind][1](settings.length, rng)
        rows = stream(np.ones(len(energy)), energy, rng, horizon=2 * WINDOW, dimension=DIMENSION)
        found = watch(rows)
        one, other = correlations(found)
        plainly.append(one)
        given.append(other)
        gains.append(h2_gain(found))
    columns = [[paired(column) for column in np.array(each).T] for each in (plainly, given)]
    return Seen(columns[0], columns[1], paired(gains))


# driven streams ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A planted stream under the slow cycle.

    Attributes:
        title: for people.
        drift: what is planted.
    """

    title: str
    drift: Drift


CASES: dict[str, Case] = {
    "loop_005": Case("loop, floor .005", Drift(floor=0.005)),
    "loop_02": Case("loop, floor .02", Drift(floor=0.02)),
    "loop_05": Case("loop, floor .05", Drift(floor=0.05)),
    "none": Case("follows at once", Drift(dynamics="none")),
    "lag_10": Case("lag of 10", Drift(dynamics="lag", rate=0.1)),
    "lag_40": Case("lag of 40", Drift(dynamics="lag", rate=1 / 40)),
    "lag_160": Case("lag of 160", Drift(dynamics="lag", rate=1 / 160)),
    "lag_640": Case("lag of 640", Drift(dynamics="lag", rate=1 / 640)),
}
VERDICTS = ("hysteresis", "inconclusive", "no hysteresis")
LOW, HIGH = 3e-4, 3e-3


def log_ratios(lag_rows: Array) -> Readings:
    """The logarithm of R at k*, at every second window."""
    found = read(lag_rows, window=WINDOW, every=2)
    return next(one for one in found if one.name == RESPONSE)


def driven(case: Case, settings: Settings, first_seed: int = FIRST_SEED) -> dict[str, object]:
    """Verdicts on one planted stream over seeds."""
    judged: list[RateDependence] = []
    for seed in range(first_seed, first_seed + settings.runs):
        found: list[Loops] = []
        for period in settings.periods:
            cycle = Cycle(low=LOW, high=HIGH, period=period, cycles=settings.cycles)
            position = cycle.position(np.arange(cycle.steps))
            rng = np.random.default_rng([seed, period])
            rows = planted(position, cycle.rates(), case.drift, rng, horizon=2 * WINDOW, dimension=DIMENSION)
            reading = log_ratios(rows)
            found.append(loops(reading.time, reading.values, period=period, bins=BINS))
        judged.append(rate_dependence(found))
    verdicts = [one.verdict for one in judged]
    true = true_area(case.drift, settings.points)
    return {
        "verdicts": {verdict: verdicts.count(verdict) for verdict in VERDICTS},
        "holds_the_truth": sum(one.low <= true <= one.high for one in judged),
        "areas": np.mean([one.areas for one in judged], axis=0),
        "low": float(np.median([one.low for one in judged])),
        "high": float(np.median([one.high for one in judged])),
        "span": float(np.mean([one.span for one in judged])),
        "true_area": true,
    }


def true_area(drift: Drift, points: int) -> float:
    """Loop area in ln R of an infinitely slow cycle: the difference of the outer states, weighted as `loops` does."""
    if drift.dynamics != "loop":
        return 0.0
    control = (np.arange(points) + 0.5) / points
    rng = np.random.default_rng(0)
    apart: list[float] = []
    for drive in drift.drive(control).tolist():
        outer = drift.states(drive)[[0, -1]]
        if outer[1] - outer[0] < 1e-3:
            apart.append(0.0)
            continue
        lower, upper = (
            log_ratios(
                stream(np.ones(1000), np.full(1000, drive * q), rng, horizon=2 * WINDOW, dimension=DIMENSION)
            ).values.mean()
            for q in outer
        )
        apart.append(float(upper - lower))
    return float(np.mean(np.array(apart) * np.sin(np.pi * control)) * np.pi / 2)


# picture -------------------------------------------------------------------------------------------------------------


def picture(
    found: FeedbackResult, seen: Mapping[str, Seen], drove: Mapping[str, dict[str, object]], slowest: int
) -> Figure:
    """States under a slow cycle, areas by period, what watching shows, and verdicts on planted streams."""
    figure = new_figure(1010)
    grid = figure.add_gridspec(2, 2, left=0.062, right=0.985, top=0.955, bottom=0.07, wspace=0.24, hspace=0.31)
    panels: list[list[Axes]] = grid.subplots(squeeze=False).tolist()
    (states, areas), (watching, verdicts) = panels
    for ax in (states, areas, watching, verdicts):
        plain(ax)
    _states(states, found)
    _areas(areas, found)
    _watching(watching, seen)
    _verdicts(verdicts, drove, slowest)
    return figure


def _words(ax: Axes, title: str, x: str, y: str) -> None:
    ax.set_title(title, loc="left", fontsize=LARGE, color=INK)
    ax.set_xlabel(x, fontsize=NORMAL, color=INK)
    ax.set_ylabel(y, fontsize=NORMAL, color=INK)


def _states(ax: Axes, found: FeedbackResult) -> None:
    for name, mask, style in (
        ("stable states", ~found.branch_unstable, "-"),
        ("unstable state", found.branch_unstable, ":"),
    ):
        # The branch begins at no drive, where persistence is the floor.
        drive = np.concatenate([[0.0], np.where(mask, found.branch_drive, np.nan)])
        state = np.concatenate([[found.settings.floor], found.branch_state])
        ax.plot(drive, state, style, color=FAINT, linewidth=5, alpha=0.7, label=name)
    ax.plot(found.cycle_drive, found.cycle_state, color=COLOURS["run"], linewidth=2, label="slow cycle, loop")
    ax.plot(found.cycle_drive, found.cycle_open, color=COLOURS["control"], linewidth=1.6, label="slow cycle, open twin")
    ax.set_xlim(found.settings.low, found.settings.high)
    ax.legend(loc="center right", fontsize=SMALL, frameon=False)
    _words(
        ax,
        f"The loop has two states for drives from {found.folds[0]:.3f} to {found.folds[1]:.3f}",
        "drive E: energy of the drift at q = 1 over the noise's",
        "persistence q",
    )


def _areas(ax: Axes, found: FeedbackResult) -> None:
    ax.plot(found.period, found.area_closed, "o-", color=COLOURS["run"], linewidth=2, label="loop")
    ax.plot(found.period, found.area_open, "s-", color=COLOURS["control"], linewidth=2, label="open twin")
    ax.plot(
        found.period,
        found.area_open[-1] * found.period[-1] / found.period,
        "--",
        color=FAINT,
        linewidth=1.2,
        label="1 / period",
        zorder=0,
    )
    ax.axhline(found.area_limit, color=COLOURS["run"], linestyle="--", linewidth=1.2, label="limit, from the states")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.legend(loc="lower left", fontsize=SMALL, frameon=False)
    _words(ax, "The loop of a lag closes as the cycle slows down", "period, in observations", "area enclosed in (E, q)")


def _watching(ax: Axes, seen: Mapping[str, Seen]) -> None:
    looks = ((COLOURS["run"], "o"), (COLOURS["control"], "s"), (INK, "^"))
    for (kind, result), (colour, mark) in zip(seen.items(), looks, strict=True):
        for values, style in ((result.correlation, "-"), (result.given_the_present_gap, "--")):
            ax.errorbar(
                LAGS,
                [one.mean for one in values],
                yerr=[(one.high - one.low) / 2 for one in values],
                fmt=mark + style,
                color=colour,
                markersize=5,
                linewidth=1.6,
                label=STREAMS[kind][0] if style == "-" else None,
            )
    ax.axhline(0, color=FAINT, linewidth=0.8)
    ax.set_ylim(-0.4, 1.08)
    ax.plot([], [], "--", color=FAINT, linewidth=1.6, label="given the present gap")
    ax.legend(loc="center right", bbox_to_anchor=(1.0, 0.52), fontsize=SMALL, frameon=False)
    _words(
        ax,
        "Watching: α foretells the gap, loop or no loop",
        "lag m, in observations",
        "correlation of α and the gap m later",
    )


def _verdicts(ax: Axes, drove: Mapping[str, dict[str, object]], slowest: int) -> None:
    places = np.arange(len(drove))[::-1]
    left = np.zeros(len(drove))
    for verdict, colour in zip(VERDICTS, (COLOURS["run"], "#c9c9c9", COLOURS["control"]), strict=True):
        count = np.array([counts(result)[verdict] for result in drove.values()], dtype=np.float64)
        ax.barh(places, count, left=left, color=colour, label=verdict, height=0.72)
        left += count
    ax.set_yticks(places, [CASES[name].title for name in drove], fontsize=SMALL)
    ax.set_xlim(0, left.max())
    ax.grid(visible=False)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=SMALL, frameon=False, ncols=3)
    _words(ax, "", f"planted streams (slowest cycle {slowest:,} observations)", "")
    ax.set_title("Driving: what the slow cycle says", loc="left", fontsize=LARGE, color=INK, pad=26)


def counts(result: Mapping[str, object]) -> dict[str, int]:
    """How often each verdict was given."""
    found = result["verdicts"]
    assert isinstance(found, dict)
    return found


def sentences(
    minimal: Mapping[str, object], seen: Mapping[str, Seen], drove: Mapping[str, dict[str, object]]
) -> list[str]:
    """What was found, in words, beside the sentences of the simulation."""
    at = LAGS.index(WINDOW)
    lines = [
        f"The minimal loop has its fold at a drive of {minimal['fold']:.4f}; in a slow fall the gap is lost at "
        f"{minimal['lost_at']:.4f} and does not come back."
    ]
    for kind, result in seen.items():
        plainly, given, gain = result.correlation[at], result.given_the_present_gap[at], result.h2_gain
        lines.append(
            f"Watched, {STREAMS[kind][0]}: alpha and the gap {WINDOW} observations later correlate at "
            f"{plainly.mean:.3f} ({given.mean:+.3f} given the present gap); over disjoint windows it adds "
            f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] to R^2 out of sample."
        )
    for name, result in drove.items():
        verdicts = ", ".join(f"{verdict} {count}" for verdict, count in counts(result).items())
        lines.append(
            f"Driven, {CASES[name].title}: {verdicts}; area at infinity {result['low']:.3f} to "
            f"{result['high']:.3f} (medians), in truth {result['true_area']:.3f}."
        )
    return lines


def main() -> None:
    """Runs, draws and records."""
    options = script_options(__doc__ or "", "examples/theory/feedback.py")
    settings = QUICK if options.quick else Settings()
    minimal = minimal_loop()
    found = Feedback(stream=500).run()
    seen = {kind: watched(kind, settings) for kind in STREAMS}
    drove = {name: driven(case, settings) for name, case in CASES.items()}
    said = sentences(minimal, seen, drove)
    print("\n".join(said))
    picture(found, seen, drove, settings.periods[-1]).savefig(options.out / "feedback.png", dpi=80)
    save(
        options.results / "feedback.json",
        command=options.command,
        settings={
            **asdict(settings),
            "window": WINDOW,
            "dimension": DIMENSION,
            "bins": BINS,
            "loop": asdict(LOOP),
            "weak": WEAK,
            "strong": STRONG,
            "hold": HOLD,
            "first_seed": FIRST_SEED,
            "driven": {name: asdict(case.drift) for name, case in CASES.items()},
        },
        numbers={
            "minimal": minimal,
            "with_a_floor": {
                "floor": found.settings.floor,
                "folds": found.folds,
                "collapse": found.collapse,
                "recovery": found.recovery,
                "period": found.period,
                "area_closed": found.area_closed,
                "area_open": found.area_open,
                "area_limit": found.area_limit,
                "excess": found.excess,
                "relaxation_predicted": found.relaxation_predicted,
                "relaxation_measured": found.relaxation_measured,
            },
            "lags": LAGS,
            "watched": seen,
            "driven": drove,
            "sentences": said,
        },
    )


if __name__ == "__main__":
    main()
