"""Scaling laws: do the leading modes j <= k* explain 80 % of the loss's drop, at every size of the model alike?

A causal transformer of one block learns a random second-order language with Adam, at four sizes that span a factor
of 53.5 in parameters; rates of matrices fall as one over width. The change of the loss on fixed validation text is
integrated along every observed update (two-point Gauss, every ten steps) and split by the modes of the window of ten
updates that ends with it. The share of j <= k* is what these modes hold, summed over the run, over the measured drop.
Each window's k* is the published one (raw); the other conventions are given too.

All ten modes together hold 100 % whatever the updates, and so does the newest update by itself. Beside the modes stand
bases that know no spectrum: the window's mean update, which is one dimension; k* random directions of the row space, of
which the expectation k*/rank is exact; and both modes and mean of the window that ends before the update. A sweep over
the interval of observation on one size shares the range of steps behind the warm-up.

The rule: *consistent* if the share's 95 % interval (Student's t over seeds) lies within 0.8 to 1.2 at every size and
its slope on ln(parameters) has an interval within a change of 0.1 over the whole range; *not consistent* if at one size
the interval lies wholly outside of 0.8 to 1.2, or that of the slope wholly outside of its margin; otherwise *cannot
tell*. The claim *discriminates* if at every size modes explain 0.05 more than the mean update does, the interval of the
paired difference lying above. Rule, rate and batch were chosen on pilot runs with seed 0, which is not among these; ten
steps are the monitor's default.
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
from torch.nn import functional

import spectral_edge as se
from spectral_edge.evaluate.loss import decompose
from spectral_edge.evaluate.probed import Products
from spectral_edge.measure import attribution, grams, k_stars, spectrum
from spectral_edge.measure.motion import progress_share
from spectral_edge.modes.loss_path import LossPath
from spectral_edge.simulate.record import Options, save, script_options

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOW, VOCABULARY, LENGTH, HEADS, FACTORS, FIRST_SEED = 10, 32, 16, 4, 8, 10
BETAS, RATE, BASE = (0.9, 0.98), 0.003, 16
CONVENTIONS = ("raw", "weighted", "restricted")
BASES = {
    "modes": "modes j ≤ k*",
    "mean_update": "mean update (1 dimension)",
    "random": "k* random directions",
    "modes_before": "modes j ≤ k* of the window before",
    "mean_before": "mean update of the window before",
}
COLOURS = {
    "modes": "#D55E00",
    "mean_update": "#0072B2",
    "random": "#9a9a9a",
    "modes_before": "#E9A66B",
    "mean_before": "#7FB8DA",
}
LEVEL, ABOVE, RANGE, AHEAD = 0.8, 1.2, 0.1, 0.05
"""The claim's share, its mirror image above 1, the change that counts as stable, and what modes have to be ahead by."""


@dataclass(frozen=True)
class Settings:
    """Of the runs.

    Attributes:
        seeds: how many; a seed fixes language, text and initial values.
        steps: of each run.
        warmup: steps over which the rate rises.
        sequences: of training text in a step.
        validation: sequences of validation text.
        widths: of the model, one for each size.
        every: steps to an observed update.
        sweep: such intervals for the sweep.
        sweep_width: the model's width there.
    """

    seeds: int = 5
    steps: int = 600
    warmup: int = 200
    sequences: int = 32
    validation: int = 64
    widths: tuple[int, ...] = (16, 32, 64, 136)
    every: int = 10
    sweep: tuple[int, ...] = (2, 5, 10, 20)
    sweep_width: int = 32


class Language:
    """A token's probabilities given the last two: one part from the last, one from products of features."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(1000 + seed)
        first, second, alone, last = (self._normal(VOCABULARY, FACTORS) for _ in range(4))
        products = (first[:, None, :, None] * second[None, :, None, :]).reshape(VOCABULARY, VOCABULARY, -1)
        logits = 1.5 / math.sqrt(FACTORS) * (alone @ last.T) + 2.0 / FACTORS * products @ self._normal(
            FACTORS**2, VOCABULARY
        )
        self.probabilities = torch.softmax(logits, dim=-1)

    def _normal(self, rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=self.generator)

    def text(self, sequences: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and the tokens that follow them; the first two of a sequence are uniform."""
        tokens = torch.randint(VOCABULARY, (sequences, LENGTH + 1), generator=self.generator)
        for t in range(2, LENGTH + 1):
            p = self.probabilities[tokens[:, t - 2], tokens[:, t - 1]]
            tokens[:, t] = torch.multinomial(p, 1, generator=self.generator)[:, 0]
        return tokens[:, :-1], tokens[:, 1:]

    def floor(self, tokens: torch.Tensor, following: torch.Tensor) -> float:
        """The loss of one who knows the language, in nats."""
        known = self.probabilities[tokens[:, :-1], tokens[:, 1:]].gather(-1, following[:, 1:, None]).log().sum()
        return float(math.log(VOCABULARY) * len(tokens) - known) / following.numel()


