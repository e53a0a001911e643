"""The gap's change as forms of the theory forecast it, out of sample, against no change and other simple forecasts.

Small classifiers learn addition modulo 31 under SGD, with and without mini-batches and momentum, and under AdamW,
watched every 20 steps with windows of five updates. Each forecast is made from one window for the next that shares no
update with it, with the gradient and the curvature along the modes measured at the window's end. Errors are divided by
the window's size; the second half of each run is tested.

The rule: a form *has skill* if the 95 % interval of its R^2 (jackknife over runs) lies above 0. It *beats the
baselines* if the intervals of its squared error over that of no change, of AR(1), of `size` and of `last_change` all
lie below 1. The rule, the forms and how they estimate drives and noise were settled on pilot runs with the seeds 100 to
102, which are not among these.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

import spectral_edge as se
from spectral_edge.evaluate.gap_change import FORMS, GapChange, compare, gap_change
from spectral_edge.evaluate.scoring import Score, score
from spectral_edge.modes import mode_curvature, named, preconditioner
from spectral_edge.plots.frame import FAINT, INK, LARGE, NORMAL, SMALL, new_figure, plain
from spectral_edge.simulate.record import plain as as_plain
from spectral_edge.simulate.record import save, script_options

MODULUS, WINDOW, EVERY = 31, 5, 20
RATE, DECAY, SGD_RATE = 1e-3, 0.3, 0.3
KINDS = ("SGD, full batch", "SGD, batch 64", "SGD with momentum, batch 64", "AdamW, full batch", "AdamW, batch 64")
COLOURS = ("#D55E00", "#CC79A7", "#0072B2", "#56B4E9", "#009E73")
MARKERS = ("v", "^", "o", "s", "D")
NAMES = {
    "published": "published",
    "consistent": "published, prefactor mended",
    "matrix_flow": "matrix flow, curvature",
    "matrix_flow_observed": "matrix flow, observed",
    "matrix_flow_given_drive": "matrix flow, given the drive (no forecast)",
}
PLACES = {"first forecast": 0, "middle": 0.5, "end": 1}
DASHES = {"AR(1)": (0, (5, 2)), "size": "-", "last_change": (0, (1, 1.2))}
WORDS = {"AR(1)": "AR(1)", "size": "size of the window", "last_change": "last change again"}


def train(kind: str, steps: int, seed: int, *, every: int = EVERY) -> se.Trace:
    """One run with what the published terms need: gradient and curvature at the end of every fifth window."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    pairs = torch.cartesian_prod(torch.arange(MODULUS), torch.arange(MODULUS))
    pairs = pairs[torch.randperm(len(pairs), generator=generator)]
    pairs, labels = pairs[: len(pairs) // 2], pairs.sum(dim=1)[: len(pairs) // 2] % MODULUS
    model = nn.Sequential(
        nn.Embedding(MODULUS, 32), nn.Flatten(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, MODULUS)
    ).double()
    if kind.startswith("AdamW"):
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=DECAY
        )
    else:
        heavy = 0.9 if "momentum" in kind else 0.0
        optimizer = torch.optim.SGD(model.parameters(), lr=SGD_RATE * (1 - heavy), momentum=heavy)

    def loss(some: torch.Tensor | slice) -> torch.Tensor:
        return nn.functional.cross_entropy(model(pairs[some]), labels[some])

    quarters = [slice(k, None, 4) for k in range(4)]
    with se.Monitor(model, optimizer, window=WINDOW, every=every) as monitor:
        for step in range(1, steps + 1):
            some = slice(None) if kind.endswith("full batch") else torch.randint(len(pairs), (64,), generator=generator)
            optimizer.zero_grad()
            loss(some).backward()
            optimizer.step()
            reading = monitor.step()
            # Forecasts are aligned to the newest window, and the run ends with one.
            if reading is not None and step % (WINDOW * every) == 0:
                whole = torch.autograd.grad(loss(slice(None)), list(named(model).values()))
                monitor.probe(gradient=dict(zip(named(model), whole, strict=True)))
                found = mode_curvature(
                    model,
                    monitor.modes().directions,
                    [lambda part=part: loss(part) for part in quarters],
                    preconditioner=preconditioner(optimizer, named(model)),
                )
                monitor.log(loss=loss(slice(None)).item(), **found.metrics())
        return monitor.trace


