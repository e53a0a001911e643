"""Figure and numbers of docs/theory/detection.md: what the published test says of noise, and what can be known."""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from spectral_edge.measure.noise import inherited_gram, inherited_share, lag_signal, remembered_share, replicate_signal
from spectral_edge.plots.frame import COLOURS, INK, LARGE, NORMAL, SMALL, new_figure, plain
from spectral_edge.plots.simulations.bbp import overlaps_panel, phase_panel
from spectral_edge.simulate.bbp import Bbp, BbpResult
from spectral_edge.simulate.record import save, script_options
from spectral_edge.theory.detection import (
    detection_ratio_limit,
    detection_ratio_pub,
    detection_threshold,
    left_overlap,
    right_overlap,
)
from spectral_edge.theory.noise_ratio import detection_ratio_draws, detection_ratio_noise
from spectral_edge.theory.signals import CovarianceSpike, Drift, Modes
from spectral_edge.theory.streams import Stream, direction_overlaps
from spectral_edge.theory.temporal import Momentum

EXAMPLE = np.array([198.58, 169.08, 122.47, 110.73, 106.22, 92.66, 78.30, 61.27, 44.58, 22.79])
"""The example spectrum in the replication script of arXiv 2603.28964."""
EXAMPLE_PARAMETERS = 163_150_848
WIDTH = 10
COLOUR = {10: COLOURS["run"], 5: "#009E73", 3: COLOURS["control"]}

Numbers = dict[str, Any]


def published_on_noise(draws: int, rng: np.random.Generator) -> list[Numbers]:
    """The published ratio of pure noise, drawn and expected, by number of rows and parameters."""
    cases = [(width, int(size)) for width in COLOUR for size in (1e3, 1e4, 1e5, 1e6, 1e7, EXAMPLE_PARAMETERS)]
    cases += [(3, 131_072), (5, 131_072), (5, 2_359_296)]
    found: list[Numbers] = []
    for width, parameters in cases:
        mean, error = detection_ratio_draws(parameters=parameters, width=width, draws=draws, generator=rng)
        expected = detection_ratio_noise(parameters=parameters, width=width)
        found.append({"width": width, "parameters": parameters, "drawn": mean, "error": error, "expected": expected})
    return found


def uneven_noise(draws: int, rng: np.random.Generator) -> list[Numbers]:
    """Spread of the spectrum of uneven noise, and the overlaps at twice the threshold of its effective dimension."""
    found: list[Numbers] = []
    for exponent in (0.0, 0.5, 0.8, 1.0, 1.5):
        noise = Stream(parameters=20_000, exponent=exponent)
        sigma = np.sqrt(np.linalg.eigvalsh(noise.grams(WIDTH, draws, rng).gram)[:, ::-1])
        space = {"width": WIDTH, "dimension": noise.effective_dimension, "noise_energy": 1.0}
        strength = float(2 * detection_threshold(**space))
        signals = (Modes(sigma=(strength,), window=WIDTH),)
        drawn = Stream(parameters=20_000, exponent=exponent, signals=signals).grams(WIDTH, draws, rng)
        course = (np.linalg.eigh(drawn.gram)[1][:, :, -1] * drawn.coordinates[:, :, 0] / strength).sum(axis=1) ** 2
        found.append(
            {
                "exponent": exponent,
                "effective_dimension": noise.effective_dimension,
                "first_over_last": float((sigma[:, 0] / sigma[:, -1]).mean()),
                "largest_ratio": float((sigma[:, :-1] / sigma[:, 1:]).max(axis=1).mean()),
                "left": float(course.mean()),
                "left_formula": float(left_overlap(strength, **space)),
                "right": float(direction_overlaps(drawn.gram, drawn.projections)[:, 0, 0].mean()),
                "right_formula": float(right_overlap(strength, **space)),
            }
        )
    return found


