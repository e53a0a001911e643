"""Adiabatic parameters in other units, and how often noise is called a plateau.

Run from the repository's root: python examples/theory/adiabatic.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from spectral_edge.measure import NO_MEMORY, Memory, WindowOptions, Windows, cosines, regime
from spectral_edge.measure.nulls.power_law import PowerLaw
from spectral_edge.measure.nulls.table import draw_whitened
from spectral_edge.measure.regime_table import window_overlaps
from spectral_edge.plots.frame import FAINT, INK, LARGE, NORMAL, SMALL, new_figure, plain
from spectral_edge.simulate.record import save, script_options
from spectral_edge.theory import adiabatic
from spectral_edge.theory.adiabatic import EXPONENTS, Rescaling, transformed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spectral_edge.simulate.record import Options

Array = NDArray[np.float64]
Numbers = dict[str, Any]

COVARIANCES = {
    "iid": ("i.i.d., P = 1e5", 0.0, 1e5),
    "inverse_k": ("1/k", 1.0, 1e5),
    "inverse_k2": ("1/k^2", 2.0, 1e5),
    "thirty": ("30 dimensions", 0.0, 30.0),
}
MEMORIES = {
    "none": ("no memory", NO_MEMORY),
    "ar": ("beta 0.9, every step", Memory(0.9, 1.0)),
    "ten": ("beta 0.9, every 10 steps", Memory(0.9, 10.0)),
    "hundred": ("beta 0.9, every 100 steps", Memory(0.9, 100.0)),
}
WINDOWS = (5, 10, 20)
RESCALINGS = {
    "base": ("as it is", Rescaling()),
    "loss": ("loss x 10,\nrate / 10", Rescaling(loss=10, rate=0.1)),
    "parameters": ("parameters x 2,\nrate x 4", Rescaling(parameters=2, rate=4)),
    "rate": ("rate x 10,\nupdates x 10", Rescaling(parameters=10, rate=10, units=False)),
}
NAMES = {
    "adiabatic_pub_lambda": ("published, gap of $\\lambda$", "#D55E00"),
    "adiabatic_pub_sigma": ("published, gap of $\\sigma$", "#E69F00"),
    "adiabatic_relax": ("A_rot in a relaxation time", "#CC79A7"),
    "adiabatic_rot": ("A_rot", "#56B4E9"),
    "adiabatic_emp": ("A_emp", "#0072B2"),
}


def noise(covariance: str, window: int, memory: Memory, count: int, seed: int) -> Array:
    """Gram matrices of 2 W updates of power-law noise, their energy one."""
    _, exponent, size = COVARIANCES[covariance]
    law = PowerLaw(np.array([exponent]), np.log(np.array([size])))
    lower = np.linalg.cholesky(memory.matrix(2 * window))
    return lower @ (next(draw_whitened(law, 2 * window, draws=count, seed=seed)) / law.sums(1)[0]) @ lower.T


def measured(gram: Array, rate: float, memory: Memory = NO_MEMORY) -> Windows:
    """The library's quantities of these windows."""
    options = WindowOptions(gram.shape[-1] // 2, memory=memory)
    count = len(gram)
    return Windows(gram, options, learning_rate=np.full(count, rate), sketch_error=np.zeros(count))


def share(chosen: NDArray[np.bool_]) -> dict[str, float]:
    """Per cent and its binomial standard error."""
    rate = float(np.mean(chosen))
    return {"percent": 100 * rate, "standard_error": float(100 * np.sqrt(rate * (1 - rate) / len(chosen)))}


def rescaled() -> Numbers:
    """One window of a noisy drift, described otherwise, and what the theory says of it."""
    rng = np.random.default_rng(0)
    updates = 1e-3 * (rng.standard_normal((20, 300)) + rng.standard_normal(300))
    curvature, rate = 5.0, 0.01
    found = {}
    for key, (_, change) in RESCALINGS.items():
        row = change.parameters * updates
        kept = measured((row @ row.T)[None], rate * change.rate)
        values = {name: float(kept[name].values[0]) for name in EXPONENTS if name != "adiabatic_relax"}
        values["adiabatic_relax"] = float(
            adiabatic.adiabatic_relax(
                values["adiabatic_rot"],
                interval=1,
                relaxation_rate=rate * change.rate * curvature * change.curvature,
            )
        )
        expected = {name: transformed(name, change) for name in EXPONENTS}
        found[key] = {"values": values, "factor_expected": expected, "same_trajectory": change.same_trajectory}
    return found


def isotropic_plateau(gram: Array, position: NDArray[np.intp]) -> dict[str, float]:
    """Share called a plateau if the noise is taken for isotropic, with the dimension that cross cosines give."""
    width = gram.shape[-1] // 2
    lost = 1 - np.take_along_axis(window_overlaps(gram)[0], position[:, None] - 1, axis=1)[:, 0]
    across = cosines(gram)[:, :width, width:].reshape(len(gram), -1)
    dimension = 1 / across.var(axis=1)
    return share(lost < 1 - chdtri(position.astype(float) ** 2, 0.05) / (position * dimension))


def calibrated(options: Options) -> Numbers:
    """How noise of each covariance, memory and window is labelled."""
    found = {}
    for window in WINDOWS:
        full = 4000 if window == 20 else 10_000
        count = 30 if options.quick else full
        for name in COVARIANCES:
            for key, (_, memory) in MEMORIES.items():
                gram = noise(name, window, memory, count, 100 + window)
                label = measured(gram, 1.0, memory)["regime"].values
                cell = {word: share(label == place) for place, word in enumerate(("plateau", "transition"))}
                cell["forgetting"] = share(label == 2)
                total, position = window_overlaps(gram)
                if key == "none":
                    cell["plateau_isotropic"] = isotropic_plateau(gram, position)
                for leading in (1, 2, 3):
                    reading = regime.noise_reading(cosines(gram), np.full(count, leading), memory)
                    cell[f"plateau_k{leading}"] = share(1 - total[:, leading - 1] < reading.plateau)
                found.setdefault(f"window_{window}", {}).setdefault(name, {})[key] = cell
    return found


def seen(options: Options) -> Numbers:
    """How windows with structure are labelled, at W = 10: a share of the energy in one direction over noise."""
    count, window = (30 if options.quick else 4000), 10
    time = np.arange(2 * window)
    rng = np.random.default_rng(7)
    correlated = np.linalg.cholesky(0.9 ** np.abs(np.subtract.outer(time, time)))
    signals = {
        "drift": np.ones((1, 2 * window, 1)),
        "decay": np.exp(-time / window)[None, :, None],
        "turn": np.stack([np.cos(np.pi / 4 * time / time[-1]), np.sin(np.pi / 4 * time / time[-1])], axis=-1)[None],
        "wander": correlated @ rng.standard_normal((count, 2 * window, 1)),
        "oscillation": ((-1.0) ** time)[None, :, None],
        "jitter": rng.standard_normal((count, 2 * window, 1)),
    }
    found = {}
    for name in COVARIANCES:
        for energy in (0.1, 0.3, 1.0):
            for key, signal in signals.items():
                power = np.mean((signal**2).sum(axis=-1))
                gram = noise(name, window, NO_MEMORY, count, 200) + energy / power * (signal @ signal.swapaxes(-1, -2))
                label = measured(gram, 1.0)["regime"].values
                found.setdefault(name, {}).setdefault(f"energy_{energy:g}", {})[key] = share(label == 0)
    return found


def main() -> None:
    """Runs, draws and records."""
    options = script_options(__doc__, "examples/theory/adiabatic.py")
    numbers = {"rescaled": rescaled(), "noise": calibrated(options), "structure": seen(options)}
    save(
        options.results / "adiabatic.json",
        command=options.command,
        settings={"windows": WINDOWS, "momentum": 0.9, "nominal_percent": 5},
        numbers=numbers,
    )
    draw(numbers).savefig(options.out / "adiabatic.png", dpi=75)
    base = numbers["rescaled"]["base"]["values"]
    for name in EXPONENTS:
        factors = [numbers["rescaled"][key]["values"][name] / base[name] for key in RESCALINGS]
        print(
            f"{name}: {', '.join(f'{factor:.3g}' for factor in factors)} times its value under the four descriptions."
        )
    cells = [
        cell["plateau"]["percent"] for by in numbers["noise"].values() for one in by.values() for cell in one.values()
    ]
    print(f"Noise is called a plateau in {min(cells):.1f} to {max(cells):.1f} % of windows, nominally 5 %.")
    before = [numbers["noise"][f"window_{w}"]["inverse_k"]["none"]["plateau_isotropic"]["percent"] for w in WINDOWS]
    now = [numbers["noise"][f"window_{w}"]["inverse_k"]["none"]["plateau"]["percent"] for w in WINDOWS]
    said = ", ".join(f"{old:.0f} and {new:.1f} %" for old, new in zip(before, now, strict=True))
    print(f"1/k noise, as isotropic and with its own covariance, at W = 5, 10, 20: {said}.")


def draw(numbers: Numbers) -> Figure:
    """Four descriptions of one window; how often noise is called a plateau; what structure is seen."""
    figure = new_figure(1050)
    grid = figure.add_gridspec(2, 2, left=0.07, right=0.985, top=0.94, bottom=0.07, hspace=0.36, wspace=0.16)
    _rescaled(figure.add_subplot(grid[0, 0]), numbers["rescaled"])
    _labelled(figure.add_subplot(grid[0, 1]), numbers["noise"])
    _sizes(figure.add_subplot(grid[1, 0]), numbers["noise"])
    _structure(figure.add_subplot(grid[1, 1]), numbers["structure"])
    return figure


def _titled(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", fontsize=LARGE - 1, fontweight="bold", color=INK)


def _rescaled(ax: Axes, rows: Numbers) -> None:
    plain(ax)
    at = np.arange(len(RESCALINGS))
    for place, (name, (label, colour)) in enumerate(NAMES.items()):
        factors = [rows[key]["values"][name] / rows["base"]["values"][name] for key in RESCALINGS]
        ax.plot(at + 0.11 * (place - 2), factors, "o", color=colour, markersize=9, label=label)
    ax.axhline(1.0, color=FAINT, linewidth=0.9)
    ax.set_yscale("log")
    ax.set_ylim(3e-4, 4e3)
    ax.set_xticks(at, [label for label, _ in RESCALINGS.values()])
    ax.set_ylabel("times its value", fontsize=NORMAL, color=INK)
    ax.legend(fontsize=SMALL, frameon=False, loc="upper center", ncols=2, labelcolor=INK)
    _titled(ax, "The published parameter changes with the units of the same run")


def _labelled(ax: Axes, cells: Numbers) -> None:
    plain(ax)
    at = np.arange(len(COVARIANCES))
    for place, window in enumerate(WINDOWS):
        before = [cells[f"window_{window}"][name]["none"]["plateau_isotropic"]["percent"] for name in COVARIANCES]
        now = [cells[f"window_{window}"][name]["none"]["plateau"]["percent"] for name in COVARIANCES]
        x = at + 0.26 * (place - 1)
        ax.bar(x - 0.055, before, width=0.1, color="#E69F00", label="taken for isotropic" if place == 0 else None)
        ax.bar(x + 0.055, now, width=0.1, color="#0072B2", label="its own covariance" if place == 0 else None)
        for one, old, new in zip(x, before, now, strict=True):
            ax.annotate(
                f"W={window}", (one, max(old, new, 6) + 0.8), ha="center", va="bottom", fontsize=SMALL - 2, color=INK
            )
    ax.axhline(5, color=FAINT, linewidth=0.9, linestyle="--")
    ax.set_ylim(0, 112)
    ax.set_xticks(at, [label for label, *_ in COVARIANCES.values()])
    ax.set_ylabel("noise called a plateau, %", fontsize=NORMAL, color=INK)
    ax.legend(fontsize=SMALL, frameon=False, loc="upper right", labelcolor=INK)
    _titled(ax, "Uneven noise is no plateau once its covariance counts")


def _sizes(ax: Axes, cells: Numbers) -> None:
    plain(ax)
    markers = {5: "o", 10: "s", 20: "^"}
    colours = {"none": "#0072B2", "ar": "#D55E00", "ten": "#009E73", "hundred": "#CC79A7"}
    at = np.arange(len(COVARIANCES))
    for place, (key, (label, _)) in enumerate(MEMORIES.items()):
        for window in WINDOWS:
            one = [cells[f"window_{window}"][name][key]["plateau"] for name in COVARIANCES]
            ax.errorbar(
                at + 0.19 * (place - 1.5) + 0.05 * (WINDOWS.index(window) - 1),
                [cell["percent"] for cell in one],
                yerr=[2 * cell["standard_error"] for cell in one],
                fmt=markers[window],
                color=colours[key],
                markersize=5,
                linewidth=1,
                label=label if window == 10 else None,
            )
    ax.axhline(5, color=FAINT, linewidth=0.9, linestyle="--")
    ax.set_ylim(0, 15)
    ax.set_xticks(at, [label for label, *_ in COVARIANCES.values()])
    ax.set_ylabel("noise called a plateau, %", fontsize=NORMAL, color=INK)
    title = "circle, square, triangle: W = 5, 10, 20; bars: 2 s.e."
    ax.legend(
        fontsize=SMALL, frameon=False, loc="upper center", ncols=2, labelcolor=INK, title=title, title_fontsize=SMALL
    )
    _titled(ax, "Nominally 5 %, with and without the optimizer's memory")


def _structure(ax: Axes, cells: Numbers) -> None:
    plain(ax)
    words = ["drift", "decay", "turn", "wander", "oscillation", "jitter"]
    colours = {"energy_0.1": "#B3D4EA", "energy_0.3": "#56B4E9", "energy_1": "#0072B2"}
    at = np.arange(len(words))
    for place, (key, colour) in enumerate(colours.items()):
        height = [cells["inverse_k"][key][word]["percent"] for word in words]
        ax.bar(at + 0.26 * (place - 1), height, width=0.24, color=colour, label=f"energy {key.split('_')[1]}")
    ax.axhline(5, color=FAINT, linewidth=0.9, linestyle="--")
    ax.set_ylim(0, 125)
    ax.set_yticks([0, 25, 50, 75, 100])
    ax.set_xticks(at, words)
    ax.set_ylabel("called a plateau, %", fontsize=NORMAL, color=INK)
    ax.legend(fontsize=SMALL, frameon=False, loc="upper center", ncols=3, labelcolor=INK)
    _titled(ax, "One direction over 1/k noise, W = 10: what persists is seen")


if __name__ == "__main__":
    main()
