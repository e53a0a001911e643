"""Dyson Brownian motion: do windows of gradient noise in a real training have its levels and its steps?

Eight networks (own data, labels and start) learn to classify by plain SGD with small batches at a constant rate. On the
late plateau their updates are watched one by one, in groups of W + 1 = 11 that share none. Three statements are judged:

- levels: Dyson's index beta from the spacings of the singular values of windows of W = 10 updates; the theory says 1;
- windows: a step of a rolling window by one update against the matched diffusion (equation R5 of the page on repulsion
  and diffusion): the mean squared residual over the model's, and the share of steps in which a level passes the place
  where its neighbour was, less the model's share;
- rows that accumulate: the matrix whose ten rows are sums of ten updates each, before and after each row receives one
  more, against the undamped diffusion (R1), whose premise this meets: the mean squared residual over the model's, and
  the energy that the updates add to |X|^2 over their own.

Noise enters the model with its effective dimension. Beside the run: the same updates with random signs, Gaussian noise
of the same effective dimension, isotropic or with the power-law covariance of the same second and third moments, and
another training with momentum, whose windows are no noise.

The rule: a quantity agrees if its 95 % interval (Student's t over networks) lies within .1 of what the theory says and
fails if it lies wholly outside. A statement is *consistent* if all its quantities agree, *not consistent* if one
fails, else *cannot tell*; the whole is judged likewise by its three statements. If the interval of the share of windows
whose coherence has p < .05 is not below a tenth, the segment is no noise, and all is *cannot tell*. Rule and settings
were fixed on pilot runs with seeds 0 to 2, which are not among these.

python examples/consistency/dyson.py           # five minutes on one core
python examples/consistency/dyson.py --quick   # seconds; its numbers are not to be quoted
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn
from torch.nn import functional

from spectral_edge.measure.nulls import NO_MEMORY, coherence_p
from spectral_edge.measure.nulls.memory import normalised
from spectral_edge.measure.nulls.power_law import solve
from spectral_edge.measure.nulls.table import moments
from spectral_edge.simulate.record import Options, save, script_options
from spectral_edge.theory.dyson import Dyson
from spectral_edge.theory.laguerre import transition_sample
from spectral_edge.theory.residual import Residuals, matched_diffusion, residuals
from spectral_edge.theory.spacings import estimate_beta, spacing_density, spacing_ratios
from spectral_edge.theory.streams import Stream

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

WINDOW, FIRST_SEED, TOLERANCE, LEVEL = 10, 10, 0.1, 0.05
EXAMPLES, INPUTS, HIDDEN, CLASSES, BATCH = 4096, 16, 24, 8, 16
RATE, MOMENTUM = 0.1, 0.9
ARMS = {
    "run": "the run",
    "signs": "its updates, random signs",
    "power_law": "Gaussian, power law",
    "isotropic": "Gaussian, isotropic",
}


@dataclass(frozen=True)
class Settings:
    """Of the runs.

    Attributes:
        seeds: number of networks.
        settle: steps before the segment that is watched.
        matrices: accumulating matrices of each network, of W groups of W + 1 updates.
        stepped: windows of each network whose step is compared with the diffusion.
        draws: of the diffusion from each state.
        momentum_matrices: as `matrices`, of the training with momentum.
    """

    seeds: int = 8
    settle: int = 10_000
    matrices: int = 300
    stepped: int = 600
    draws: int = 200
    momentum_matrices: int = 100


@dataclass(frozen=True)
class Products:
    """What is kept of N groups of W + 1 updates.

    Attributes:
        window: inner products within each group [N, W + 1, W + 1].
        before: singular values of the matrix whose rows are the sums of W updates of W groups [N / W, W].
        after: the same with each group's last update added.
        growth: |X|^2 that the last updates added, over their own [N / W].
    """

    window: Array
    before: Array
    after: Array
    growth: Array


class Networks(nn.Module):
    """Independent classifiers with one hidden layer side by side; each has its own examples and noisy labels."""

    def __init__(self, seeds: Sequence[int]) -> None:
        super().__init__()
        drawn = [self._draw(seed) for seed in seeds]
        self.inputs, self.labels = (torch.stack([one[i] for one in drawn]) for i in (0, 1))
        self.first = nn.Parameter(torch.stack([one[2] for one in drawn]))
        self.second = nn.Parameter(torch.stack([one[3] for one in drawn]))
        self.first_bias = nn.Parameter(torch.zeros(len(seeds), 1, HIDDEN))
        self.second_bias = nn.Parameter(torch.zeros(len(seeds), 1, CLASSES))
        self.batches = torch.Generator().manual_seed(seeds[0])
        self.places = torch.arange(len(seeds))[:, None]

    @staticmethod
    def _draw(seed: int) -> tuple[torch.Tensor, ...]:
        """Inputs whose variance falls as 1/k, labels drawn from a teacher's probabilities, and the first weights."""
        source = torch.Generator().manual_seed(seed)
        variance = 1 / torch.arange(1.0, INPUTS + 1)
        scale = (variance * INPUTS / variance.sum()).sqrt()
        inputs = torch.randn(EXAMPLES, INPUTS, generator=source) * scale
        hidden = torch.tanh(inputs @ torch.randn(INPUTS, 32, generator=source) * 1.5 / INPUTS**0.5)
        chance = torch.softmax(hidden @ torch.randn(32, CLASSES, generator=source) * 2 / 32**0.5, dim=-1)
        labels = torch.multinomial(chance, 1, generator=source)[:, 0]
        first = torch.randn(INPUTS, HIDDEN, generator=source) / INPUTS**0.5
        second = torch.randn(HIDDEN, CLASSES, generator=source) / HIDDEN**0.5
        return inputs, labels, first, second

    def loss(self, rows: torch.Tensor | None = None) -> torch.Tensor:
        """Sum over networks of the mean cross-entropy of some examples [S, B], or of all."""
        inputs, labels = self.inputs, self.labels
        if rows is not None:
            inputs, labels = inputs[self.places, rows], labels[self.places, rows]
        hidden = torch.tanh(torch.baddbmm(self.first_bias, inputs, self.first))
        logits = torch.baddbmm(self.second_bias, hidden, self.second)
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten()) * len(inputs)

    def draw_batch(self) -> torch.Tensor:
        """Independent batches [S, B], drawn with replacement so that only the weights couple successive gradients."""
        return torch.randint(EXAMPLES, (len(self.inputs), BATCH), generator=self.batches)

    def flat(self) -> torch.Tensor:
        """All parameters of each network [S, P]."""
        return torch.cat([p.detach().flatten(1) for p in self.parameters()], dim=1)


