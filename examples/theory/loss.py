"""The change of a validation loss by mode: which rule closes the sum, what the published form gives, what forecasts.

Small classifiers learn addition modulo 31 with mini-batches of 128 pairs, under SGD (learning rate 0.2) and AdamW
(1e-3, weight decay 1), watched every 1, 10 and 50 steps with windows of 10 updates, in float64.

python examples/theory/loss.py           # three minutes on one core
python examples/theory/loss.py --again   # the ReLU trainings on 22 seeds other than that one, half an hour

Skill of a forecast is one less its squared error over that of "no change". What is read of the fresh seeds was fixed
before they were run: the skill on the second half of the run of the drift times alpha, of the drift alone, and of the
drift times the one factor that suited the first half best.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import spectral_edge as se
from spectral_edge.evaluate.loss import RULES, decompose, forecast, published
from spectral_edge.evaluate.probed import Products
from spectral_edge.measure import attribution, grams, spectrum
from spectral_edge.modes.loss_path import LossPath
from spectral_edge.plots.frame import INK, new_figure, plain
from spectral_edge.simulate.record import save, script_options

MODULUS, WINDOW, BATCH = 31, 10, 128
SEED, AGAIN = 0, range(1, 23)
KINDS, EVERY = ("SGD", "AdamW"), (1, 10, 50)
ACTIVATIONS = {"ReLU": nn.ReLU, "GELU": nn.GELU}
NAMES = {
    "first": "gradient at the start",
    "second": "with the Hessian",
    "trapezoid": "trapezoid",
    "gauss": "two-point Gauss",
}
COLOURS = {"first": "#D55E00", "second": "#CC79A7", "trapezoid": "#0072B2", "gauss": "#009E73"}


@dataclass(frozen=True)
class Run:
    """A watched run, with the measurement's cost."""

    trace: se.Trace
    seconds_of_measuring: float
    gradients: int


def train(kind: str, activation: str, every: int, observations: int, seed: int = SEED, *, hidden: int = 256) -> Run:
    """Trains and records the paths of the next batch's loss and of the validation loss."""
    generator = torch.Generator().manual_seed(seed + 100)
    torch.manual_seed(seed)
    pairs = torch.cartesian_prod(torch.arange(MODULUS), torch.arange(MODULUS))
    pairs = pairs[torch.randperm(len(pairs), generator=generator)]
    labels, half = pairs.sum(dim=1) % MODULUS, len(pairs) // 2
    model = nn.Sequential(
        nn.Embedding(MODULUS, 32),
        nn.Flatten(),
        nn.Linear(64, hidden),
        ACTIVATIONS[activation](),
        nn.Linear(hidden, MODULUS),
    ).double()
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    if kind == "AdamW":
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=1.0)
    monitor = se.Monitor(model, optimizer, window=WINDOW, every=every)
    batch = torch.randint(half, (BATCH,), generator=generator)

    def training() -> torch.Tensor:
        return nn.functional.cross_entropy(model(pairs[batch]), labels[batch])

    def validation() -> torch.Tensor:
        return nn.functional.cross_entropy(model(pairs[half:]), labels[half:])

    paths = (
        LossPath(monitor, model, training, name="train", gauss=False),
        LossPath(monitor, model, validation, name="validation", curvature=True),
    )
    for _ in range(observations * every):
        optimizer.zero_grad()
        training().backward()
        optimizer.step()
        monitor.step()
        batch = torch.randint(half, (BATCH,), generator=generator)  # of the next step, at whose start it is probed
        for path in paths:
            path.observe()
    return Run(monitor.trace, paths[1].cost.seconds, paths[1].cost.gradients)


def quantiles(values: np.ndarray) -> list[float]:
    """10th, 50th and 90th percentiles."""
    return [float(q) for q in np.nanquantile(values, [0.1, 0.5, 0.9])]


def slope(predicted: np.ndarray, change: np.ndarray) -> float:
    """Of the prediction on the measured change, through zero: 1 is right, 0 says nothing."""
    return float(np.nansum(predicted * change) / np.nansum(change**2))


def skill(predicted: np.ndarray, change: np.ndarray) -> float:
    """1 - sum of squared errors over sum of squared changes: 1 is right, 0 is as good as "no change"."""
    return float(1 - ((predicted - change) ** 2).sum() / (change**2).sum())


def late_skill(predicted: np.ndarray, change: np.ndarray) -> float:
    """Skill on the run's second half."""
    half = len(change) // 2
    return skill(predicted[half:], change[half:])


def fitted_skill(predicted: np.ndarray, change: np.ndarray) -> float:
    """Skill on the run's second half of the prediction times the factor that suited the first half best."""
    half = len(change) // 2
    early, late = slice(None, half), slice(half, None)
    factor = (predicted[early] * change[early]).sum() / (predicted[early] ** 2).sum()
    return skill(factor * predicted[late], change[late])