class Transformer(nn.Module):
    """Attention and a two-layer network, once, on the residual stream."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2000 + seed)

        def normal(rows: int, columns: int, variance: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(rows, columns, generator=generator) * math.sqrt(variance))

        self.width = width
        self.embedding, self.position = normal(VOCABULARY, width, 1.0), normal(LENGTH, width, 1.0)
        self.attention, self.mixing = normal(width, 3 * width, 1 / width), normal(width, width, 1 / width)
        self.up, self.down = normal(width, 4 * width, 2 / width), normal(4 * width, width, 0.25 / width)
        self.output = normal(width, VOCABULARY, 1 / (16 * width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of the next token [sequences, length, vocabulary]."""
        stream = self.embedding[tokens] + self.position
        parts = (self._normalised(stream) @ self.attention).unflatten(-1, (3, HEADS, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = stream + mixed.transpose(1, 2).flatten(2) @ self.mixing
        stream = stream + functional.gelu(self._normalised(stream) @ self.up) @ self.down
        return self._normalised(stream) @ self.output

    def _normalised(self, stream: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(stream, (self.width,))


@dataclass(frozen=True)
class Run:
    """What one run showed; shares are of the measured drop of the loss.

    Attributes:
        parameters: their number.
        excess: last validation loss above the language's own, in nats.
        covered: share of the whole run's drop that the windows cover.
        residual: share of the drop that the integral misses.
        shares: by a name of `BASES`, with the raw k*.
        conventions: of the modes j <= k*, by convention.
        k_star: mean of k*, by convention.
        first: of v_1 alone.
        cumulative: of the leading 1 to W modes [W].
        progress: mean progress share of v_1.
        alignment: mean squared cosine of v_1 and the mean update.
    """

    parameters: int
    excess: float
    covered: float
    residual: float
    shares: dict[str, float]
    conventions: dict[str, float]
    k_star: dict[str, float]
    first: float
    cumulative: np.ndarray
    progress: float
    alignment: float


def train(width: int, every: int, seed: int, settings: Settings, *, after: int = 0) -> Run:
    """Trains one model and splits the drop of its validation loss.

    Args:
        width: of the model.
        every: steps to an observed update.
        seed: of language, text and initial values.
        settings: of the runs.
        after: updates that begin before this step are left out.
    """
    language, model = Language(seed), Transformer(width, seed)
    tables = [model.embedding, model.position]
    matrices = [model.attention, model.mixing, model.up, model.down, model.output]
    groups = [{"params": tables, "lr": RATE}, {"params": matrices, "lr": RATE * BASE / width}]
    optimizer = torch.optim.Adam(groups, betas=BETAS, eps=1e-10, fused=True)
    warming = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / settings.warmup))
    tokens, following = language.text(settings.validation)

    def cost(of: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(model(of).flatten(0, 1), target.flatten())

    monitor = se.Monitor(model, optimizer, window=WINDOW, every=every, engine="exact")
    path = LossPath(monitor, model, lambda: cost(tokens, following))
    with torch.no_grad():
        start = float(cost(tokens, following))
    for _ in range(settings.steps):
        loss = cost(*language.text(settings.sequences))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warming.step()
        monitor.step()
        path.observe()
    with torch.no_grad():
        end = float(cost(tokens, following))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return split(monitor.trace, start, end, parameters, end - language.floor(tokens, following), every, after)


def split(trace: Any, start: float, end: float, parameters: int, excess: float, every: int, after: int) -> Run:
    """Shares of the drop of the loss, in the bases of the docstring."""
    series = decompose(trace)
    index = np.searchsorted(trace.steps, series.step)
    # The basis of the window before needs one update more.
    keep = (index >= WINDOW) & (series.step - every >= after)
    index, modes, integral, drop = index[keep], series.modes[keep], series.integral[keep], series.change[keep].sum()
    block = grams(trace.lag_rows(), index, size=WINDOW + 1)
    products = Products(trace, WINDOW + 1, None)
    along = attribution.gauss_products([products.at(f"loss/gauss_{n}", index)[0] for n in (1, 2)])
    older, newer = spectrum(block[:, :-1, :-1]), spectrum(block[:, 1:, 1:])
    stars, cumulative = k_stars(newer), np.nancumsum(modes, axis=1)
    following = block[:, -1, :-1]
    before = np.nancumsum(attribution.span_terms(older, along[:, :-1], following), axis=1)

    def leading(parts: np.ndarray, position: np.ndarray) -> float:
        return float(np.take_along_axis(parts, position[:, None] - 1, axis=1).sum() / drop)

    def mean_update(rows: slice) -> float:
        """<g, m><m, d> / |m|^2 with m the mean of some rows, by products alone."""
        square = block[:, rows, rows].sum(axis=(1, 2))
        return float((along[:, rows].sum(axis=1) * block[:, rows, -1].sum(axis=1) / square).sum() / drop)

    raw = stars["raw"].position
    total = block[:, 1:, 1:].sum(axis=(1, 2))
    return Run(
        parameters,
        excess,
        float(drop / (end - start)),
        float(abs(integral.sum() / drop - 1)),
        {
            "modes": leading(cumulative, raw),
            "mean_update": mean_update(slice(1, None)),
            "random": float((raw / newer.rank * integral).sum() / drop),
            "modes_before": leading(before, k_stars(older)["raw"].position),
            "mean_before": mean_update(slice(0, -1)),
        },
        {name: leading(cumulative, stars[name].position) for name in CONVENTIONS},
        {name: float(stars[name].position.mean()) for name in CONVENTIONS},
        float(modes[:, 0].sum() / drop),
        cumulative.sum(axis=0) / drop,
        float(progress_share(newer)[:, 0].mean()),
        float((newer.eigenvalues[:, 0] * newer.left[:, :, 0].sum(axis=1) ** 2 / total).mean()),
    )


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds with its 95 % interval by Student's t."""
    each = np.asarray(values, dtype=float)
    half = stats.t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each))
    return {"mean": each.mean(), "low": each.mean() - half, "high": each.mean() + half, "each": each}


