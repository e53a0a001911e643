"""Tensor Programs: do the window's gap ratio, k* and normalised g23 at fixed tokens stay put as width grows?

A small language model (two tokens of context) trains with Adam at widths from 32 to 512: under muP (Yang and Hu), whose
rates and multipliers keep each layer's change of activations alike at every width, and in the standard parametrisation
at the same rate. The two coincide at width 32. All widths of a seed see the same tokens; windows of ten updates, 5,120
tokens each, share none of them. A third arm is structureless: muP with labels drawn at random. A fourth stays at
width 32 and multiplies the rates of hidden and output layer as width does in the standard parametrisation.

The rule, for each quantity: its mean over windows is fitted against ln(width), seed by seed; the interval is Student's
t over seeds, at 95 %. The margin is a change by a tenth (k*: by half a position) over the whole range of widths.
*Consistent* if the slope under muP lies inside the margin, the slope of the standard parametrisation lies outside,
and over half of the windows leave the band of structureless updates at every width under muP. *Not consistent* if the
slope under muP lies wholly outside. Otherwise *cannot tell*. The statement as a whole is consistent if gap ratio, raw
k* and normalised g23 are, and not consistent if one of them is not. Rule, rate and batch were chosen on pilot runs with
seeds 0 to 2, which are not among these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import stats
from torch import nn

import spectral_edge as se
from spectral_edge.measure import Memory, WindowOptions, Windows, grams
from spectral_edge.simulate.record import Options, save, script_options

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WINDOW, BASE, VOCABULARY, FACTORS, FIRST_SEED = 10, 32, 32, 8, 10
BETAS, RATE = (0.9, 0.99), 0.003
ARMS = {
    "mup": "muP",
    "standard": "standard parametrisation",
    "structureless": "muP, labels at random",
    "rates": "width 32, rates of hidden and output layer × width / 32",
}
COLOURS = {"mup": "#0072B2", "standard": "#D55E00", "structureless": "#9a9a9a", "rates": "#009E73"}
LAYERS = ("embedding", "hidden", "output")
QUANTITIES = ("gap_ratio", "k_star_raw", "g23_normalized", "k_star_weighted", "k_star_restricted")
JUDGED = QUANTITIES[:3]
FRACTION, POSITIONS = 0.1, 0.5
"""The margin over the whole range of widths: of ratios and of k*."""
CHECKED = 4
"""Steps after which the change of activations is read."""


@dataclass(frozen=True)
class Settings:
    """Of the runs.

    Attributes:
        seeds: how many; a seed fixes the language and the tokens for all arms and widths.
        steps: of each run.
        batch: contexts, that is predicted tokens, in a step.
        every: steps to an observed update.
        widths: of the hidden layers, the first one being the base.
    """

    seeds: int = 8
    steps: int = 600
    batch: int = 256
    every: int = 20
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)


class Language:
    """Random probabilities of the next token after every pair of tokens, through products of token features."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(1000 + seed)
        first, second = (torch.randn(VOCABULARY, FACTORS, generator=self.generator) for _ in range(2))
        readout = torch.randn(FACTORS**2, VOCABULARY, generator=self.generator)
        products = (first[:, None, :, None] * second[None, :, None, :]).reshape(VOCABULARY**2, -1)
        self.probabilities = torch.softmax(2.0 / FACTORS * products @ readout, dim=-1)
        tokens = torch.arange(VOCABULARY)
        # Rows of the embedding: a token has one for each of the two positions.
        self.contexts = torch.cartesian_prod(tokens, tokens + VOCABULARY)

    def batch(self, size: int, *, informative: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Contexts and next tokens, or tokens that have nothing to do with the contexts."""
        drawn = torch.randint(VOCABULARY**2, (size,), generator=self.generator)
        after = torch.multinomial(self.probabilities[drawn], 1, generator=self.generator)[:, 0]
        noise = torch.randint(VOCABULARY, (size,), generator=self.generator)
        return self.contexts[drawn], after if informative else noise


class Network(nn.Module):
    """Embedding, one hidden matrix and an output matrix, each of a kind that muP treats differently."""

    def __init__(self, width: int, *, mup: bool, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2000 + seed)

        def normal(rows: int, columns: int, variance: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(rows, columns, generator=generator) * math.sqrt(variance))

        self.embedding = normal(2 * VOCABULARY, width, 0.5)
        self.hidden = normal(width, width, 2 / width)
        self.output = normal(width, VOCABULARY, 1 / (BASE if mup else width))
        self.multiplier = BASE / width if mup else 1.0

    def forward(self, contexts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Input of the second non-linearity, and logits."""
        inner = torch.relu(self.embedding[contexts].sum(dim=1)) @ self.hidden
        return inner, self.multiplier * (torch.relu(inner) @ self.output)


@dataclass(frozen=True)
class Run:
    """What one run showed.

    Attributes:
        values: each quantity's mean over windows; ratios and g23 as logarithms.
        layers: the mean logarithm of each layer's own gap ratio.
        stored_otherwise: of the whole model's, had the multiplier been part of the output matrix.
        clear: share of windows whose gap ratio leaves the band of structureless updates at 99 %.
        percentiles: mean percentiles of R_1 and R_2 in that band.
        progress: mean progress share of the leading mode.
        change: root mean square change of inner activations and logits after four steps.
        loss: excess of the last loss over the language's entropy, in nats.
    """

    values: dict[str, float]
    layers: dict[str, float]
    stored_otherwise: float
    clear: float
    percentiles: tuple[float, float]
    progress: float
    change: tuple[float, float]
    loss: float


def train(arm: str, width: int, multiple: float, seed: int, settings: Settings) -> Run:
    """Trains one network and measures its windows.

    Args:
        arm: one of `ARMS`.
        width: of the network.
        multiple: factor on the rates of hidden and output layer; 1 but for the arm "rates".
        seed: of language, tokens and initial values.
        settings: of the runs.
    """
    language, mup = Language(seed), arm != "standard"
    model = Network(width, mup=mup, seed=seed)
    inner_rate = RATE * multiple * (BASE / width if mup else 1.0)
    groups = [
        {"params": [model.embedding], "lr": RATE},
        {"params": [model.hidden], "lr": inner_rate},
        {"params": [model.output], "lr": RATE * multiple},
    ]
    # muP shrinks gradients with width, so the usual eps would act differently at each.
    optimizer = torch.optim.Adam(groups, betas=BETAS, eps=1e-12, fused=True)
    monitor = se.Monitor(model, optimizer, window=WINDOW, every=settings.every, engine="exact")
    with torch.no_grad():
        before = model(language.contexts)
    change: tuple[float, float] = (math.nan, math.nan)
    for step in range(1, settings.steps + 1):
        contexts, after = language.batch(settings.batch, informative=arm != "structureless")
        loss = nn.functional.cross_entropy(model(contexts)[1], after)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.step()
        if step == CHECKED:
            with torch.no_grad():
                a, b = (
                    float((new - old).square().mean().sqrt())
                    for new, old in zip(model(language.contexts), before, strict=True)
                )
            change = a, b
    with torch.no_grad():
        log_p = torch.log_softmax(model(language.contexts)[1], dim=-1)
        p = language.probabilities
        excess = float((p * (p.log() - log_p)).sum(dim=-1).mean())
    return measured(monitor.trace, settings.every, model.multiplier, change, excess)


def measured(trace: se.Trace, every: int, multiplier: float, change: tuple[float, float], loss: float) -> Run:
    """The quantities of the windows that share no update."""
    ends = np.arange(WINDOW - 1, len(trace.steps), WINDOW)
    layers = {name: trace.lag_rows(name) for name in LAYERS}

    def windows(rows: np.ndarray) -> Windows:
        return Windows(
            grams(rows, ends, size=WINDOW),
            WindowOptions(WINDOW, memory=Memory(BETAS[0], every)),
            learning_rate=np.full(len(ends), np.nan),
            sketch_error=np.zeros(len(ends)),
        )

    def log_ratio(rows: np.ndarray) -> float:
        return float(np.log(windows(rows)["gap_ratio"].values).mean())

    whole = windows(trace.lag_rows())
    values = {name: float(whole[name].values.mean()) for name in QUANTITIES}
    for name in ("gap_ratio", "g23_normalized"):
        values[name] = float(np.log(whole[name].values).mean())
    # An output matrix that includes its multiplier moves by the multiplier times as much; the network is the same.
    otherwise = layers["embedding"] + layers["hidden"] + multiplier**2 * layers["output"]
    return Run(
        values,
        {name: log_ratio(rows) for name, rows in layers.items()},
        log_ratio(otherwise),
        float(np.isfinite(whole["k_star_clear"].values).mean()),
        tuple(whole["band_percentile"].values[:, :2].mean(axis=0).tolist()),
        float(whole["progress_share"].values[:, 0].mean()),
        change,
        loss,
    )


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds with its 95 % interval by Student's t."""
    each = np.asarray(values, dtype=float)
    half = stats.t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each))
    return {"mean": each.mean(), "low": each.mean() - half, "high": each.mean() + half, "each": each}