def estimators(exponent: float, draws: int, rng: np.random.Generator) -> list[Numbers]:
    """Energy of a planted mode as the window, replicates and the lag-W cross-Gram matrix see it; noise energy 1.

    The two windows have the same modes and independent noise, so they stand for replicates as well.
    """
    found: list[Numbers] = []
    for energy in (0.0, 0.01, 0.02, 0.04, 0.08, 0.18, 0.36, 0.72, 1.5, 3.0):
        signals = (Modes(sigma=(energy**0.5,), window=WIDTH),)
        gram = Stream(parameters=20_000, exponent=exponent, signals=signals).grams(2 * WIDTH, draws, rng).gram
        replicates, lag = replicate_signal(gram), lag_signal(gram, width=WIDTH)
        row: Numbers = {
            "energy": energy,
            "window": float(np.linalg.eigvalsh(gram[:, :WIDTH, :WIDTH])[:, -1].mean()),
        }
        for name, estimate in (("replicates", replicates), ("lag", lag)):
            above = np.isfinite(estimate.signal)
            signal = estimate.signal[above]
            row[name] = {
                "largest": float(estimate.energies[:, 0].mean()),
                "floor": float(np.median(estimate.floor)),
                "above_floor": float(above.mean()),
                "signal": float(signal.mean()) if len(signal) else float("nan"),
                "signal_sd": float(signal.std(ddof=1)) if len(signal) > 1 else float("nan"),
            }
        found.append(row)
    return found


def momentum_shares() -> list[Numbers]:
    """What momentum .9 alone shows as signal, over a window's noise energy, by steps in a row."""
    found: list[Numbers] = []
    for interval in (1, 10, 50, 200):
        memory = Momentum(beta=0.9, interval=interval)
        inherited = inherited_gram(beta=0.9, interval=interval, width=WIDTH)
        found.append(
            {
                "interval": interval,
                "replicates": inherited_share(beta=0.9, interval=interval),
                "replicates_largest_mode": float(np.linalg.eigvalsh(inherited)[-1]) / WIDTH,
                "lag": remembered_share(memory.covariance(2 * WIDTH), width=WIDTH),
                "lag_with_gap": remembered_share(memory.covariance(3 * WIDTH), width=WIDTH),
            }
        )
    return found


def necessary_only(draws: int, rng: np.random.Generator) -> Numbers:
    """Lag-W energy of a drift and of a zero-mean jitter with the same energy per row, a tenth of the noise's."""
    found: Numbers = {}
    for name, signal in (("drift", Drift(energy=0.1)), ("jitter", CovarianceSpike(energy=0.1))):
        gram = Stream(parameters=20_000, signals=(signal,)).grams(2 * WIDTH, draws, rng).gram
        found[name] = float(np.nanmean(lag_signal(gram, width=WIDTH).signal))
    return found


def draw(noise: list[Numbers], sweep: BbpResult, seen: list[Numbers], path: Any) -> None:
    """Four panels: the published test on noise, the overlaps, the phases, the estimators."""
    figure = new_figure(1000)
    grid = figure.add_gridspec(2, 2, left=0.065, right=0.975, top=0.94, bottom=0.075, hspace=0.33, wspace=0.17)
    first, second, third, fourth = (figure.add_subplot(grid[row, column]) for row in range(2) for column in range(2))
    for ax in (first, second, third, fourth):
        plain(ax)
    sizes = np.geomspace(1e3, 1e9, 50)
    for width, colour in COLOUR.items():
        rows = sorted((row["parameters"], row["drawn"]) for row in noise if row["width"] == width)
        first.plot(sizes, detection_ratio_limit(parameters=sizes, width=width), color=colour, linewidth=1.8)
        first.plot(*zip(*rows, strict=True), "o", color=colour, markersize=6, label=f"noise, W = {width}")
    example = float(detection_ratio_pub(EXAMPLE, parameters=EXAMPLE_PARAMETERS))
    first.plot(EXAMPLE_PARAMETERS, example, "*", color=INK, markersize=14, label="published example")
    first.axhline(5, color=INK, linewidth=1.2, linestyle="--", label="published bar, 5")
    first.set_xscale("log")
    first.set_yscale("log")
    first.set_title("Pure noise passes the published test", loc="left", fontsize=LARGE, fontweight="bold", color=INK)
    first.set_xlabel("parameters P", fontsize=NORMAL, color=INK)
    first.set_ylabel("sigma$_W$ / d$_{crit}$", fontsize=NORMAL, color=INK)
    first.legend(loc="upper left", frameon=False, fontsize=SMALL, labelcolor=INK)
    overlaps_panel(second, sweep)
    phase_panel(third, sweep)
    planted = [row for row in seen if row["energy"] > 0]
    energy = [row["energy"] for row in planted]
    fourth.plot(energy, energy, color=INK, linewidth=1.4, label="truth")
    fourth.plot(energy, [row["window"] for row in planted], "o-", color=INK, markersize=5, label="window's own")
    for name, colour, label in (("replicates", COLOURS["run"], "replicates"), ("lag", COLOURS["control"], "lag W")):
        fourth.plot(energy, [row[name]["largest"] for row in planted], "o-", color=colour, markersize=5, label=label)
        fourth.axhline(seen[0][name]["floor"], color=colour, linewidth=1.2, linestyle=":")
    fourth.set_xscale("log")
    fourth.set_yscale("log")
    title = "Independent noise cancels, down to a floor (dotted)"
    fourth.set_title(title, loc="left", fontsize=LARGE, fontweight="bold", color=INK)
    fourth.set_xlabel("planted d$^2$ over noise energy of a row", fontsize=NORMAL, color=INK)
    fourth.set_ylabel("largest energy found", fontsize=NORMAL, color=INK)
    fourth.legend(loc="center left", bbox_to_anchor=(0.0, 0.54), frameon=False, fontsize=SMALL, labelcolor=INK)
    buffer = BytesIO()
    figure.savefig(buffer)
    # 128 colours are all that it has, and take a third of the space.
    Image.open(buffer).convert("RGB").quantize(128).save(path, optimize=True)