Table = list[list[Run]]
"""Runs by size (or interval of observation) and seed."""


def each(table: Table, of: Callable[[Run], float]) -> list[dict[str, Any]]:
    """One number's interval for each size."""
    return [interval([of(run) for run in runs]) for runs in table]


def means(table: Table, of: Callable[[Run], float]) -> list[float]:
    """One number's mean for each size."""
    return [float(np.mean([of(run) for run in runs])) for runs in table]


def judged(table: Table, sweep: Table) -> dict[str, Any]:
    """All numbers, and the verdict by the rule above."""
    parameters = [runs[0].parameters for runs in table]
    shares = {name: each(table, lambda run, name=name: run.shares[name]) for name in BASES}
    lines = np.array([found["each"] for found in shares["modes"]])
    slope = interval(np.polyfit(np.log(parameters), lines, 1)[0].tolist())
    margin = RANGE / math.log(parameters[-1] / parameters[0])
    level = shares["modes"]
    inside = all(found["low"] >= LEVEL and found["high"] <= ABOVE for found in level)
    off = any(found["high"] < LEVEL or found["low"] > ABOVE for found in level)
    stable = slope["low"] >= -margin and slope["high"] <= margin
    moves = slope["low"] > margin or slope["high"] < -margin
    ahead = each(table, lambda run: run.shares["modes"] - run.shares["mean_update"])
    return {
        "verdict": "consistent" if inside and stable else "not consistent" if off or moves else "cannot tell",
        "level": "holds" if inside else "fails" if off else "cannot tell",
        "stability": "holds" if stable else "fails" if moves else "cannot tell",
        "discriminates": all(found["low"] > AHEAD for found in ahead),
        "parameters": parameters,
        "share": shares,
        "slope": slope,
        "margin": margin,
        "ahead_of_mean_update": ahead,
        "conventions": {name: each(table, lambda run, name=name: run.conventions[name]) for name in CONVENTIONS},
        "k_star": {name: means(table, lambda run, name=name: run.k_star[name]) for name in CONVENTIONS},
        "share_of_v1": each(table, lambda run: run.first),
        "cumulative": [np.mean([run.cumulative for run in runs], axis=0) for runs in table],
        "progress_share_of_v1": means(table, lambda run: run.progress),
        "alignment_of_v1_and_mean": means(table, lambda run: run.alignment),
        "excess_loss": each(table, lambda run: run.excess),
        "covered": means(table, lambda run: run.covered),
        "residual": max(run.residual for runs in [*table, *sweep] for run in runs),
        "sweep": {
            "share": {name: each(sweep, lambda run, name=name: run.shares[name]) for name in BASES},
            "k_star": means(sweep, lambda run: run.k_star["raw"]),
            "progress_share_of_v1": means(sweep, lambda run: run.progress),
            "covered": means(sweep, lambda run: run.covered),
        },
    }