def slopes(values: np.ndarray, x: Sequence[float]) -> dict[str, Any]:
    """Slope on ln(x) of each seed's line [seeds, x], with its interval."""
    return interval(np.polyfit(np.log(x), values.T, 1)[0].tolist())


def spread(values: np.ndarray) -> float:
    """Standard deviation over widths of the mean, in units of that over seeds at one width [seeds, widths]."""
    noise = np.sqrt(values.var(axis=0, ddof=1).mean())
    return float(values.mean(axis=0).std(ddof=1) / noise) if noise > 0 else math.nan


Table = dict[str, list[list[Run]]]
"""Runs by arm, seed and width (or multiple of the rate)."""


def column(table: Table, arm: str, of: Callable[[Run], Any]) -> np.ndarray:
    """One number of every run of an arm [seeds, widths]."""
    return np.array([[of(run) for run in runs] for runs in table[arm]])


def judged(table: Table, settings: Settings) -> dict[str, Any]:
    """All numbers, and the verdicts by the rule above."""
    widths = settings.widths
    clear = {arm: column(table, arm, lambda run: run.clear).mean(axis=0) for arm in ARMS}
    reach = math.log(widths[-1] / widths[0])
    quantities: dict[str, Any] = {}
    for name in QUANTITIES:
        margin = (POSITIONS if name.startswith("k_star") else math.log1p(FRACTION)) / reach
        values = {arm: column(table, arm, lambda run, name=name: run.values[name]) for arm in ARMS}
        slope = {arm: slopes(values[arm], widths) for arm in ARMS}
        mup, standard = slope["mup"], slope["standard"]
        inside = mup["low"] >= -margin and mup["high"] <= margin
        outside = mup["low"] > margin or mup["high"] < -margin
        drifts = standard["low"] > margin or standard["high"] < -margin
        holds = inside and drifts and bool((clear["mup"] > 0.5).all())
        quantities[name] = {
            "verdict": "consistent" if holds else "not consistent" if outside else "cannot tell",
            "margin": margin,
            "slope": slope,
            "mean_by_width": {arm: values[arm].mean(axis=0) for arm in ARMS},
            "by_seed_and_width": values,
            "spread_over_seed_noise": {arm: spread(values[arm]) for arm in ("mup", "standard")},
        }
    verdicts = [quantities[name]["verdict"] for name in JUDGED]
    whole = (
        "consistent"
        if set(verdicts) == {"consistent"}
        else "not consistent"
        if "not consistent" in verdicts
        else "cannot tell"
    )
    changes = {arm: column(table, arm, lambda run: run.change) for arm in ("mup", "standard")}
    return {
        "verdict": whole,
        "quantities": quantities,
        "clear_of_the_band": clear,
        "percentile_of_r1": {arm: column(table, arm, lambda run: run.percentiles[0]).mean(axis=0) for arm in ARMS},
        "percentile_of_r2": {arm: column(table, arm, lambda run: run.percentiles[1]).mean(axis=0) for arm in ARMS},
        "progress_share_of_v1": {arm: column(table, arm, lambda run: run.progress).mean(axis=0) for arm in ARMS},
        "slope_by_layer": {
            layer: {
                arm: slopes(column(table, arm, lambda run, layer=layer: run.layers[layer]), widths)
                for arm in ("mup", "standard")
            }
            for layer in LAYERS
        },
        "slope_stored_otherwise": slopes(column(table, "mup", lambda run: run.stored_otherwise), widths),
        "mean_stored_otherwise": column(table, "mup", lambda run: run.stored_otherwise).mean(axis=0),
        "coordinate_check": {
            name: {
                arm: {
                    "slope": slopes(np.log(of[..., i]), widths),
                    "slope_of_last_two": slopes(np.log(of[:, -2:, i]), widths[-2:]),
                    "by_width": of[..., i].mean(axis=0),
                }
                for arm, of in changes.items()
            }
            for i, name in enumerate(("activations", "logits"))
        },
        "excess_loss": {arm: column(table, arm, lambda run: run.loss).mean(axis=0) for arm in ARMS},
    }


