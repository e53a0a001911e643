"""What the published stability coefficient gives for noise, beside what directions of noise really do.

Run from the repository's root: python examples/theory/stability.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spectral_edge.measure import NO_MEMORY, Memory, WindowOptions, Windows, subspace, tracking
from spectral_edge.measure.nulls.power_law import PowerLaw
from spectral_edge.measure.nulls.table import draw_whitened
from spectral_edge.measure.spectrum import spectrum
from spectral_edge.plots.frame import INK, LARGE, NORMAL, SMALL, new_figure, plain
from spectral_edge.simulate.record import save, script_options
from spectral_edge.theory import overlap, stability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Array = NDArray[np.float64]
Numbers = dict[str, Any]

WINDOW, SHOWN = 10, 5
PROCESSES = {
    "iid": ("i.i.d. noise", 0.0, NO_MEMORY, 0.0),
    "inverse_k": ("noise with covariance 1/k", 1.0, NO_MEMORY, 0.0),
    "ar": ("AR(0.9) noise", 0.0, Memory(0.9, 1.0), 0.0),
    "drift": ("one drift in noise", 0.0, NO_MEMORY, 1.0),
}
COLOURS = {"alpha_pub": "#D55E00", "alpha_dm": "#E69F00", "lag_1": "#56B4E9", "lag_w": "#0072B2"}
LABELS = {
    "alpha_pub": "published alpha",
    "alpha_dm": "alpha with dM",
    "lag_1": "true overlap, lag 1",
    "lag_w": "true overlap, lag W",
}


def windows(exponent: float, memory: Memory, drift: float, count: int, seed: int) -> Array:
    """Gram matrices of 2 W updates of power-law noise in 100,000 dimensions and a drift orthogonal to it."""
    law = PowerLaw(np.array([exponent]), np.log(np.array([1e5])))
    white = next(draw_whitened(law, 2 * WINDOW, draws=count, seed=seed)) / law.sums(1)[0]
    lower = np.linalg.cholesky(memory.matrix(2 * WINDOW))
    return lower @ white @ lower.T + drift


def mean(values: Array) -> Numbers:
    """Mean over windows and its standard error."""
    error = np.nanstd(values, axis=0, ddof=1) / np.sqrt(len(values))
    return {"mean": np.nanmean(values, axis=0), "standard_error": error}


def diagonal(gram: Array, lag: int) -> Array:
    """Squared overlap of v_j with v_j `lag` updates later, by index."""
    return np.diagonal(tracking.overlaps_at(gram, WINDOW, lag), axis1=1, axis2=2) ** 2


def violations(gram: Array) -> Numbers:
    """Shares of directions that turn by more than each bound allows, over all modes and for the first one."""
    block = gram[:, -WINDOW - 1 :, -WINDOW - 1 :]
    older, newer = spectrum(block[:, :-1, :-1]), spectrum(block[:, 1:, 1:])
    sine = np.sqrt(np.maximum(1 - diagonal(gram, 1), 0.0))
    value = newer.eigenvalues
    operator, frobenius = stability.row_swap_norms(np.sqrt(block[:, -1, -1]), np.sqrt(block[:, 0, 0]), block[:, 0, -1])
    inner = stability.neighbour_gaps(value, null_space=False)
    indexed = subspace.frobenius(block[:, 1:, 1:] - block[:, :-1, :-1])
    bounds = {
        "eigenvalue_proxy": stability.moment_change_floor(older.eigenvalues, value)[:, None] / inner,
        "indexed_gram": indexed[:, None] / inner,
        "moment_change": frobenius[:, None] / stability.neighbour_gaps(value, null_space=True),
        "provable": stability.sine_bound_yws(value, operator),
    }
    return {
        name: {"all": (sine > bound * (1 + 1e-9)).mean(), "first": (sine[:, 0] > bound[:, 0] * (1 + 1e-9)).mean()}
        for name, bound in bounds.items()
    }


def measured(name: str, count: int, seed: int) -> Numbers:
    """Coefficients and overlaps of the leading modes of one process."""
    _, exponent, memory, drift = PROCESSES[name]
    gram = windows(exponent, memory, drift, count, seed)
    found = Windows(gram, WindowOptions(WINDOW), learning_rate=np.ones(count), sketch_error=np.zeros(count))
    return {
        "alpha_pub": mean(found["alpha_pub"].values[:, :SHOWN]),
        "alpha_dm": mean(found["alpha_dm"].values[:, :SHOWN]),
        "lag_1": mean(diagonal(gram, 1)[:, :SHOWN]),
        "lag_w": mean(diagonal(gram, WINDOW)[:, :SHOWN]),
        "violated": violations(gram),
    }


def persistent(count: int, seed: int) -> Numbers:
    """Lag-W overlap and progress share of the first mode: a drift, a zero-mean spike and an oscillation."""
    rng = np.random.default_rng(seed)
    loading = {
        "drift": np.ones((count, 2 * WINDOW)),
        "spike": rng.standard_normal((count, 2 * WINDOW)),
        "oscillation": np.broadcast_to((-1.0) ** np.arange(2 * WINDOW), (count, 2 * WINDOW)),
    }
    found = {}
    for place, (name, along) in enumerate(loading.items()):
        gram = windows(0.0, NO_MEMORY, 0.0, count, seed + place) + along[:, :, None] * along[:, None, :]
        kept = Windows(gram, WindowOptions(WINDOW), learning_rate=np.ones(count), sketch_error=np.zeros(count))
        found[name] = {
            "overlap": mean(kept["alpha_overlap"].values[:, 0]),
            "progress_share": mean(kept["progress_share"].values[:, 0]),
        }
    return found


def attenuated(count: int, seed: int) -> Numbers:
    """Lag-W overlap of a drift that never turns, by its share of the energy, against theory."""
    found = {}
    for share in (0.03, 0.1, 0.3, 0.5):
        energy = share / (1 - share)
        gram = windows(0.0, NO_MEMORY, energy, count, seed)
        expected = overlap.attenuated_overlap(energy * WINDOW, window=WINDOW, dimension=1e5)
        found[f"{share:g}"] = {"measured": mean(diagonal(gram, WINDOW)[:, 0]), "expected": float(expected)}
    return found


def lifetimes(steps: int, seed: int) -> Numbers:
    """Mean number of windows that modes of i.i.d. noise are followed for, by lag, and the matched overlap at lag 1."""
    rows = np.random.default_rng(seed).standard_normal((steps, 3000))
    found = {}
    for lag in (1, 2, 5, WINDOW):
        size = WINDOW + lag
        blocks = np.stack([rows[end - size : end] for end in range(size, steps + 1, lag)])
        kept = tracking.overlaps_at(blocks @ blocks.swapaxes(-1, -2), WINDOW, lag)
        found[f"lag_{lag}"] = tracking.track(kept).lifetimes.mean()
        if lag == 1:
            found["matched_overlap"] = mean(subspace.matched(kept)[:, :SHOWN])["mean"]
    return found


def main() -> None:
    """Runs, draws and records."""
    options = script_options(__doc__, "examples/theory/stability.py")
    count = 200 if options.quick else 4000
    angle = 0.3
    planted = stability.RotatingDirection(window=WINDOW, angle=angle)
    older, newer = stability.reversed_order(excess=0.01)
    change = np.linalg.norm(newer.T @ newer - older.T @ older)
    value = np.linalg.svd(newer)[1] ** 2
    numbers = {
        "processes": {name: measured(name, count, seed) for seed, name in enumerate(PROCESSES)},
        "rotating": {
            "angle": angle,
            "sine": planted.sine,
            "sine_pub": planted.sine_pub,
            "sine_dm": planted.sine_dm,
            "sine_yws": planted.sine_yws,
            "alpha_pub": float(stability.alpha_pub(planted.eigenvalues, planted.eigenvalues)[0]),
            "alpha_dm": float(stability.alpha_dm(planted.eigenvalues, planted.frobenius)[0]),
            "alpha_yws": float(stability.alpha_yws(planted.eigenvalues, planted.operator)[0]),
            "cosine_squared": 1 - planted.sine**2,
        },
        "reversed_order": {"alpha_dm": float(stability.alpha_dm(value, change)[0]), "cosine_squared": 0.0},
        "persistent": persistent(count, 20),
        "attenuated": attenuated(count, 30),
        "lifetimes": lifetimes(200 if options.quick else 2000, 40),
    }
    save(
        options.results / "stability.json",
        command=options.command,
        settings={"window": WINDOW, "windows": count, "dimensions": 1e5},
        numbers=numbers,
    )
    draw(numbers).savefig(options.out / "stability.png", dpi=75)
    for name, (label, *_) in PROCESSES.items():
        one = numbers["processes"][name]
        alphas = ", ".join(f"{value:.2f}" for value in one["alpha_pub"]["mean"][:3])
        kept = ", ".join(f"{value:.2f}" for value in one["lag_w"]["mean"][:3])
        proxy = one["violated"]["eigenvalue_proxy"]
        print(
            f"{label}: published alpha {alphas}; overlap at lag W {kept}; the published bound is violated by "
            f"{100 * proxy['all']:.1f} % of modes and by {100 * proxy['first']:.1f} % of the first."
        )


def draw(numbers: Numbers) -> Figure:
    """Coefficients and overlaps by mode and process; violated bounds; the rotating direction."""
    figure = new_figure(1050)
    grid = figure.add_gridspec(2, 12, left=0.06, right=0.985, top=0.9, bottom=0.075, hspace=0.42, wspace=1.1)
    first = None
    for place, (name, (label, *_)) in enumerate(PROCESSES.items()):
        ax = figure.add_subplot(grid[0, 3 * place : 3 * place + 3], sharey=first)
        first = first or ax
        plain(ax)
        modes = np.arange(1, SHOWN + 1)
        for key, colour in COLOURS.items():
            style = "-" if "alpha" in key else "--"
            ax.plot(modes, numbers["processes"][name][key]["mean"], style, marker="o", color=colour, label=LABELS[key])
        ax.set_ylim(-0.03, 1.05)
        ax.set_xticks(modes)
        ax.set_xlabel("mode j", fontsize=NORMAL, color=INK)
        ax.set_title(label, loc="left", fontsize=NORMAL, fontweight="bold", color=INK)
        if place:
            ax.tick_params(labelleft=False)
    first.set_ylabel("mean over windows", fontsize=NORMAL, color=INK)
    figure.suptitle(
        "A hierarchy of published alphas comes out of noise; none of it says what is left one window later",
        x=0.06, ha="left", fontsize=LARGE, fontweight="bold", color=INK,
    )  # fmt: skip
    first.legend(fontsize=SMALL, frameon=False, loc="upper right", labelcolor=INK)
    _violations(figure.add_subplot(grid[1, :7]), numbers)
    _rotation(figure.add_subplot(grid[1, 7:]))
    return figure


def _violations(ax: Axes, numbers: Numbers) -> None:
    plain(ax)
    bounds = {
        "eigenvalue_proxy": ("eigenvalues, as published", "#D55E00"),
        "indexed_gram": ("indexed Gram matrix", "#CC79A7"),
        "moment_change": ("dM, no constant", "#E69F00"),
        "provable": ("dM, provable", "#009E73"),
    }
    for place, (key, (label, colour)) in enumerate(bounds.items()):
        share = [100 * numbers["processes"][name]["violated"][key]["first"] for name in PROCESSES]
        at = np.arange(len(PROCESSES)) + 0.2 * (place - 1.5)
        ax.bar(at, share, width=0.18, color=colour, label=label)
        for x, height in zip(at, share, strict=True):
            ax.annotate(f"{height:.0f}", (x, height), ha="center", va="bottom", fontsize=SMALL - 1, color=INK)
    ax.set_xticks(range(len(PROCESSES)), [label for label, *_ in PROCESSES.values()])
    ax.set_ylabel("windows, %", fontsize=NORMAL, color=INK)
    ax.set_ylim(0, 150)
    ax.set_yticks([0, 25, 50, 75, 100])
    ax.legend(fontsize=SMALL, frameon=False, loc="upper center", ncols=2, labelcolor=INK, columnspacing=1.6)
    ax.set_title(
        "In noise v$_1$ turns by more than the published bound allows (lag 1)",
        loc="left",
        fontsize=NORMAL,
        fontweight="bold",
    )


def _rotation(ax: Axes) -> None:
    plain(ax)
    angles = np.linspace(0.01, 0.31, 60)
    cases = [stability.RotatingDirection(window=WINDOW, angle=float(angle)) for angle in angles]
    ax.plot(angles, [case.sine for case in cases], color="#0072B2", linewidth=2.5, label="true sine")
    ax.plot(angles, [case.sine_yws for case in cases], color="#009E73", label="dM, provable")
    ax.plot(angles, [case.sine_dm for case in cases], color="#E69F00", label="dM, no constant")
    ax.plot(angles, [case.sine_pub for case in cases], color="#D55E00", linewidth=2.5, label="published: 0")
    ax.set_ylim(-0.03, 0.85)
    ax.set_xlabel("turn of the update at each step, radians", fontsize=NORMAL, color=INK)
    ax.set_ylabel("sin(v$_1$, v$_1$')", fontsize=NORMAL, color=INK)
    ax.legend(fontsize=SMALL, frameon=False, loc="upper left", labelcolor=INK)
    ax.set_title("A steady turn does not exist for the published bound", loc="left", fontsize=NORMAL, fontweight="bold")


if __name__ == "__main__":
    main()