def sentences(numbers: dict[str, Any], settings: Settings) -> list[str]:
    """What was found, in words."""
    share, slope, sweep = numbers["share"], numbers["slope"], numbers["sweep"]["share"]
    growth = numbers["parameters"][-1] / numbers["parameters"][0]

    def reach(of: list[dict[str, Any]]) -> str:
        values = [found["mean"] for found in of]
        return f"{min(values):.0%} to {max(values):.0%}"

    low, high = min(found["low"] for found in share["modes"]), max(found["high"] for found in share["modes"])
    verb = "does" if numbers["discriminates"] else "does not"
    ends = [f"{found['mean']:.0%} at s = {every}" for every, found in zip(settings.sweep, sweep["modes"], strict=True)]
    means_ = [f"{found['mean']:.0%}" for found in sweep["mean_update"]]
    return [
        f"Scaling laws: {numbers['verdict']}. The modes j <= k* explain {reach(share['modes'])} of the loss's drop "
        f"(95 % intervals within {low:.0%} to {high:.0%}; {settings.seeds} seeds, a factor {growth:.0f} in "
        "parameters).",
        f"The level of {LEVEL:.0%}: {numbers['level']}. Stability over sizes: {numbers['stability']}, slope of the "
        f"share on ln parameters {slope['mean']:+.4f} ({slope['low']:+.4f} to {slope['high']:+.4f}) at a margin of "
        f"{numbers['margin']:.4f}.",
        f"The claim {verb} discriminate: the mean update, one dimension that knows no spectrum, explains "
        f"{reach(share['mean_update'])}; modes are ahead by "
        f"{min(found['mean'] for found in numbers['ahead_of_mean_update']):+.3f} to "
        f"{max(found['mean'] for found in numbers['ahead_of_mean_update']):+.3f}. k* random directions explain "
        f"{reach(share['random'])}.",
        f"v_1 and the mean update have a squared cosine of {min(numbers['alignment_of_v1_and_mean']):.3f} or more; the "
        f"progress share of v_1 is {min(numbers['progress_share_of_v1']):.2f} or more.",
        f"Of the window before the update, modes explain {reach(share['modes_before'])}, the mean update "
        f"{reach(share['mean_before'])}.",
        f"On one and the same range of steps modes explain {', '.join(ends)}; the mean update {', '.join(means_)}.",
        f"The integral misses at most {numbers['residual']:.0e} of the drop; windows cover "
        f"{min(numbers['covered']):.0%} to {max(numbers['covered']):.0%} of the run's drop.",
    ]