def sentences(numbers: dict[str, Any], settings: Settings) -> list[str]:
    """What was found, in words."""
    of, first, last = numbers["quantities"], settings.widths[0], settings.widths[-1]
    ratio = of["gap_ratio"]

    def at(arm: str, end: int) -> float:
        return math.exp(ratio["mean_by_width"][arm][end])

    def words(slope: dict[str, Any]) -> str:
        return f"{slope['mean']:+.3f} ({slope['low']:+.3f} to {slope['high']:+.3f})"

    g23, check, clear = of["g23_normalized"], numbers["coordinate_check"], numbers["clear_of_the_band"]
    noise = ratio["spread_over_seed_noise"]
    moved = {
        arm: ", ".join(
            f"{name} {found[arm]['slope']['mean']:+.2f} ({found[arm]['slope_of_last_two']['mean']:+.2f})"
            for name, found in check.items()
        )
        for arm in ("mup", "standard")
    }
    return [
        f"Tensor Programs: {numbers['verdict']}. Gap ratio {ratio['verdict']}, k* {of['k_star_raw']['verdict']}, "
        f"normalised g23 {g23['verdict']} ({settings.seeds} seeds, widths {first} to {last}).",
        f"Slope of ln R on ln width: {words(ratio['slope']['mup'])} under muP, "
        f"{words(ratio['slope']['standard'])} in the standard parametrisation, at a margin of {ratio['margin']:.3f} "
        "(95 % intervals).",
        f"R goes from {at('mup', 0):.2f} to {at('mup', -1):.2f} under muP and to {at('standard', -1):.2f} in the "
        f"standard parametrisation; widths differ by {noise['mup']:.1f} and {noise['standard']:.1f} times what seeds "
        "do.",
        f"Structureless labels give R = {at('structureless', 0):.2f} to {at('structureless', -1):.2f}, slope "
        f"{words(ratio['slope']['structureless'])}; of their windows {max(clear['structureless']):.0%} or fewer leave "
        f"the band at any width, under muP with labels {min(clear['mup']):.0%} or more.",
        f"Slope of ln g23/tr G on ln width: {words(g23['slope']['mup'])} under muP, {words(g23['slope']['standard'])} "
        f"in the standard parametrisation, {words(g23['slope']['structureless'])} with structureless labels.",
        f"At width {first} the rates of the standard parametrisation alone take R to {at('rates', -1):.2f}.",
        f"Coordinate check after {CHECKED} steps, slope of ln change on ln width (over the last two widths): "
        f"{moved['mup']} under muP; {moved['standard']} in the standard parametrisation.",
    ]


