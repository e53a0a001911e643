"""The gap's change as four forms of the theory predict it, out of sample, against no change and against AR(1).

Small classifiers learn addition modulo 31 under SGD, SGD with mini-batches and AdamW, watched every 20 steps with
windows of five updates. Each forecast is made from one window for the next that shares no update with it, with the
gradient and the curvature along the modes measured at the window's end.
"""

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

import spectral_edge as se
from spectral_edge.evaluate.gap_change import FORMS, gap_change
from spectral_edge.evaluate.scoring import Forecasts, Score, score
from spectral_edge.modes import mode_curvature, named, preconditioner
from spectral_edge.plots.frame import FAINT, INK, new_figure, plain
from spectral_edge.simulate.record import save, script_options

MODULUS, WINDOW, EVERY = 31, 5, 20
KINDS = ("SGD, full batch", "SGD, batch 64", "AdamW, full batch", "AdamW, batch 64")
COLOURS = ("#D55E00", "#CC79A7", "#0072B2", "#009E73")
NAMES = {
    "published": "published",
    "consistent": "published, prefactor mended",
    "matrix_flow": "matrix flow",
    "matrix_flow_given_drive": "matrix flow, given the drive",
}


def train(kind: str, steps: int, seed: int) -> se.Trace:
    """One run with what the published terms need: gradient and curvature at the end of every fifth window."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    pairs = torch.cartesian_prod(torch.arange(MODULUS), torch.arange(MODULUS))
    pairs = pairs[torch.randperm(len(pairs), generator=generator)]
    pairs, labels = pairs[: len(pairs) // 2], pairs.sum(dim=1)[: len(pairs) // 2] % MODULUS
    model = nn.Sequential(
        nn.Embedding(MODULUS, 32), nn.Flatten(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, MODULUS)
    ).double()
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    if kind.startswith("AdamW"):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.3)

    def loss(some: torch.Tensor | slice) -> torch.Tensor:
        return nn.functional.cross_entropy(model(pairs[some]), labels[some])

    quarters = [slice(k, None, 4) for k in range(4)]
    with se.Monitor(model, optimizer, window=WINDOW, every=EVERY) as monitor:
        for step in range(1, steps + 1):
            some = slice(None) if kind.endswith("full batch") else torch.randint(len(pairs), (64,), generator=generator)
            optimizer.zero_grad()
            loss(some).backward()
            optimizer.step()
            reading = monitor.step()
            # Forecasts are aligned to the newest window, and the run ends with one.
            if reading is not None and step % (WINDOW * EVERY) == 0:
                whole = torch.autograd.grad(loss(slice(None)), list(named(model).values()))
                monitor.probe(gradient=dict(zip(named(model), whole, strict=True)))
                found = mode_curvature(
                    model,
                    monitor.modes().directions,
                    [lambda part=part: loss(part) for part in quarters],
                    preconditioner=preconditioner(optimizer, named(model)),
                )
                monitor.log(**found.metrics())
        return monitor.trace


def draw(scores: dict[str, dict[str, Score]], runs: dict[str, list[Forecasts]]) -> Figure:
    """Skill by form and optimizer, and the forecasts behind it."""
    figure = new_figure(620)
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.25, 1]})
    for at, by_form in enumerate(scores.values()):
        for k, found in enumerate(by_form.values()):
            x = at + (k - 1.5) * 0.19
            low, high = (max(value, -1.6) for value in found.interval)
            left.plot([x, x], [low, high], color=COLOURS[k], linewidth=2)
            below = found.r2 < -1.5
            left.plot(x, max(found.r2, -1.5), "v" if below else "o", color=COLOURS[k], markersize=8)
            if below:
                left.text(x, -1.57, f"{found.r2:.0e}", color=COLOURS[k], rotation=90, ha="center", va="top", fontsize=9)
        ar1 = next(iter(by_form.values())).r2_ar1
        left.plot([at - 0.4, at + 0.4], [ar1, ar1], color=INK, linewidth=1.2, linestyle="--")
    left.axhline(0, color=FAINT, linewidth=1)
    left.set_ylim(-2.15, 1.05)
    left.set_xticks(range(len(scores)), [kind.replace(", ", "\n") for kind in scores])
    left.set_ylabel("out-of-sample R$^2$ against no change")
    handles = [left.plot([], [], "o", color=COLOURS[k], label=NAMES[form])[0] for k, form in enumerate(FORMS)]
    handles.append(left.plot([], [], color=INK, linewidth=1.2, linestyle="--", label="AR(1)")[0])
    left.legend(handles=handles, loc="lower left", frameon=False, ncols=2, fontsize=10, bbox_to_anchor=(0, 1.0))
    scatter(right, runs["AdamW, full batch"])
    for ax in (left, right):
        plain(ax)
    figure.subplots_adjust(left=0.07, right=0.985, bottom=0.12, top=0.86, wspace=0.16)
    return figure


def scatter(ax: Axes, runs: Sequence[Forecasts]) -> None:
    """Forecast against measured change, in units of the window's own size."""
    for form, colour in (("consistent", COLOURS[1]), ("matrix_flow", COLOURS[2])):
        x = [float(v) for run in runs for v in run.measured / run.scale]
        y = [float(v) for run in runs for v in sum(run.terms[form].values()) / run.scale]
        ax.plot(x, y, "o", color=colour, markersize=4, alpha=0.6, label=NAMES[form])
    ax.plot([-1, 1], [-1, 1], color=FAINT, linewidth=1)
    ax.set_xlim(-0.6, 0.6)
    ax.set_ylim(-0.6, 0.6)
    ax.set_xlabel("measured change of the gap / size of the window")
    ax.set_ylabel("forecast")
    ax.legend(loc="upper left", frameon=False, fontsize=10)
    ax.set_title("AdamW, full batch: each point one forecast", fontsize=12)


def main() -> None:
    """Trains, scores, draws, says and records."""
    options = script_options(str(__doc__).splitlines()[0], "examples/theory/gap_change.py")
    steps, seeds = (900, 1) if options.quick else (4000, 4)
    runs = {kind: [gap_change(train(kind, steps, seed)).forecasts for seed in range(seeds)] for kind in KINDS}
    scores = {kind: {form: score(found, form) for form in FORMS} for kind, found in runs.items()}
    draw(scores, runs).savefig(options.out / "gap_change.png")
    for kind, by_form in scores.items():
        first = next(iter(by_form.values()))
        print(f"{kind}: {first.forecasts} forecasts tested, AR(1) {first.r2_ar1:+.2f}")
        for form, found in by_form.items():
            low, high = found.interval
            print(f"  {NAMES[form]}: R2 {found.r2:+.3g} ({low:+.3g} to {high:+.3g}), fitted {found.r2_fitted:+.2f}")
    settings = {"steps": steps, "seeds": seeds, "window": WINDOW, "every": EVERY, "modulus": MODULUS}
    save(
        options.results / "gap_change.json",
        command=options.command,
        settings=settings,
        numbers={kind: by_form for kind, by_form in scores.items()},
    )


if __name__ == "__main__":
    main()