def bases(series_modes: np.ndarray, along: np.ndarray, steps: np.ndarray) -> dict[str, list[float]]:
    """Share of the whole run's change in the leading k axes of three bases that span the same window."""
    rng = np.random.default_rng(0)
    whole = np.nansum(series_modes)
    random = np.zeros(series_modes.shape[1])
    draws = 200
    for _ in range(draws):
        axes = np.linalg.qr(rng.standard_normal((len(random), len(random))))[0]
        random += ((along @ axes) * (steps @ axes)).sum(axis=0) / draws
    leading = np.cumsum(np.nansum(series_modes, axis=0)) / whole
    # Axes that start with the update's own direction: the first holds all of it, the others nothing.
    first = np.ones(len(random))
    return {
        "modes": leading.tolist(),
        "random axes": (np.cumsum(random) / whole).tolist(),
        "update first": first.tolist(),
    }


def measure(run: Run) -> dict[str, Any]:
    """All numbers of one run."""
    trace, found = run.trace, {}
    found["residual"] = {rule: quantiles(decompose(trace, name="validation", rule=rule).residual) for rule in RULES}
    series = decompose(trace, name="validation")
    said = published(trace)
    found["slope"] = {
        "gauss": slope(attribution.total(series.modes), series.change),
        "first order": slope(attribution.total(said.modes), said.change),
        "unweighted_pub": slope(attribution.total(said.modes_unweighted_pub), said.change),
        "alpha_weighted_pub": slope(attribution.total(said.modes_pub), said.change),
    }
    found["leading mode's share"] = float(np.nansum(series.modes[:, 0]) / np.nansum(series.modes))
    single = series.shares[:, 0]
    found["leading mode's share of single updates"] = quantiles(single)
    found["updates with a mode beyond 100 % or below 0"] = float(
        ((np.nanmax(series.shares, axis=1) > 1) | (np.nanmin(series.shares, axis=1) < 0)).mean()
    )
    ahead = forecast(trace, name="validation")
    known = np.isfinite(ahead.drift_discounted)
    change = ahead.change[known]
    before = np.concatenate([[np.nan], ahead.change])[:-1][known]
    keep = np.isfinite(before)
    found["captured"] = quantiles(ahead.captured)
    found["alpha"] = [float(a) for a in np.nanmedian(ahead.alpha[known], axis=0)]
    predictions = {
        "hindsight": attribution.total(ahead.modes)[known],
        "hindsight_discounted": ahead.discounted[known],
        "drift": attribution.total(ahead.drift)[known],
        "drift_discounted": ahead.drift_discounted[known],
        "last_change": before,
    }
    found["skill"] = {name: skill(values[keep], change[keep]) for name, values in predictions.items()}
    found["late_skill"] = {name: late_skill(values[keep], change[keep]) for name, values in predictions.items()}
    found["fitted_skill"] = {name: fitted_skill(values[keep], change[keep]) for name, values in predictions.items()}
    found["forecasts judged"] = int(keep.sum())
    found["milliseconds an observation"] = 1e3 * run.seconds_of_measuring / len(trace.steps)
    found["gradients an observation"] = run.gradients / len(trace.steps)
    return found


def axes_compared(run: Run) -> dict[str, list[float]]:
    """The modes beside random axes of the same span, over windows with all modes above the rank floor."""
    series = decompose(run.trace, name="validation")
    index = np.searchsorted(run.trace.steps, series.step)
    measured = spectrum(grams(run.trace.lag_rows(), index, size=WINDOW))
    products = Products(run.trace, WINDOW, None)
    points = [products.at(f"validation/gauss_{n}", index)[0] for n in (1, 2)]
    full = measured.rank == WINDOW
    along = attribution.mode_gradients(measured, attribution.gauss_products(points))
    return bases(series.modes[full], along[full], attribution.mode_steps(measured)[full])