def train(networks: Networks, settle: int, matrices: int, momentum: float) -> Iterator[torch.Tensor]:
    """Trains; after `settle` steps yields updates [S, W, W + 1, P] of successive blocks of W groups."""
    optimizer = torch.optim.SGD(networks.parameters(), lr=RATE * (1 - momentum), momentum=momentum)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        networks.loss(networks.draw_batch()).backward()
        optimizer.step()
        return networks.flat().double()

    before = networks.flat().double()
    for _ in range(settle):
        before = step()
    for _ in range(matrices):
        states = torch.stack([before, *(step() for _ in range(WINDOW * (WINDOW + 1)))], dim=1)
        before = states[:, -1]
        yield states.diff(dim=1).unflatten(1, (WINDOW, WINDOW + 1))


def parts(updates: torch.Tensor) -> tuple[Array, ...]:
    """The fields of `Products` of one block of all networks [S, W, W + 1, P], with the network first."""
    kept, last = updates[:, :, :-1].sum(dim=2), updates[:, :, -1]
    energy = [rows.square().sum(dim=(1, 2)) for rows in (kept + last, kept, last)]
    whole = (updates @ updates.mT, *(torch.linalg.svdvals(rows) for rows in (kept, kept + last)))
    return (*(part.numpy() for part in whole), ((energy[0] - energy[1]) / energy[2]).numpy())