def main() -> None:
    """Draws everything, prints the findings, records numbers and picture."""
    options = script_options(__doc__ or "", "examples/theory/detection.py")
    rng = np.random.default_rng(0)
    draws = 100 if options.quick else 4000
    noise = published_on_noise(draws, rng)
    settings = Bbp(points=9, draws=100) if options.quick else Bbp(draws=2000)
    sweep = settings.run()
    uneven = uneven_noise(draws, rng)
    even, half, steep = (estimators(exponent, draws // 2, rng) for exponent in (0.0, 0.5, 1.0))
    shares, jitter = momentum_shares(), necessary_only(draws // 4, rng)
    example = float(detection_ratio_pub(EXAMPLE, parameters=EXAMPLE_PARAMETERS))
    columns = ("signal", "left", "left_error", "left_theory", "right", "right_error", "right_theory", "gap_ratio")
    numbers: Numbers = {
        "published_on_noise": noise,
        "published_example": example,
        "published_example_largest": example * float(EXAMPLE[0] / EXAMPLE[-1]),
        "sweep": {
            "detection": sweep.detection,
            "direction": sweep.direction,
            "ratio_limit": sweep.ratio_limit,
            "ratio_pub": sweep.ratio_pub,
            **{name: getattr(sweep, name) for name in columns},
        },
        "uneven_noise": uneven,
        "estimators": {"isotropic": even, "exponent 0.5": half, "exponent 1": steep},
        "momentum_shares": shares,
        "lag_energy_over_noise": jitter,
    }
    save(
        options.results / "detection.json",
        command=options.command,
        settings={"seed": 0, "draws": draws, "sweep": settings, "width": WIDTH},
        numbers=numbers,
    )
    draw(noise, sweep, even, options.out / "detection.png")
    at = next(row for row in noise if (row["width"], row["parameters"]) == (WIDTH, EXAMPLE_PARAMETERS))
    print(
        f"Pure noise reads {at['drawn']:.2f} in the published test at P = 163,150,848 (expected {at['expected']:.2f});"
    )
    print(f"the published example spectrum reads {example:.2f}.")
    print(*sweep.sentences, sep="\n")
    planted = next(row for row in even if row["energy"] == 0.18)
    print(
        f"Of a planted energy of 0.18 the window shows {planted['window']:.3f}, replicates "
        f"{planted['replicates']['signal']:.3f}, the lag-W cross-Gram matrix {planted['lag']['signal']:.3f}."
    )
    for row in shares:
        print(
            f"Momentum .9 without signal, {row['interval']} steps a row: replicates show {row['replicates']:.1%} of "
            f"the energy, {row['replicates_largest_mode']:.1%} in one mode, lag W "
            f"{row['lag']:.1%}, with ten rows in between {row['lag_with_gap']:.1%}."
        )


if __name__ == "__main__":
    main()