def draw(numbers: dict[str, Any]) -> Any:
    """The figure of the page on the decomposition of the loss."""
    figure = new_figure(1080)
    grid = figure.add_gridspec(2, 2, left=0.065, right=0.985, top=0.925, bottom=0.075, hspace=0.42, wspace=0.17)
    from matplotlib.lines import Line2D

    settings = [(kind, every) for kind in KINDS for every in EVERY]
    labels = [f"{kind}\ns = {every}" for kind, every in settings]

    ax = figure.add_subplot(grid[0, 0])
    plain(ax)
    for n, rule in enumerate(RULES):
        for activation, marker, shift in (("ReLU", "o", -0.07), ("GELU", "D", 0.07)):
            x = np.arange(len(settings)) + (n - 1.5) * 0.2 + shift
            values = np.array([numbers[f"{k} {activation} {e}"]["residual"][rule] for k, e in settings])
            ax.vlines(x, values[:, 0], values[:, 2], color=COLOURS[rule], linewidth=1.4, alpha=0.55)
            fill = COLOURS[rule] if activation == "ReLU" else "white"
            ax.plot(x, values[:, 1], marker, color=COLOURS[rule], markerfacecolor=fill, markersize=6)
    ax.set_yscale("log")
    ax.set_ylim(1e-12, 2e2)
    ax.set_xticks(range(len(settings)), labels)
    ax.set_ylabel("residual |ΔL − sum| / |ΔL|")
    ax.set_title("Gradients at both ends close the sum; one end does not", loc="left", fontweight="bold")
    handles = [Line2D([], [], color=COLOURS[r], marker="o", linewidth=0, label=NAMES[r]) for r in RULES]
    handles += [
        Line2D([], [], color=INK, marker="o", linewidth=0, label="ReLU"),
        Line2D([], [], color=INK, marker="D", markerfacecolor="white", linewidth=0, label="GELU"),
    ]
    ax.legend(handles=handles, ncols=3, loc="upper right", frameon=False, fontsize=11, handletextpad=0.2)

    ax = figure.add_subplot(grid[0, 1])
    plain(ax)
    forms = {
        "gauss": ("two-point Gauss, by mode", COLOURS["gauss"], "o"),
        "first order": ("first order, by mode", COLOURS["first"], "s"),
        "unweighted_pub": ("published, without alpha: −η G$^{train}$G$^{val}$", "#0072B2", "^"),
        "alpha_weighted_pub": ("published: −η α G$^{train}$G$^{val}$", "#56B4E9", "v"),
    }
    for n, (name, (label, colour, marker)) in enumerate(forms.items()):
        values = np.array([numbers[f"{k} ReLU {e}"]["slope"][name] for k, e in settings])
        x = np.arange(len(settings)) + (n - 1.5) * 0.14
        ax.plot(x, np.abs(values), marker, color=colour, markersize=8, label=label)
        negative = values < 0
        ax.plot(x[negative], np.abs(values[negative]), marker, color=colour, markersize=8, markerfacecolor="white")
    ax.axhline(1, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    ax.set_yscale("log")
    low = min(abs(v) for k, e in settings for v in numbers[f"{k} ReLU {e}"]["slope"].values())
    ax.set_ylim(low / 4, 100)
    ax.set_xticks(range(len(settings)), labels)
    ax.set_ylabel("slope on the measured ΔL (1 is right)")
    ax.set_title("The published form holds for plain SGD at one step only", loc="left", fontweight="bold")
    ax.legend(ncols=2, loc="upper right", frameon=False, fontsize=11, handletextpad=0.2)

    ax = figure.add_subplot(grid[1, 0])
    plain(ax)
    compared = numbers["axes"]
    k = np.arange(1, WINDOW + 1)
    ax.plot(k, compared["SGD 1"]["random axes"], "o-", color="#8a8a8a", label="random axes of the span (SGD, s = 1)")
    ax.plot(k, compared["SGD 1"]["modes"], "o-", color="#D55E00", label="modes, SGD, s = 1")
    ax.plot(k, compared["AdamW 10"]["modes"], "o-", color="#0072B2", label="modes, AdamW, s = 10")
    ax.plot(k, compared["SGD 1"]["update first"], "o-", color="#009E73", label="axes that start with the update itself")
    ax.axhline(1, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    ax.set_xticks(k)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("leading axes k")
    ax.set_ylabel("signed share of the run's ΔL")
    ax.set_title("Every basis that holds the update ends at 100 %", loc="left", fontweight="bold")
    ax.legend(loc="lower right", frameon=False, fontsize=11)

    ax = figure.add_subplot(grid[1, 1])
    plain(ax)
    shown = {
        "hindsight": ("update known, earlier directions", "#009E73"),
        "hindsight_discounted": ("the same, times alpha", "#8FD3BC"),
        "drift": ("drift of the window: a forecast", "#0072B2"),
        "drift_discounted": ("the same, times alpha", "#9CCBE8"),
        "last_change": ("the last change again", "#8a8a8a"),
    }
    floor, again = -0.2, "times a factor fitted on the first half"
    for n, (name, (label, colour)) in enumerate(shown.items()):
        values = np.array([numbers[f"{k} ReLU {e}"]["skill"][name] for k, e in settings])
        x = np.arange(len(settings)) + (n - 2) * 0.16
        ax.bar(x, np.maximum(values, floor), width=0.15, color=colour, label=label)
        fitted = np.array([numbers[f"{k} ReLU {e}"]["fitted_skill"][name] for k, e in settings])
        ax.plot(x, np.maximum(fitted, floor), "D", color=INK, markersize=4.5, label=None if n < 4 else again)
    ax.axhline(0, color=INK, linewidth=1)
    ax.set_ylim(floor, 1.6)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
    ax.set_xticks(range(len(settings)), labels)
    ax.set_ylabel("skill (0: as good as “no change”)")
    ax.set_title(
        "Alpha costs skill in hindsight; in a forecast it is a factor below one", loc="left", fontweight="bold"
    )
    ax.legend(ncols=2, loc="upper right", frameon=False, fontsize=11)
    for ax in figure.axes:
        ax.xaxis.label.set_size(12)
        ax.yaxis.label.set_size(12)
        ax.title.set_size(13)
    return figure


def again(counts: dict[int, int], intervals: dict[int, int], seeds: range, *, hidden: int) -> dict[str, Any]:
    """What the ledger of claims reads, of every setting on fresh seeds."""
    numbers: dict[str, Any] = {}
    for kind in KINDS:
        for every in EVERY:
            found = [
                measure(train(kind, "ReLU", intervals[every], counts[every], seed, hidden=hidden)) for seed in seeds
            ]
            columns = ("slope", "skill", "late_skill", "fitted_skill")
            each = {name: {key: [one[name][key] for one in found] for key in found[0][name]} for name in columns}
            numbers[f"{kind} {every}"] = each
            late, fitted = each["late_skill"], each["fitted_skill"]
            shown = (late["drift_discounted"], late["drift"], fitted["drift"])
            told = ", ".join(f"{np.median(values):.2f}" for values in shown)
            print(f"{kind}, s = {every}: median skill with alpha, without, with one factor: {told}.", flush=True)
    return numbers


def main() -> None:
    """Runs everything, prints what was found, writes the figure and its numbers."""
    torch.set_num_threads(1)
    options = script_options(
        "The change of a validation loss by mode.", "examples/theory/loss.py", again="the ReLU trainings on fresh seeds"
    )
    counts = dict.fromkeys(EVERY, 22) if options.quick else {1: 150, 10: 150, 50: 60}
    intervals = dict(zip(EVERY, (1, 2, 5) if options.quick else EVERY, strict=True))
    hidden = 16 if options.quick else 256
    settings: dict[str, Any] = {"modulus": MODULUS, "window": WINDOW, "batch": BATCH, "observations": counts}
    if options.again:
        seeds = AGAIN[:1] if options.quick else AGAIN
        fresh = again(counts, intervals, seeds, hidden=hidden)
        settings["seeds"] = list(seeds)
        save(options.results / "loss_again.json", command=options.command, settings=settings, numbers=fresh)
        return
    numbers: dict[str, Any] = {"axes": {}}
    for activation in ACTIVATIONS:
        for kind in KINDS:
            for every in EVERY:
                run = train(kind, activation, intervals[every], counts[every], hidden=hidden)
                numbers[f"{kind} {activation} {every}"] = measure(run)
                if activation == "ReLU":
                    numbers["axes"][f"{kind} {every}"] = axes_compared(run)
    for rule in RULES:
        medians = [numbers[f"{k} ReLU {e}"]["residual"][rule][1] for k in KINDS for e in EVERY]
        print(f"Median residual, {NAMES[rule]}: {min(medians):.2g} to {max(medians):.2g} (ReLU).")
    for k in KINDS:
        slopes = [numbers[f"{k} ReLU {e}"]["slope"] for e in EVERY]
        for name in ("unweighted_pub", "alpha_weighted_pub"):
            print(f"{k}, slope of {name} at s = 1, 10, 50: {', '.join(f'{s[name]:.2g}' for s in slopes)}.")
    for k in KINDS:
        for e in EVERY:
            found = numbers[f"{k} ReLU {e}"]
            skills = ", ".join(f"{name} {value:.2f}" for name, value in found["skill"].items())
            fitted = ", ".join(f"{name} {value:.2f}" for name, value in found["fitted_skill"].items())
            print(f"{k}, s = {e}: with a factor fitted on the first half, skill on the second: {fitted}.")
            print(
                f"{k}, s = {e}: leading mode {found['leading mode' + chr(39) + 's share']:.0%} of the change; "
                f"next update {found['captured'][1]:.0%} in the span; skill {skills}."
            )
    settings["seed"] = SEED
    save(options.results / "loss.json", command=options.command, settings=settings, numbers=numbers)
    draw(numbers).savefig(options.out / "loss.png", dpi=80)


if __name__ == "__main__":
    main()
