"""The published test of gap damping on gaps whose damping is known: stationary ones, and one that only declines.

Run from the repository's root: python examples/theory/damping.py
"""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectral_edge.plots.frame import FAINT, INK, LARGE, NORMAL, SMALL, new_figure, plain
from spectral_edge.simulate.record import save, script_options
from spectral_edge.theory.damping import damping_ends, damping_rate, damping_test_pub

Array = NDArray[np.float64]
Summary = dict[str, float]

LENGTH = 400


def gaps(rate: float, runs: int, generator: np.random.Generator) -> Array:
    """Stationary gaps of mean 10 that relax at this rate per sample [runs, LENGTH]."""
    rho = np.exp(-rate)
    noise = generator.standard_normal((LENGTH, runs))
    found = np.empty_like(noise)
    found[0] = noise[0] / np.sqrt(1 - rho**2)
    for t in range(1, LENGTH):
        found[t] = rho * found[t - 1] + noise[t]
    return 10 + found.T


def summary(values: Array) -> Summary:
    """Mean, its standard error, and the standard deviation."""
    return {
        "mean": float(np.mean(values)),
        "standard_error": float(np.std(values, ddof=1) / np.sqrt(len(values))),
        "deviation": float(np.std(values, ddof=1)),
    }


def main() -> None:
    """Runs, draws and records."""
    options = script_options(__doc__, "examples/theory/damping.py")
    generator = np.random.default_rng(0)
    runs = 200 if options.quick else 4000
    rates = np.array([0.02, 0.05, 0.1, 0.3, 1.0])
    published, recovered = [], []
    for rate in rates:
        gap = gaps(rate, runs, generator)
        published.append(summary(damping_test_pub(gap)))
        recovered.append(summary(damping_rate(gap)))
    time = np.arange(40)
    falling = 10 * np.exp(-0.1 * time) + 0.5 * generator.standard_normal((runs, len(time)))
    transient = summary(damping_test_pub(falling))
    # The same fall, run backwards and upside down: a gap that collapses faster and faster.
    collapse = summary(damping_test_pub(10 - falling[:, ::-1]))
    straight = summary(damping_test_pub(10 - time / 4 + 0.5 * generator.standard_normal((runs, len(time)))))
    gap = gaps(0.1, 1, generator)[0]
    inner, slope = gap[1:-1] - gap[1:-1].mean(), (gap[2:] - gap[:-2]) / 2
    numbers = {
        "rates": rates,
        "published": published,
        "recovered": recovered,
        "transient": transient,
        "collapse": collapse,
        "straight_line": straight,
        "telescoping_error": float(abs((inner * slope).sum() - damping_ends(gap))),
        "largest_mean_in_standard_errors": max(abs(p["mean"]) / p["standard_error"] for p in published),
    }
    _figure(rates, published, recovered, transient, collapse).savefig(options.out / "damping.png", dpi=80)
    save(
        options.results / "damping.json",
        command=options.command,
        settings={"length": LENGTH, "runs": runs, "seed": 0},
        numbers=numbers,
    )
    print(
        f"On stationary gaps that relax at {rates[0]:g} to {rates[-1]:g} per sample the published test averages "
        f"{min(p['mean'] for p in published):+.4f} to {max(p['mean'] for p in published):+.4f}; a decaying transient "
        f"gives {transient['mean']:+.2f}, and a collapse that speeds up {collapse['mean']:+.2f}."
    )
    print(
        "Recovered rates:", ", ".join(f"{r['mean']:.3f} for {rate:g}" for rate, r in zip(rates, recovered, strict=True))
    )


def _figure(
    rates: Array, published: list[Summary], recovered: list[Summary], transient: Summary, collapse: Summary
) -> Figure:
    figure = new_figure(580)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.065, right=0.985, top=0.85, bottom=0.13, wspace=0.17)
    common = {"fmt": "o", "markersize": 8, "linewidth": 2, "capsize": 4}
    left.errorbar(
        rates,
        [p["mean"] for p in published],
        yerr=[p["deviation"] for p in published],
        color="#D55E00",
        label="stationary gaps",
        **common,
    )
    for value, label, dashes in (
        (transient["mean"], "a decline that slows down", "--"),
        (collapse["mean"], "a decline that speeds up", ":"),
    ):
        left.axhline(value, color=INK, linestyle=dashes, linewidth=1.6, label=label)
    left.axhline(0, color=FAINT, linewidth=1.2)
    left.set_ylim(-0.75, 1.1)
    left.set_ylabel("correlation of g with its slope", fontsize=NORMAL, color=INK)
    right.plot(rates, rates, color=FAINT, linewidth=1.5, label="true rate")
    right.errorbar(
        rates,
        [r["mean"] for r in recovered],
        yerr=[r["deviation"] for r in recovered],
        color="#0072B2",
        label="from the autocorrelation",
        **common,
    )
    right.set_yscale("log")
    right.set_ylabel("relaxation rate found (1 / sample)", fontsize=NORMAL, color=INK)
    for ax, title in ((left, "Published test, mean and spread over runs"), (right, "Rate from the autocorrelation")):
        plain(ax)
        ax.set_xscale("log")
        ax.set_title(title, loc="left", fontsize=LARGE, color=INK)
        ax.set_xlabel("true relaxation rate of the gap (1 / sample)", fontsize=NORMAL, color=INK)
        ax.legend(fontsize=SMALL, frameon=False)
    figure.suptitle(
        "The published damping test averages zero whatever the damping, and otherwise reads the shape of a trend",
        fontsize=LARGE,
        color=INK,
        y=0.97,
    )
    return figure


if __name__ == "__main__":
    main()