def draw(numbers: dict[str, Any], settings: Settings, options: Options) -> None:
    """The picture: gap ratio and normalised g23 by width, the coordinate check, k*."""
    from spectral_edge.plots.frame import new_figure, plain

    figure = new_figure(900)
    axes = figure.subplots(2, 2)
    figure.subplots_adjust(left=0.065, right=0.985, top=0.83, bottom=0.08, hspace=0.36, wspace=0.16)
    of = numbers["quantities"]
    slope = of["gap_ratio"]["slope"]
    figure.suptitle(
        f"As width grows {settings.widths[-1] // settings.widths[0]}-fold at fixed tokens, ln R has slope "
        f"{slope['mup']['mean']:+.3f} under muP and {slope['standard']['mean']:+.3f} in the standard parametrisation",
        x=0.065,
        y=0.975,
        ha="left",
        fontsize=15.5,
        fontweight="bold",
    )
    for ax in axes.flat:
        plain(ax)
        ax.set_xscale("log", base=2)
        ax.set_xticks(settings.widths, [str(width) for width in settings.widths])
        ax.minorticks_off()
        ax.set_xlabel("width", fontsize=13)
    (ratio, g23), (position, check) = axes
    for ax, name, title in (
        (ratio, "gap_ratio", "Gap ratio R"),
        (g23, "g23_normalized", "Normalised g23"),
        (position, "k_star_raw", "k* (raw)"),
    ):
        _by_width(ax, of[name], settings, logarithm=name != "k_star_raw")
        verdict = of[name]["verdict"]
        ax.set_title(f"{title}: {verdict}", loc="left", fontsize=13.5)
    ratio.set_ylim(bottom=1.0)
    ratio.set_ylabel("R at k*, mean over windows", fontsize=13)
    g23.set_ylim(bottom=0.0)
    g23.set_ylabel("$(\\lambda_2 - \\lambda_3)$ / tr G", fontsize=13)
    position.set_ylim(bottom=0.8)
    position.set_ylabel("position", fontsize=13)
    for name, style in (("activations", "o-"), ("logits", "s--")):
        for arm in ("mup", "standard"):
            found = numbers["coordinate_check"][name][arm]
            check.plot(settings.widths, found["by_width"], style, color=COLOURS[arm], markersize=6, label=name)
    check.set_yscale("log")
    check.set_ylabel(f"rms change after {CHECKED} steps", fontsize=13)
    check.set_title("Coordinate check (circles: activations, squares: logits)", loc="left", fontsize=13.5)
    handles, labels = ratio.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0.06, 0.945), ncols=4, frameon=False, fontsize=12.5
    )
    figure.savefig(options.out / "tensor_programs.png", dpi=76)