def gathered(blocks: Sequence[tuple[Array, ...]], network: int) -> Products:
    """What is kept of one network."""
    window, before, after, growth = (np.stack([block[i][network] for block in blocks]) for i in range(4))
    return Products(window.reshape(-1, *window.shape[2:]), before, after, growth)


def gaussian(stream: Stream, matrices: int, rng: np.random.Generator) -> Products:
    """The same of Gaussian noise, from Gram matrices."""
    window = stream.grams(WINDOW + 1, matrices * WINDOW, rng).gram
    # Sums of W independent rows are rows of W times the variance.
    whole = stream.grams(2 * WINDOW, matrices, rng).gram
    kept = np.hstack([np.sqrt(WINDOW) * np.eye(WINDOW), np.zeros((WINDOW, WINDOW))])
    both = kept + np.hstack([np.zeros((WINDOW, WINDOW)), np.eye(WINDOW)])
    before, after = (kept @ whole @ kept.T, both @ whole @ both.T)
    added = np.trace(whole[:, WINDOW:, WINDOW:], axis1=1, axis2=2)
    growth = (np.trace(after, axis1=1, axis2=2) - np.trace(before, axis1=1, axis2=2)) / added
    return Products(window, levels(before), levels(after), growth)


def levels(gram: Array) -> Array:
    """Singular values, largest first, from Gram matrices."""
    return np.sqrt(np.linalg.eigvalsh(gram)[..., ::-1])


def power_laws(second: Array, third: Array) -> list[Stream]:
    """Noise with the power-law covariances whose moments these are [S], or the nearest that a power law can have."""
    grid = np.linspace(0, 1, 21)
    _, shape = solve(np.repeat(second, len(grid)), np.tile(grid, len(second)), smallest=WINDOW + 2.0)
    shapes, wanted = shape.reshape(-1, len(grid)), third / second**1.5
    position = np.array([np.interp(one, at, grid) for one, at in zip(wanted, shapes, strict=True)])
    law, _ = solve(second, position, smallest=WINDOW + 2.0)
    sizes = np.exp(np.minimum(law.log_size, 20.0)).round().astype(int)
    return [Stream(parameters=int(k), exponent=float(a)) for k, a in zip(sizes, law.exponent, strict=True)]


def stepped(
    window: Array, dimension: float, settings: Settings, rng: np.random.Generator
) -> tuple[Residuals, tuple[Array, Array]]:
    """Residuals of steps of rolling windows, and the relative moves of the windows and of the model."""
    law, scale = matched_diffusion(WINDOW, round(dimension))
    scale /= variance_unit(window, dimension)
    old, new = (scale * levels(window[: settings.stepped, cut, cut]) for cut in (slice(WINDOW), slice(1, None)))
    found = residuals(old, new, 1.0, law, draws=settings.draws, generator=rng)
    drawn = transition_sample(old, 1.0, law, draws=1, generator=rng)[:, 0]
    return found, (relative_moves(old, new), relative_moves(old, drawn))


def variance_unit(window: Array, dimension: float) -> float:
    """Root of the energy of an update per effective dimension, the standard deviation that the model knows."""
    inner = window[:, :-1, :-1]
    return float(np.sqrt(np.trace(inner, axis1=1, axis2=2).mean() / WINDOW / dimension))


def measured(
    kept: Products, dimension: float, settings: Settings, rng: np.random.Generator
) -> tuple[dict[str, float], tuple[Array, Array]]:
    """The statistics of one network or of noise, and the relative moves of its windows and of the model."""
    sigma, unit = levels(kept.window[:, :-1, :-1]), variance_unit(kept.window, dimension)
    rolled, moves = stepped(kept.window, dimension, settings, rng)
    free = Dyson(parameters=round(dimension))
    grown = residuals(kept.before / unit, kept.after / unit, 1.0, free, draws=settings.draws, generator=rng)
    found = {
        "beta": estimate_beta(sigma).beta,
        "spacing_ratio": float(spacing_ratios(sigma).mean()),
        "spacing_spread": float(relative_spacings(kept.window).std()),
        "window_squared": float(rolled.squared.mean()),
        "window_passes": rolled.past,
        "window_passes_expected": rolled.past_expected,
        "window_passes_excess": rolled.past - rolled.past_expected,
        "rows_squared": float(grown.squared.mean()),
        "rows_growth": float(kept.growth.mean()),
    }
    return found, moves


