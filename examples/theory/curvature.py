"""Curvature of the modes of a live training with AdamW, and the bounds that it puts on their number.

A small network learns from a teacher, once from all examples at every step (updates without noise) and once from
mini-batches. At the end of each window of W = 10 observations, s = 10 steps each, curvature is measured along all modes
(raw, and in the optimizer's metric) beside the largest eigenvalues, and both bounds are compared with the window's
numerical rank and with k*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional

import spectral_edge as se
from spectral_edge.modes import gradient, named
from spectral_edge.modes.curvature import adiabatic_relax, mode_curvature
from spectral_edge.modes.lanczos import top_eigenvalues
from spectral_edge.modes.preconditioner import preconditioner
from spectral_edge.simulate.record import Options, save, script_options
from spectral_edge.theory.krylov import inverted_hierarchy_pub, krylov_bound, krylov_bound_pub

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WINDOW, EVERY, RATE, DECAY = 10, 10, 3e-3, 0.1
SHOWN = 3
ARMS = {"full": "all examples at every step", "mini": "mini-batches of 32"}


@dataclass(frozen=True)
class Settings:
    """Of the runs.

    Attributes:
        steps: of each run.
        examples: to learn from.
        width: of both hidden layers.
        seed: of weights, data and batches.
    """

    steps: int = 2000
    examples: int = 512
    width: int = 24
    seed: int = 0


@dataclass(frozen=True)
class Measured:
    """One window.

    Attributes:
        step: its last step.
        h: raw curvature along the modes [rank].
        h_error: its standard error [rank].
        preconditioned: curvature in the optimizer's metric [rank].
        preconditioned_error: its standard error [rank].
        largest: largest eigenvalue of H.
        largest_preconditioned: largest eigenvalue of D^-1/2 H D^-1/2.
        undefined: share of modes whose curvature and decay do not restore.
        bound_pub: published bound.
        bound: corrected bound, at most W.
        rank: singular values above a hundredth of the window's Frobenius norm.
        k_star: published definition.
        hierarchy: rank correlation of singular values with |G_j| / sqrt(h_j + omega), in the optimizer's metric.
        relax: adiabatic_relax.
        products: Hessian-vector products for all of it.
    """

    step: int
    h: list[float]
    h_error: list[float]
    preconditioned: list[float]
    preconditioned_error: list[float]
    largest: float
    largest_preconditioned: float
    undefined: float
    bound_pub: int
    bound: int
    rank: int
    k_star: int | None
    hierarchy: float
    relax: float
    products: int


def train(batch: int, settings: Settings) -> list[Measured]:
    """Trains one network and measures every window that shares no update with the one before."""
    torch.manual_seed(settings.seed)
    width = settings.width
    x = torch.randn(settings.examples, 10, dtype=torch.float64)
    teacher = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 4)).double()
    y = (4 * teacher(x)).argmax(dim=1)
    layers = [nn.Linear(10, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 4)]
    model = nn.Sequential(*layers).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)

    def loss(part: Any = slice(None)) -> torch.Tensor:
        return functional.cross_entropy(model(x[part]), y[part])

    parts = [lambda i=i: loss(slice(i, None, 4)) for i in range(4)]
    monitor = se.Monitor(model, optimizer, window=WINDOW, every=EVERY, engine="exact")
    found: list[Measured] = []
    for step in range(1, settings.steps + 1):
        chosen = slice(None) if batch >= settings.examples else torch.randint(settings.examples, (batch,))
        optimizer.zero_grad()
        loss(chosen).backward()
        optimizer.step()
        reading = monitor.step()
        if reading is not None and step % (WINDOW * EVERY) == 0:
            found.append(measure(model, optimizer, monitor, reading, loss, parts))
    return found


def measure(
    model: nn.Module, optimizer: torch.optim.Optimizer, monitor: Any, reading: Any, loss: Any, parts: Sequence[Any]
) -> Measured:
    """Curvature along the modes of the newest window, the largest eigenvalues, and what follows from them."""
    metric = preconditioner(optimizer, named(model))
    modes = monitor.modes()
    along = mode_curvature(model, modes.directions, parts, preconditioner=metric)
    raw = top_eigenvalues(model, [loss], count=WINDOW, tolerance=1e-3)
    felt = top_eigenvalues(model, [loss], count=WINDOW, preconditioner=metric, tolerance=1e-3)
    pull = np.abs(modes.projections(gradient(loss, named(model))))
    expected = inverted_hierarchy_pub(pull, along.preconditioned, decay=DECAY)
    defined = np.isfinite(expected)
    sigma = modes.sigma[: modes.rank]
    k_star = reading.k_star_raw
    rot = reading.adiabatic_rot
    return Measured(
        step=reading.step,
        h=along.h.tolist(),
        h_error=along.h_error.tolist(),
        preconditioned=along.preconditioned.tolist(),
        preconditioned_error=along.preconditioned_error.tolist(),
        largest=float(raw.values[0]),
        largest_preconditioned=float(felt.values[0]),
        undefined=float(np.isnan(along.rates).mean()),
        bound_pub=krylov_bound_pub(raw.values, rate=RATE, window=WINDOW),
        bound=min(WINDOW, krylov_bound(RATE * (felt.values + DECAY), window=WINDOW, every=EVERY)),
        rank=int((modes.sigma > 1e-2 * np.linalg.norm(modes.sigma)).sum()),
        k_star=k_star,
        hierarchy=float(spearmanr(sigma[defined], expected[defined]).statistic) if defined.sum() > 2 else float("nan"),
        relax=float("nan")
        if rot is None or k_star is None
        else adiabatic_relax(rot, along.rates, position=k_star, every=EVERY),
        products=along.cost.hvps + raw.cost.hvps + felt.cost.hvps,
    )


def counted(windows: Sequence[Measured]) -> dict[str, Any]:
    """The numbers of one arm."""
    known = [w for w in windows if w.k_star is not None]
    hierarchy = np.array([w.hierarchy for w in windows])
    hierarchy = hierarchy[np.isfinite(hierarchy)]
    first = np.array([w.preconditioned[0] for w in windows])
    return {
        "windows": len(windows),
        "rank_above_bound_pub": sum(w.rank > w.bound_pub for w in windows),
        "rank_above_bound": sum(w.rank > w.bound for w in windows),
        "k_star_above_bound_pub": sum(w.k_star > w.bound_pub for w in known if w.k_star is not None),
        "k_star_above_bound": sum(w.k_star > w.bound for w in known if w.k_star is not None),
        "bound_pub": [min(w.bound_pub for w in windows), max(w.bound_pub for w in windows)],
        "bound": [min(w.bound for w in windows), max(w.bound for w in windows)],
        "rank": [min(w.rank for w in windows), max(w.rank for w in windows)],
        "preconditioned_first": [float(first.min()), float(np.median(first)), float(first.max())],
        "share_of_largest": float(np.median([w.preconditioned[0] / w.largest_preconditioned for w in windows])),
        "undefined": float(np.mean([w.undefined for w in windows])),
        "hierarchy": [float(q) for q in np.quantile(hierarchy, [0.0, 0.5, 1.0])] if len(hierarchy) else [None] * 3,
        "products_per_window": float(np.mean([w.products for w in windows])),
        "series": {f.name: [getattr(w, f.name) for w in windows] for f in fields(Measured)},
    }


def sentences(numbers: dict[str, Any]) -> list[str]:
    """What was found, in words."""
    found: list[str] = []
    for arm, name in ARMS.items():
        at = numbers[arm]
        low, middle, high = at["preconditioned_first"]
        found += [
            f"With {name}, the published bound is {at['bound_pub'][0]} to {at['bound_pub'][1]} and lies below the "
            f"numerical rank in {at['rank_above_bound_pub']} of {at['windows']} windows and below k* in "
            f"{at['k_star_above_bound_pub']}; the corrected one is {at['bound'][0]} to {at['bound'][1]} and lies below "
            f"them in {at['rank_above_bound']} and {at['k_star_above_bound']}.",
            f"Along v_1 the curvature that AdamW feels is {low:.3g} to {high:.3g} (median {middle:.3g}), "
            f"{at['share_of_largest']:.2%} of the largest; for {at['undefined']:.0%} of all modes no relaxation rate "
            "is defined.",
            "The rank correlation of singular values with the published hierarchy ranges from "
            f"{at['hierarchy'][0]:.2f} to {at['hierarchy'][2]:.2f} over windows, median {at['hierarchy'][1]:.2f}.",
        ]
    return found


def draw(arms: dict[str, list[Measured]], numbers: dict[str, Any], options: Options) -> None:
    """The picture: curvatures along the leading modes, and bounds beside ranks, for both arms."""
    from spectral_edge.plots.frame import new_figure

    figure = new_figure(900)
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    figure.subplots_adjust(left=0.075, right=0.985, top=0.87, bottom=0.13, hspace=0.12, wspace=0.06)
    figure.suptitle(
        f"The published bound is broken in {sum(numbers[arm]['rank_above_bound_pub'] for arm in arms)} of "
        f"{sum(numbers[arm]['windows'] for arm in arms)} windows, the corrected one in "
        f"{sum(numbers[arm]['rank_above_bound'] for arm in arms)}; it says at most "
        f"{min(numbers[arm]['bound'][0] for arm in arms)} of {WINDOW} modes",
        x=0.075,
        y=0.975,
        ha="left",
        fontsize=16.5,
        fontweight="bold",
    )
    for column, (arm, windows) in enumerate(arms.items()):
        _curvatures(axes[0][column], windows)
        _bounds(axes[1][column], windows)
        axes[0][column].set_title(ARMS[arm], loc="left", fontsize=14)
        axes[1][column].set_xlabel("step", fontsize=13)
    axes[0][0].set_ylabel("curvature h̃ (AdamW's metric)", fontsize=12)
    axes[1][0].set_ylabel("modes", fontsize=13)
    for row, place in ((0, 0.935), (1, 0.06)):
        handles, labels = axes[row][0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="upper left", bbox_to_anchor=(0.07, place), ncols=5, frameon=False, fontsize=12
        )
    figure.savefig(options.out / "curvature.png", dpi=80)


def _curvatures(ax: Axes, windows: Sequence[Measured]) -> None:
    from spectral_edge.plots.frame import plain

    plain(ax)
    steps = [w.step for w in windows]
    ax.plot(
        steps, [w.largest_preconditioned for w in windows], color="#222222", linewidth=2, label="largest eigenvalue"
    )
    ax.axhline(1 / (RATE * WINDOW * EVERY), color="#9a9a9a", linestyle="--", label="1 / (η W s)")
    for j, colour in zip(range(SHOWN), ("#0072B2", "#D55E00", "#009E73"), strict=True):
        there = [w for w in windows if len(w.preconditioned) > j]
        ax.errorbar(
            [w.step for w in there],
            [w.preconditioned[j] for w in there],
            [w.preconditioned_error[j] for w in there],
            fmt="o",
            color=colour,
            markersize=4.5,
            linewidth=1,
            label=f"along v$_{j + 1}$",
        )
    ax.set_yscale("log", nonpositive="mask")


def _bounds(ax: Axes, windows: Sequence[Measured]) -> None:
    from spectral_edge.plots.frame import plain

    plain(ax)
    steps = [w.step for w in windows]
    ax.step(steps, [w.bound_pub for w in windows], where="mid", color="#D55E00", linewidth=2, label="published bound")
    ax.step(
        steps,
        [w.bound for w in windows],
        where="mid",
        color="#0072B2",
        linewidth=2,
        label="corrected bound (at most W)",
    )
    ax.plot(steps, [w.rank for w in windows], "o", color="#222222", markersize=6, label="numerical rank, 1 %")
    known = [w for w in windows if w.k_star is not None]
    ax.plot(
        [w.step for w in known],
        [float(w.k_star or 0) for w in known],
        "x",
        color="#9a9a9a",
        markersize=6,
        label="k*, published",
    )
    ax.set_ylim(-0.5, WINDOW + 0.7)


def main() -> None:
    """Runs both arms, draws and records."""
    options = script_options(__doc__ or "", "examples/theory/curvature.py")
    settings = Settings(steps=200, examples=128, width=8) if options.quick else Settings()
    arms = {"full": train(settings.examples, settings), "mini": train(32, settings)}
    numbers: dict[str, Any] = {arm: counted(windows) for arm, windows in arms.items()}
    said = sentences(numbers)
    print("\n".join(said))
    draw(arms, numbers, options)
    save(
        options.results / "curvature.json",
        command=options.command,
        settings={**asdict(settings), "window": WINDOW, "every": EVERY, "rate": RATE, "decay": DECAY},
        numbers={**numbers, "sentences": said},
    )


if __name__ == "__main__":
    main()
