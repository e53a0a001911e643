"""Second-order repulsion of a window's eigenvalues against the truth: where a gap closes, where new rows are noise.

Run from the repository's root: python examples/theory/repulsion.py
"""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectral_edge.plots.frame import FAINT, INK, LARGE, NORMAL, SMALL, new_figure, plain, shades
from spectral_edge.simulate.record import save, script_options
from spectral_edge.theory.repulsion import Repulsion, repulsion

Array = NDArray[np.float64]

WINDOWS = (10, 50, 200)
RATIOS = (1.0001, 1.001, 1.003, 1.01, 1.03, 1.1, 1.3, 2.0, 3.0, 5.0)
BEYOND = (0.001, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def windows(generator: np.random.Generator, draws: int, window: int, ratio: float, beyond: float) -> Array:
    """Gram matrices of W + 1 rows [draws, W + 1, W + 1].

    The first W have singular values exactly `ratio`, 1 and .2 along three directions. The next row is like them and has
    the energy `beyond`, in units of lambda_1, outside of their span.
    """
    sigma = np.array([ratio, 1.0, 0.2])
    left = np.linalg.qr(generator.standard_normal((draws, window, 3)))[0]
    rows = np.zeros((draws, window + 1, 4))
    rows[:, :window, :3] = left * sigma
    rows[:, window, :3] = generator.standard_normal((draws, 3)) * sigma / np.sqrt(window)
    rows[:, window, 3] = np.sqrt(beyond) * ratio
    return rows @ np.swapaxes(rows, -1, -2)


def relative(found: Repulsion, *, order: int) -> float:
    """Median |error| of the change of lambda_1 over its median size."""
    error = found.error if order == 2 else found.injection + found.window_loss - found.true
    return float(np.median(np.abs(error[:, 0])) / np.median(np.abs(found.true[:, 0])))


def main() -> None:
    """Runs, draws and records."""
    options = script_options(__doc__, "examples/theory/repulsion.py")
    generator = np.random.default_rng(0)
    draws = 2 if options.quick else 100
    gap: dict[str, dict[str, list[float]]] = {}
    noise: dict[str, dict[str, list[float]]] = {}
    for window in WINDOWS:
        closing = [repulsion(windows(generator, draws, window, ratio, 0.0)) for ratio in RATIOS]
        outside = [repulsion(windows(generator, draws, window, 3.0, beyond)) for beyond in BEYOND]
        for found, curves in ((closing, gap), (outside, noise)):
            curves[f"W{window}"] = {
                "first": [relative(one, order=1) for one in found],
                "second": [relative(one, order=2) for one in found],
                "smallness": [float(np.median(one.smallness[:, 0])) for one in found],
            }
    rows = generator.standard_normal((draws, 11, 2000))
    pure = repulsion(rows @ np.swapaxes(rows, -1, -2))
    pure_error = float(np.median(np.abs(pure.error[:, :3])) / np.median(np.abs(pure.true[:, :3])))
    numbers = {
        "ratio": RATIOS,
        "beyond": BEYOND,
        "gap": gap,
        "noise": noise,
        "pure_noise_error": pure_error,
        "pure_noise_smallness": float(np.median(pure.smallness[:, :3])),
    }
    _figure(gap, noise).savefig(options.out / "repulsion.png", dpi=80)
    save(
        options.results / "repulsion.json",
        command=options.command,
        settings={"windows": WINDOWS, "draws": draws, "seed": 0},
        numbers=numbers,
    )
    for name, values in gap.items():
        print(
            f"{name}: error of the change of lambda_1 {values['second'][-1]:.2g} of the change at R = {RATIOS[-1]:g}, "
            f"{values['second'][3]:.2g} at R = {RATIOS[3]:g}, {values['second'][0]:.2g} at R = {RATIOS[0]:g}."
        )
    print(f"In windows of ten rows of pure noise it is {pure_error:.0f} times the change itself.")


def _figure(gap: dict[str, dict[str, list[float]]], noise: dict[str, dict[str, list[float]]]) -> Figure:
    figure = new_figure(620)
    left, right = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(left=0.065, right=0.985, top=0.85, bottom=0.12, wspace=0.06)
    for ax, curves, x in ((left, gap, np.array(RATIOS) - 1), (right, noise, np.array(BEYOND))):
        for (name, values), colour in zip(curves.items(), shades(len(curves)), strict=True):
            ax.plot(x, values["second"], "o-", color=colour, linewidth=2, label=f"{name[0]} = {name[1:]}, second order")
            ax.plot(x, values["first"], ":", color=colour, linewidth=2, label="first order alone")
    for ax, title, label in (
        (left, "Two modes approach each other", "R - 1, ratio of the two leading strengths less one"),
        (right, "Modes at R = 3, a new row from outside", "energy of the new row outside the window over λ₁"),
    ):
        ax.set_xscale("log")
        ax.set_yscale("log")
        plain(ax)
        ax.axhline(1, color=FAINT, linewidth=1.2)
        ax.set_title(title, loc="left", fontsize=LARGE, color=INK)
        ax.set_xlabel(label, fontsize=NORMAL, color=INK)
    right.legend(fontsize=SMALL, frameon=False)
    left.set_ylabel("median error of Δλ₁ over median |Δλ₁|", fontsize=NORMAL, color=INK)
    figure.suptitle(
        "Perturbation theory of repulsion fails where a gap closes, and where rows bring what the window does not hold",
        fontsize=LARGE,
        color=INK,
        y=0.97,
    )
    return figure


if __name__ == "__main__":
    main()