def relative_moves(old: Array, new: Array) -> Array:
    """How far each inner level went, over the distance to the neighbour on that side; beyond 1 it passes its place."""
    move = (new - old)[:, 1:-1]
    above, below = old[:, :-2] - old[:, 1:-1], old[:, 1:-1] - old[:, 2:]
    return move / np.where(move > 0, above, below)


def relative_spacings(window: Array) -> Array:
    """Spacings of windows over the mean spacing of that pair of levels [N (W - 1)]."""
    spacing = -np.diff(levels(window[:, :-1, :-1]), axis=1)
    return (spacing / spacing.mean(axis=0)).ravel()


def interval(values: Sequence[float] | Array) -> dict[str, Any]:
    """Mean over networks with its 95 % interval by Student's t."""
    each = np.asarray(values, dtype=np.float64)
    half = stats.t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each))
    return {"mean": each.mean(), "low": each.mean() - half, "high": each.mean() + half, "each": each}


def place(of: Mapping[str, Any], expected: float) -> str:
    """Where an interval lies: it agrees, fails or is open."""
    low, high = expected - TOLERANCE, expected + TOLERANCE
    if low <= of["low"] and of["high"] <= high:
        return "agrees"
    return "fails" if of["high"] < low or of["low"] > high else "open"


def verdict(places: Sequence[str]) -> str:
    """Of a statement, from its quantities, or of the whole, from its statements."""
    if all(one in ("agrees", "consistent") for one in places):
        return "consistent"
    return "not consistent" if any(one in ("fails", "not consistent") for one in places) else "cannot tell"


EXPECTED = {
    "levels": {"beta": 1.0},
    "windows": {"window_squared": 1.0, "window_passes_excess": 0.0},
    "rows": {"rows_squared": 1.0, "rows_growth": 1.0},
}
"""What the theory says of each quantity, by statement."""


def judged(arm: Mapping[str, Mapping[str, Any]], coherent: Mapping[str, Any]) -> dict[str, str]:
    """The verdicts by the rule above."""
    if not coherent["high"] < TOLERANCE:
        return dict.fromkeys([*EXPECTED, "whole"], "cannot tell")
    found = {name: verdict([place(arm[q], value) for q, value in said.items()]) for name, said in EXPECTED.items()}
    return {**found, "whole": verdict(list(found.values()))}


@dataclass(frozen=True)
class Seen:
    """What the picture shows beside the numbers, over all networks.

    Attributes:
        spacings: relative spacings of the run's windows.
        momentum_spacings: the same of the training with momentum.
        moves: relative moves of the run's windows.
        model_moves: the same of the diffusion from the same states.
    """

    spacings: Array
    momentum_spacings: Array
    moves: Array
    model_moves: Array