def _by_width(ax: Axes, found: dict[str, Any], settings: Settings, *, logarithm: bool) -> None:
    for arm, label in ARMS.items():
        values = found["by_seed_and_width"][arm]
        values = np.exp(values) if logarithm else values
        line = values.mean(axis=0)
        ax.vlines(settings.widths, values.min(axis=0), values.max(axis=0), color=COLOURS[arm], linewidth=1.6, alpha=0.6)
        ax.plot(settings.widths, line, "o-", color=COLOURS[arm], linewidth=2.2, markersize=6, label=label)


def main() -> None:
    """Runs all arms, judges, draws and records."""
    torch.set_num_threads(1)
    options = script_options(__doc__ or "", "examples/consistency/tensor_programs.py", results="results/consistency")
    settings = Settings(seeds=2, steps=100, batch=64, every=10, widths=(32, 64)) if options.quick else Settings()
    table: Table = {arm: [] for arm in ARMS}
    for seed in range(FIRST_SEED, FIRST_SEED + settings.seeds):
        for arm in ARMS:
            runs: list[Run] = []
            for width in settings.widths:
                if width == BASE and arm in ("standard", "rates"):
                    runs.append(table["mup"][-1][0])  # the arms coincide here
                elif arm == "rates":
                    runs.append(train(arm, BASE, width / BASE, seed, settings))
                else:
                    runs.append(train(arm, width, 1.0, seed, settings))
            table[arm].append(runs)
    numbers = judged(table, settings)
    said = sentences(numbers, settings)
    print("\n".join(said))
    draw(numbers, settings, options)
    save(
        options.results / "tensor_programs.json",
        command=options.command,
        settings={
            **asdict(settings),
            "window": WINDOW,
            "base_width": BASE,
            "vocabulary": VOCABULARY,
            "betas": BETAS,
            "rate": RATE,
            "first_seed": FIRST_SEED,
            "fraction": FRACTION,
            "positions": POSITIONS,
            "checked_step": CHECKED,
        },
        numbers={**numbers, "sentences": said},
    )


if __name__ == "__main__":
    main()