def draw(numbers: dict[str, Any], settings: Settings) -> Figure:
    """The picture: shares by size, by number of dimensions, by interval of observation."""
    from spectral_edge.plots.frame import new_figure, plain

    figure = new_figure(640)
    by_size, by_count, by_interval = figure.subplots(1, 3, gridspec_kw={"width_ratios": [1.2, 1, 1]})
    figure.subplots_adjust(left=0.055, right=0.985, top=0.71, bottom=0.12, wspace=0.2)
    modes = [found["mean"] for found in numbers["share"]["modes"]]
    mean = [found["mean"] for found in numbers["share"]["mean_update"]]
    figure.suptitle(
        f"Modes j ≤ k* explain {min(modes):.0%} to {max(modes):.0%} of the loss's drop at all sizes; the mean update "
        f"alone {min(mean):.0%} to {max(mean):.0%}",
        x=0.055,
        y=0.965,
        ha="left",
        fontsize=15.5,
        fontweight="bold",
    )
    for ax in (by_size, by_count, by_interval):
        plain(ax)
        ax.axhline(LEVEL, color="#222222", linewidth=1, linestyle=(0, (4, 3)))
        ax.set_ylim(0, 1.05)
    _shares(by_size, numbers["share"], numbers["parameters"])
    by_size.set_xlabel("parameters", fontsize=13)
    by_size.set_ylabel("share of the loss's drop", fontsize=13)
    by_size.set_title(f"By size, s = {settings.every}", loc="left", fontsize=13.5)
    _shares(by_interval, numbers["sweep"]["share"], settings.sweep)
    by_interval.set_xticks(settings.sweep, [str(every) for every in settings.sweep])
    by_interval.minorticks_off()
    by_interval.set_xlabel("steps s to an observed update", fontsize=13)
    by_interval.set_title(f"By interval, width {settings.sweep_width}", loc="left", fontsize=13.5)
    counts = np.arange(1, WINDOW + 1)
    for shade, (line, parameters) in enumerate(zip(numbers["cumulative"], numbers["parameters"], strict=True)):
        light = 0.35 + 0.65 * (shade + 1) / len(modes)
        by_count.plot(counts, line, "o-", color=COLOURS["modes"], alpha=light, markersize=4, label=f"{parameters:,}")
    by_count.plot(counts, counts / WINDOW, color=COLOURS["random"], linewidth=2)
    by_count.plot(1, np.mean(mean), "D", color=COLOURS["mean_update"], markersize=8)
    by_count.set_xticks(counts)
    by_count.set_xlabel("leading modes j", fontsize=13)
    by_count.set_title("All ten explain 100 % by construction", loc="left", fontsize=13.5)
    by_count.legend(title="parameters", loc="lower right", frameon=False, fontsize=12, title_fontsize=12)
    handles, labels = by_size.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0.048, 0.915), ncols=3, frameon=False, fontsize=12.5
    )
    return figure


def _shares(ax: Axes, shares: dict[str, Any], x: Sequence[float]) -> None:
    ax.set_xscale("log")
    for shift, (name, label) in enumerate(BASES.items()):
        found = shares[name]
        place = np.asarray(x) * 1.03 ** (shift - 2)
        low, high = ([of[end] for of in found] for end in ("low", "high"))
        ax.vlines(place, low, high, color=COLOURS[name], linewidth=1.6)
        marker = "D-" if name.startswith("mean") else "o-"
        ax.plot(place, [of["mean"] for of in found], marker, color=COLOURS[name], markersize=6, label=label)


def main() -> None:
    """Runs all sizes and intervals, judges, draws and records."""
    torch.set_num_threads(1)
    options: Options = script_options(__doc__ or "", "examples/consistency/scaling.py", results="results/consistency")
    settings = Settings()
    if options.quick:
        settings = Settings(
            seeds=2, steps=40, warmup=15, validation=16, widths=(8, 16), every=2, sweep=(1, 2), sweep_width=8
        )
    seeds = range(FIRST_SEED, FIRST_SEED + settings.seeds)
    table = [[train(width, settings.every, seed, settings) for seed in seeds] for width in settings.widths]
    # The longest interval covers no step before its first window and the update before that.
    after = max(settings.warmup, WINDOW * max(settings.sweep))
    sweep = [
        [train(settings.sweep_width, every, seed, settings, after=after) for seed in seeds] for every in settings.sweep
    ]
    numbers = judged(table, sweep)
    said = sentences(numbers, settings)
    print("\n".join(said))
    draw(numbers, settings).savefig(options.out / "scaling.png", dpi=76)
    save(
        options.results / "scaling.json",
        command=options.command,
        settings={
            **asdict(settings),
            "window": WINDOW,
            "vocabulary": VOCABULARY,
            "length": LENGTH,
            "betas": BETAS,
            "rate": RATE,
            "base_width": BASE,
            "first_seed": FIRST_SEED,
            "sweep_after": after,
            "level": LEVEL,
            "above": ABOVE,
            "range": RANGE,
            "ahead": AHEAD,
        },
        numbers={**numbers, "sentences": said},
    )


if __name__ == "__main__":
    main()