def run(settings: Settings) -> tuple[dict[str, Any], Seen]:
    """Trains, measures and judges."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(FIRST_SEED)
    seeds = range(FIRST_SEED, FIRST_SEED + settings.seeds)
    networks = Networks(seeds)
    trained: list[tuple[Array, ...]] = []
    signed: list[tuple[Array, ...]] = []
    losses: list[float] = []
    for updates in train(networks, settings.settle, settings.matrices, 0.0):
        if not losses:
            losses.append(networks.loss().item())
        signs = torch.from_numpy(rng.choice(np.array([-1.0, 1.0]), size=(*updates.shape[:3], 1)))
        trained.append(parts(updates))
        signed.append(parts(updates * signs))
    losses.append(networks.loss().item())
    runs = [gathered(trained, s) for s in range(settings.seeds)]
    cosines = [normalised(kept.window[:, :-1, :-1]) for kept in runs]
    second, third = (np.array([moments(one)[i].mean() for one in cosines]) for i in (0, 1))
    laws, dimension = power_laws(second, third), 1 / second
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    moves: list[tuple[Array, Array]] = []
    for s in range(settings.seeds):
        copies = {
            "run": runs[s],
            "signs": gathered(signed, s),
            "power_law": gaussian(laws[s], settings.matrices, rng),
            "isotropic": gaussian(Stream(parameters=round(dimension[s])), settings.matrices, rng),
        }
        for arm, kept in copies.items():
            numbers, moved = measured(kept, float(dimension[s]), settings, rng)
            found[arm].append(numbers)
            if arm == "run":
                moves.append(moved)
    blocks = train(Networks(seeds), settings.settle, settings.momentum_matrices, MOMENTUM)
    pushed = [gathered(kept, s) for kept in [[parts(updates) for updates in blocks]] for s in range(settings.seeds)]
    arms = {arm: {q: interval([one[q] for one in each]) for q in each[0]} for arm, each in found.items()}
    coherent = [interval([coherent_share(kept) for kept in each]) for each in (runs, pushed)]
    upper = np.triu_indices(WINDOW, 1)
    equal = [
        stepped(normalised(kept.window), float(size), settings, rng)[0].squared.mean()
        for kept, size in zip(runs, dimension, strict=True)
    ]
    numbers = {
        "verdict": judged(arms["run"], coherent[0]),
        "arms": arms,
        "noise": {
            "coherent": coherent[0],
            "cosine": interval([float(one[:, *upper].mean()) for one in cosines]),
            "dimension": interval(dimension),
            "exponent": interval([law.exponent for law in laws]),
            "power_law_parameters": [law.parameters for law in laws],
            "norm_spread": interval([norm_spread(kept) for kept in runs]),
            "norm_spread_gaussian": interval(np.sqrt(2 / dimension)),
            "window_squared_equal_lengths": interval(equal),
            "parameters": networks.flat().shape[1],
            "windows": len(runs[0].window),
            "loss_before": losses[0] / settings.seeds,
            "loss_after": losses[1] / settings.seeds,
        },
        "momentum": {
            "coherent": coherent[1],
            "windows": len(pushed[0].window),
            "beta": interval([estimate_beta(levels(kept.window[:, :-1, :-1])).beta for kept in pushed]),
            "spacing_spread": interval([float(relative_spacings(kept.window).std()) for kept in pushed]),
        },
    }
    seen = Seen(
        *(np.concatenate([relative_spacings(kept.window) for kept in each]) for each in (runs, pushed)),
        *(np.concatenate([moved[i].ravel() for moved in moves]) for i in (0, 1)),
    )
    return numbers, seen


def coherent_share(kept: Products) -> float:
    """Share of windows whose updates point the same way at p < .05 by the sign-flip test."""
    return float((coherence_p(kept.window[:, :-1, :-1], NO_MEMORY) < LEVEL).mean())


def norm_spread(kept: Products) -> float:
    """Standard deviation of the updates' squared length over its mean."""
    square = np.diagonal(kept.window, axis1=1, axis2=2)
    return float(square.std() / square.mean())


def words(of: Mapping[str, Any], digits: int = 2) -> str:
    """A mean with its interval."""
    return f"{of['mean']:.{digits}f} ({of['low']:.{digits}f} to {of['high']:.{digits}f})"