def evaluate(traces: list[se.Trace], every: int) -> tuple[dict[str, Score], dict[str, Any], GapChange]:
    """Scores of the forms, what is recorded, and the forecasts of the first run."""
    found = [gap_change(trace) for trace in traces]
    solved = compare([gap_change(trace, integrate=True) for trace in traces])
    scores = dict(compare(found).scores)
    published = ("published", "consistent")
    losses = [trace.metrics("loss")[1] for trace in traces]
    numbers = {
        "forms": {form: as_plain(made) | {"beats_all": made.beats_all} for form, made in scores.items()},
        "baselines": {name: as_plain(rival) for name, rival in scores["published"].rivals.items()},
        "r2_integrated": {form: solved.scores[form].r2 for form in published},
        "r2_clock_in_observations": {form: r2_slower(found, form, every) for form in published},
        "share_of_k_star_1": float((np.concatenate([run.position for run in found]) == 1).mean()),
        "median_damping_per_step": float(np.nanmedian([damping_per_step(run, every) for run in found])),
        "mean_loss": {
            name: float(np.mean([loss[round(at * (len(loss) - 1))] for loss in losses])) for name, at in PLACES.items()
        },
    }
    return scores, numbers, found[0]


def damping_per_step(run: GapChange, every: int) -> float:
    """Median of eta (h + omega) over the tested forecasts of a run."""
    rate = -run.forecasts.terms["published"]["damping"] / (run.gap * WINDOW * every)
    return float(np.nanmedian(rate[len(rate) // 2 :]))


def r2_slower(found: list[GapChange], form: str, every: int) -> float:
    """R^2 of a published form if time in it is counted in observations instead of steps."""
    runs = [run.forecasts for run in found]
    slower = [
        replace(run, terms={form: {name: values / every for name, values in run.terms[form].items()}}) for run in runs
    ]
    return score(slower, form).r2


def draw(scores: Mapping[str, Mapping[str, Score]], first: Mapping[str, GapChange]) -> Figure:
    """Errors by form and optimizer, and two runs term by term."""
    figure = new_figure(800)
    grid = figure.add_gridspec(
        2, 2, width_ratios=[1.35, 1], left=0.06, right=0.985, bottom=0.085, top=0.83, wspace=0.17, hspace=0.36
    )
    errors(figure.add_subplot(grid[:, 0]), scores)
    upper, lower = figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1])
    kind = "SGD, full batch"
    terms = first[kind].forecasts.terms["consistent"]
    lines = {
        "curvature asymmetry": (terms["curvature_asymmetry"], "#E69F00"),
        "damping": (terms["damping"], "#56B4E9"),
        "driving (prefactor mended)": (terms["driving_consistent"], "#D55E00"),
    }
    series(upper, first[kind], lines, f"{kind}, one run: the published terms")
    kind = "SGD, batch 64"
    forms = first[kind].forecasts.terms
    lines = {
        NAMES[form]: (np.sum(list(forms[form].values()), axis=0), COLOURS[FORMS.index(form)])
        for form in ("matrix_flow", "matrix_flow_observed")
    }
    series(lower, first[kind], lines, f"{kind}, one run: the matrix flow")
    lower.set_xlabel("step of the forecast", fontsize=NORMAL, color=INK)
    return figure


def errors(ax: Axes, scores: Mapping[str, Mapping[str, Score]]) -> None:
    """Squared error over that of no change, with intervals; what lies below the axis is written."""
    lowest = 1e-5
    for at, by_form in enumerate(scores.values()):
        for k, found in enumerate(by_form.values()):
            x = at + (k - 2) * 0.155
            ratio = found.rivals["no change"]
            shown = max(ratio.error_ratio, 1.6 * lowest)
            if shown == ratio.error_ratio:
                ax.plot([x, x], ratio.interval, color=COLOURS[k], linewidth=2, zorder=2)
            else:
                words = f"{ratio.error_ratio:.0e}"
                ax.text(x, 1.9 * shown, words, ha="center", va="bottom", fontsize=SMALL, color=COLOURS[k], rotation=90)
            filled = COLOURS[k] if found.beats_all else "white"
            ax.plot(x, shown, MARKERS[k], color=COLOURS[k], markerfacecolor=filled, markersize=8, zorder=3)
        for name, dashes in DASHES.items():
            level = 1 - by_form["published"].rivals[name].r2
            ax.plot([at - 0.42, at + 0.42], [level, level], color=INK, linewidth=1.3, linestyle=dashes, zorder=1)
    ax.axhline(1, color=FAINT, linewidth=1)
    ax.set_yscale("log")
    ax.set_ylim(bottom=lowest)
    ax.set_xticks(range(len(scores)), [kind.replace(", ", "\n").replace("with ", "") for kind in scores])
    ax.set_ylabel("squared error over that of no change", fontsize=NORMAL, color=INK)
    words = "filled: better than all baselines"
    ax.text(0.995, 0.985, words, transform=ax.transAxes, ha="right", va="top", fontsize=SMALL, color=INK)
    plain(ax)
    handles = [
        ax.plot([], [], MARKERS[k], color=COLOURS[k], label=NAMES[form], markersize=8)[0]
        for k, form in enumerate(FORMS)
    ]
    handles += [
        ax.plot([], [], color=INK, linewidth=1.3, linestyle=dashes, label=WORDS[name])[0]
        for name, dashes in DASHES.items()
    ]
    ax.legend(handles=handles, loc="lower left", frameon=False, ncols=2, fontsize=SMALL, bbox_to_anchor=(-0.02, 1.0))


def series(ax: Axes, found: GapChange, lines: Mapping[str, tuple[np.ndarray, str]], title: str) -> None:
    """The measured change and forecasts of it over one run, in units of the window's size."""
    scale = found.forecasts.scale
    ax.plot(found.step, found.forecasts.measured / scale, color=INK, linewidth=2.2, label="measured change")
    for name, (values, colour) in lines.items():
        ax.plot(found.step, values / scale, color=colour, linewidth=1.8, label=name)
    ax.axhline(0, color=FAINT, linewidth=1)
    ax.set_title(title, loc="left", fontsize=LARGE, color=INK)
    ax.set_ylabel("change / size of the window", fontsize=NORMAL, color=INK)
    plain(ax)
    ax.legend(frameon=False, fontsize=SMALL, loc="lower right")


def main() -> None:
    """Trains, scores, draws, says and records."""
    torch.set_num_threads(1)
    options = script_options(str(__doc__).splitlines()[0], "examples/theory/gap_change.py")
    steps, seeds, every = (9 * WINDOW, 1, 1) if options.quick else (4000, 6, EVERY)
    scores: dict[str, dict[str, Score]] = {}
    numbers: dict[str, dict[str, Any]] = {}
    first: dict[str, GapChange] = {}
    for kind in KINDS:
        traces = [train(kind, steps, seed, every=every) for seed in range(seeds)]
        scores[kind], numbers[kind], first[kind] = evaluate(traces, every)
        print(f"{kind}: {scores[kind]['published'].forecasts} forecasts tested")
        for name, rival in scores[kind]["published"].rivals.items():
            print(f"  ({name}): R2 {rival.r2:+.3g}")
        for form, found in scores[kind].items():
            low, high = found.interval
            verdict = "beats the baselines" if found.beats_all else "has skill" if low > 0 else "no skill"
            print(f"  {NAMES[form]}: R2 {found.r2:+.3g} ({low:+.3g} to {high:+.3g}), {verdict}")
    draw(scores, first).savefig(options.out / "gap_change.png")
    settings = {"steps": steps, "seeds": seeds, "window": WINDOW, "every": every, "modulus": MODULUS}
    settings |= {"adamw_rate": RATE, "adamw_decay": DECAY, "sgd_rate": SGD_RATE}
    save(options.results / "gap_change.json", command=options.command, settings=settings, numbers=numbers)


if __name__ == "__main__":
    main()