def sentences(numbers: Mapping[str, Any], settings: Settings) -> list[str]:
    """What was found, in words."""
    arms, noise, momentum, said = (numbers[name] for name in ("arms", "noise", "momentum", "verdict"))
    real, signs, steep, even = (arms[arm] for arm in ARMS)
    power = {"agrees": "does not tell", "fails": "tells", "open": "may not tell"}[place(momentum["beta"], 1.0)]
    return [
        f"The segment: loss {noise['loss_before']:.3f} to {noise['loss_after']:.3f}, mean cosine of two updates of a "
        f"window {words(noise['cosine'], 4)}, {noise['coherent']['mean']:.1%} of the windows coherent at 5 %, "
        f"effective dimension {words(noise['dimension'], 0)} of {noise['parameters']} parameters, 95 % intervals over "
        f"{settings.seeds} networks.",
        f"Levels: {said['levels']}. Spacings of {noise['windows']:,} windows a network say beta = "
        f"{words(real['beta'])}; matched noise says {steep['beta']['mean']:.2f} (power law) and "
        f"{even['beta']['mean']:.2f} (isotropic).",
        f"Windows of updates with momentum, {momentum['coherent']['mean']:.0%} of which are coherent and so no noise, "
        f"say beta = {words(momentum['beta'])}: beta {power} them from noise. Their spacings spread by "
        f"{momentum['spacing_spread']['mean']:.2f} of the mean, the noise's by {real['spacing_spread']['mean']:.2f}.",
        f"Windows: {said['windows']}. The mean squared residual of a step is {words(real['window_squared'])} of the "
        f"diffusion's, that of isotropic noise {even['window_squared']['mean']:.2f}, and of the run's updates at equal "
        f"lengths {noise['window_squared_equal_lengths']['mean']:.2f}; a level passes the place of its "
        f"neighbour in {real['window_passes']['mean']:.0%} of the steps, in "
        f"{real['window_passes_expected']['mean']:.0%} of the diffusion's.",
        f"Rows that accumulate: {said['rows']}. The mean squared residual is {words(real['rows_squared'])}, and an "
        f"update adds {words(real['rows_growth'])} of its energy; with random signs {words(signs['rows_squared'])} and "
        f"{words(signs['rows_growth'])}.",
        f"Dyson Brownian motion as a whole: {said['whole']}.",
    ]


def draw(numbers: Mapping[str, Any], seen: Seen, options: Options) -> None:
    """The picture: spacings, moves of windows, and rows that accumulate."""
    from spectral_edge.plots.frame import new_figure, plain

    figure = new_figure(640)
    axes = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.045, right=0.985, top=0.8, bottom=0.12, wspace=0.22)
    said = numbers["verdict"]
    figure.suptitle(
        f"Dyson Brownian motion in gradient noise: levels {said['levels']}, steps of windows {said['windows']}, "
        f"accumulating rows {said['rows']}",
        x=0.045,
        y=0.965,
        ha="left",
        fontsize=15,
        fontweight="bold",
    )
    for ax in axes:
        plain(ax)
    _spacings(axes[0], numbers, seen)
    _moves(axes[1], numbers, seen)
    _rows(axes[2], numbers)
    figure.savefig(options.out / "dyson_levels.png", dpi=76)


RUN, MODEL, OTHER = "#0072B2", "#222222", "#D55E00"


def _title(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", fontsize=13.5, pad=10)


def _spacings(ax: Axes, numbers: Mapping[str, Any], seen: Seen) -> None:
    edges = np.linspace(0, 3, 31)
    middle = (edges[1:] + edges[:-1]) / 2
    fine = np.linspace(0, 3, 200)
    of = [
        np.histogram(s, bins=edges)[0] / len(s) / (edges[1] - edges[0]) for s in (seen.spacings, seen.momentum_spacings)
    ]
    ax.bar(middle, of[0], width=edges[1], color=RUN, alpha=0.35, label="noise of the plateau")
    ax.plot(middle, of[1], ".", color=OTHER, markersize=9, label="windows with momentum .9")
    ax.plot(fine, spacing_density(fine, 1.0), color=MODEL, linewidth=2, label="surmise, beta = 1")
    ax.plot(fine, np.exp(-fine), "--", color="#8a8a8a", linewidth=1.5, label="no repulsion")
    ax.set_xlabel("spacing of neighbouring singular values / its mean", fontsize=13)
    ax.set_ylabel("density", fontsize=13)
    ax.set_xlim(0, 3)
    ax.set_ylim(0, 1.7)
    ax.legend(frameon=False, fontsize=12, loc="upper right")
    beta, pushed = numbers["arms"]["run"]["beta"], numbers["momentum"]["beta"]
    _title(ax, f"Levels: beta = {words(beta)},\nwith momentum {words(pushed)}")


def _moves(ax: Axes, numbers: Mapping[str, Any], seen: Seen) -> None:
    edges = np.linspace(-3, 3, 61)
    both = (seen.model_moves, MODEL, "matched diffusion, same states"), (seen.moves, RUN, "windows of the run")
    for moves, colour, label in both:
        count, _ = np.histogram(moves, bins=edges)
        ax.stairs(count / len(moves) / (edges[1] - edges[0]), edges, color=colour, linewidth=2, label=label)
    for side in (-1, 1):
        ax.axvline(side, color="#8a8a8a", linestyle="--", linewidth=1.2)
    ax.set_xlabel("move of a level in one step / distance to that neighbour", fontsize=13)
    ax.set_xlim(-3, 3)
    ax.set_ylim(top=1.35 * ax.get_ylim()[1])
    ax.legend(frameon=False, fontsize=12, loc="upper left")
    real = numbers["arms"]["run"]
    passes = real["window_passes"]["mean"], real["window_passes_expected"]["mean"]
    steps = f"{passes[0]:.0%} of the steps take a level past\na neighbour's place"
    _title(ax, f"Windows: {steps}, {passes[1]:.0%} of the diffusion's")


def _rows(ax: Axes, numbers: Mapping[str, Any]) -> None:
    ax.axhspan(1 - TOLERANCE, 1 + TOLERANCE, color="#e3e3e3")
    ax.axhline(1, color=MODEL, linewidth=1)
    for shift, quantity, colour, label in (
        (-0.12, "rows_squared", RUN, "mean squared residual / model's"),
        (0.12, "rows_growth", OTHER, "energy gained / updates' energy"),
    ):
        for i, arm in enumerate(ARMS):
            of = numbers["arms"][arm][quantity]
            ax.plot(np.full(len(of["each"]), i + shift), of["each"], "o", color=colour, alpha=0.3, markersize=5)
            bar = [[of["mean"] - of["low"]], [of["high"] - of["mean"]]]
            ax.errorbar(i + shift, of["mean"], yerr=bar, fmt="D", color=colour, capsize=4, label=None if i else label)
    ax.set_xticks(range(len(ARMS)), ["the run", "random\nsigns", "Gaussian,\npower law", "Gaussian,\nisotropic"])
    ax.set_xlim(-0.5, len(ARMS) - 0.5)
    ax.set_ylim(top=ax.get_ylim()[1] + 0.1)
    ax.legend(frameon=False, fontsize=12, loc="upper right")
    real = numbers["arms"]["run"]
    _title(
        ax, f"Rows that accumulate: an update adds\n{real['rows_growth']['mean']:.2f} of its energy (grey: within .1)"
    )


def main() -> None:
    """Runs, judges, draws and records."""
    options = script_options(
        "Dyson Brownian motion against gradient noise.",
        "examples/consistency/dyson.py",
        results="results/consistency",
    )
    quick = Settings(seeds=2, settle=20, matrices=3, stepped=20, draws=40, momentum_matrices=1)
    settings = quick if options.quick else Settings()
    numbers, seen = run(settings)
    said = sentences(numbers, settings)
    print("\n".join(said))
    draw(numbers, seen, options)
    save(
        options.results / "dyson.json",
        command=options.command,
        settings={
            **asdict(settings),
            "window": WINDOW,
            "first_seed": FIRST_SEED,
            "tolerance": TOLERANCE,
            "coherence_level": LEVEL,
            "rate": RATE,
            "momentum": MOMENTUM,
            "batch": BATCH,
            "examples": EXAMPLES,
            "layers": (INPUTS, HIDDEN, CLASSES),
        },
        numbers={**numbers, "sentences": said},
    )


if __name__ == "__main__":
    main()
