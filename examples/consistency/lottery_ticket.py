"""Lottery tickets: does the edge of a window lie on the weights of the ticket, and more than any update does?

Two small networks are trained: a classifier with SGD and momentum, and one that learns addition modulo 31 with AdamW
and groks. The *mask* keeps the 10 or 20 % largest final weights of each linear layer. In twelve windows of ten updates
that share no update and cover the training, the energy of v_1 to v_k* (k* by the restricted convention) on the mask is
divided by what a mask permuted within layers holds on average: its *concentration*. Beside it: the same for the mean
update, the squared updates, a random direction of the window's row space and the modes beyond k*; for the weights that
moved most and those that were largest at the start; for the mask of the final weights less the window's own updates.

Rules and tasks were fixed on pilot runs with seeds 100 to 104, which are not among these. A mask is a *ticket* if the
pruned network, put back to its start and trained again in the same batches, ends (mean of the last three windows) at
most 3 points of test accuracy below the dense one (lower end of a 95 % interval by Student's t over seeds) and above
one with a random mask of the same layers' densities (lower end above 0). Where it is none, both answers below are
*cannot tell*. The answers that count are those at 20 %.

1. Energy above its share, the published sense: *consistent* if the interval of the edge's concentration (geometric mean
   over windows) lies above 1 and the permutation test has p < .01 in more than half of the windows; *not consistent* if
   the interval lies below 1; otherwise *cannot tell*.
2. More than any update's: *yes* if the ratio of the edge's concentration to that of each of its four rivals has an
   interval above 1; *no* if that of at least one lies below 1.05; otherwise *cannot tell*. These intervals are of
   98.75 %, since there are four rivals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

import spectral_edge as se
from spectral_edge.modes import Modes
from spectral_edge.modes.contrast import paired
from spectral_edge.simulate.record import Options, save, script_options

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WINDOW, WINDOWS, MODULUS, FIRST_SEED = 10, 12, 31, 200
DENSITIES, MAIN = (0.1, 0.2), 0.2
LAST, MARGIN, TIE, LEVEL = 3, 0.03, 1.05, 0.01
MASKS = {"final": "largest at the end", "moved": "moved most", "initial": "largest at the start"}
RIVALS = {
    "mean": "mean update",
    "update": "squared update",
    "row_space": "random in the row space",
    "beyond": "modes beyond k*",
}


@dataclass(frozen=True)
class Settings:
    """Of the runs.

    Attributes:
        seeds: of each arm.
        steps: of each arm's runs, a multiple of 12 windows of 10 updates.
        permutations: of the mask within layers, at each density.
    """

    seeds: int
    steps: dict[str, int]
    permutations: int


@dataclass(frozen=True)
class Task:
    """A network at its start, and what it learns.

    Attributes:
        model: the network.
        optimizer: makes the optimizer of some parameters.
        train: inputs and labels.
        test: inputs and labels.
        batch: examples of a step.
    """

    model: nn.Module
    optimizer: Callable[[Sequence[Tensor]], torch.optim.Optimizer]
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    batch: int

    def layers(self) -> list[str]:
        """Names of the weights that are pruned: of linear layers, not biases and embeddings."""
        return [f"{name}.weight" for name, module in self.model.named_modules() if isinstance(module, nn.Linear)]


def classifier(seed: int) -> Task:
    """Four classes of 32 normal inputs, as a small random network draws them; SGD with momentum."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8000, 32, generator=generator)
    first, second = (torch.randn(shape, generator=generator) for shape in ((32, 8), (8, 4)))
    outputs = torch.relu(x @ first) @ second
    labels = ((outputs - outputs.mean(dim=0)) / outputs.std(dim=0)).argmax(dim=1)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 4))
    return Task(
        model,
        lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, fused=True),
        (x[:4000], labels[:4000]),
        (x[4000:], labels[4000:]),
        batch=64,
    )


def grokking(seed: int) -> Task:
    """Addition modulo 31 from 80 % of all pairs; AdamW with a weight decay of 1."""
    order = torch.randperm(MODULUS**2, generator=torch.Generator().manual_seed(seed))
    pairs = torch.cartesian_prod(torch.arange(MODULUS), torch.arange(MODULUS))[order]
    labels, cut = pairs.sum(dim=1) % MODULUS, int(0.8 * MODULUS**2)
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Embedding(MODULUS, 32), nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, MODULUS)
    )
    return Task(
        model,
        lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.98), weight_decay=1.0, fused=True),
        (pairs[:cut], labels[:cut]),
        (pairs[cut:], labels[cut:]),
        batch=128,
    )


ARMS: dict[str, tuple[str, Callable[[int], Task]]] = {
    "classifier": ("classifier, SGD with momentum", classifier),
    "grokking": ("addition modulo 31, AdamW", grokking),
}


class Layers:
    """The pruned weights of a network as one row of numbers, layer after layer.

    Args:
        weights: one tensor for each layer.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._shapes = {name: weight.shape for name, weight in weights.items()}
        ends = [0, *np.cumsum([weight.numel() for weight in weights.values()]).tolist()]
        self.slices = [slice(begin, end) for begin, end in pairwise(ends)]

    def flat(self, vector: Mapping[str, Tensor]) -> np.ndarray:
        """A vector's entries on the pruned weights [n], float64."""
        return np.concatenate([vector[name].detach().double().flatten().numpy() for name in self._shapes])

    def top(self, values: np.ndarray, density: float) -> np.ndarray:
        """True for the largest entries of each layer [n]."""
        mask = np.zeros(len(values), dtype=bool)
        for part in self.slices:
            largest = np.argsort(values[part])[::-1][: self.count(part, density)]
            mask[part][largest] = True
        return mask

    def random(self, density: float, rng: np.random.Generator) -> np.ndarray:
        """As many entries of each layer, drawn anew [n]."""
        return self.top(rng.random(self.slices[-1].stop), density)

    def named(self, mask: np.ndarray) -> dict[str, Tensor]:
        """A mask by layer, as zeros and ones."""
        pieces = zip(self._shapes.items(), self.slices, strict=True)
        return {name: torch.from_numpy(mask[part]).float().reshape(shape) for (name, shape), part in pieces}

    @staticmethod
    def count(part: slice, density: float) -> int:
        """Weights that a layer keeps."""
        return round(density * (part.stop - part.start))

    def expected(self, energy: np.ndarray, density: float) -> np.ndarray:
        """Energy [...] that a random mask holds on average, of energies [..., n]: in each layer its share."""
        return np.sum([energy[..., part].mean(axis=-1) * self.count(part, density) for part in self.slices], axis=0)

    def concentration(self, energy: np.ndarray, mask: np.ndarray, density: float) -> np.ndarray:
        """Energy on a mask over what a random mask of this density holds on average [...]."""
        return energy[..., mask].sum(axis=-1) / self.expected(energy, density)

    def permuted(self, energy: np.ndarray, density: float, number: int, rng: np.random.Generator) -> np.ndarray:
        """Concentrations of energies [m, n] on masks permuted within layers [number, m]."""
        total = np.zeros((number, len(energy)))
        for part in self.slices:
            drawn = rng.random((number, part.stop - part.start), dtype=np.float32)
            count = self.count(part, density)
            chosen = np.zeros(drawn.shape, dtype=np.float32)
            np.put_along_axis(chosen, np.argpartition(drawn, count, axis=1)[:, :count], 1, axis=1)
            total += chosen @ energy[:, part].T
        return total / self.expected(energy, density)


@dataclass(frozen=True)
class Seen:
    """One window.

    Attributes:
        k_star: by the restricted convention.
        energy: squared entries on the pruned weights, of the edge and its rivals [n].
        own: entries of the window's displacement on the pruned weights [n].
        mean_in_edge: share of the mean update's energy that v_1 to v_k* hold, over all parameters.
        participation: of v_1, and on average of a mode beyond k* [2].
    """

    k_star: int
    energy: dict[str, np.ndarray]
    own: np.ndarray
    mean_in_edge: float
    participation: tuple[float, float]


@dataclass(frozen=True)
class Found:
    """What one seed showed.

    Attributes:
        k_star: of each window [windows].
        concentration: of a direction's energy on a mask, by (direction, mask, density) [windows].
        apart: of the edge on the mask of the final weights less the window's own updates, by density [windows].
        ceiling: of the edge on its own largest entries, by density [windows].
        p: of the permutation test on the edge and the final mask, by density [windows].
        null: the 1st and the 99th percentile of the permuted concentrations, by density [2, windows].
        mean_in_edge: share of the mean update's energy in the edge [windows].
        participation: share of the weights that take part in v_1, and on average in a mode beyond k* [windows, 2].
        overlap: of the final mask with the others, by (mask, density).
        dense: test accuracy over time [windows].
        retrained: the same of pruned networks, by (mask, density).
    """

    k_star: np.ndarray
    concentration: dict[tuple[str, str, float], np.ndarray]
    apart: dict[float, np.ndarray]
    ceiling: dict[float, np.ndarray]
    p: dict[float, np.ndarray]
    null: dict[float, np.ndarray]
    mean_in_edge: np.ndarray
    participation: np.ndarray
    overlap: dict[tuple[str, float], float]
    dense: np.ndarray
    retrained: dict[tuple[str, float], np.ndarray]


def seen(modes: Modes, k: int, layers: Layers) -> Seen:
    """Where the edge and its rivals lie.

    Args:
        modes: all of a window.
        k: its k*.
        layers: the pruned weights.
    """
    entries = np.stack([layers.flat(direction) for direction in modes.directions])
    square, sigma = entries**2, modes.sigma[: len(entries)]
    drift = sigma * modes.left[:, : len(entries)].sum(axis=0)
    own = drift @ entries
    energy = {
        "edge": square[:k].mean(axis=0),
        "mean": own**2,
        "update": (sigma**2 @ square) / (sigma**2).sum(),
        # The average square of a direction drawn uniformly from the span of the window.
        "row_space": square.mean(axis=0),
        "beyond": square[k:].mean(axis=0),
    }
    beyond = float(np.mean([participation(each) for each in square[k:]]))
    within = float((drift[:k] ** 2).sum() / (drift**2).sum())
    return Seen(k, energy, own, within, (participation(square[0]), beyond))


def participation(square: np.ndarray) -> float:
    """Participation ratio over the number of weights: 1 if all entries are equally large, 1/3 if normal."""
    return float(square.sum() ** 2 / (len(square) * (square**2).sum()))


def accuracy(outputs: Tensor, labels: Tensor) -> np.ndarray:
    """Share of right answers of outputs [..., examples, classes]."""
    return (outputs.argmax(dim=-1) == labels).double().mean(dim=-1).numpy()


def batches(task: Task, steps: int, seed: int) -> Tensor:
    """Indices of the examples of every step [steps, batch]; the same for the dense network and the pruned ones."""
    generator = torch.Generator().manual_seed(seed + 1000)
    return torch.randint(len(task.train[0]), (steps, task.batch), generator=generator)


def retrain(task: Task, masks: Sequence[Mapping[str, Tensor]], steps: int, seed: int) -> np.ndarray:
    """Trains pruned copies of a network from its start, all at once.

    Args:
        task: with the network at its start.
        masks: of the weights that are kept, one for each copy.
        steps: of the training.
        seed: of the batches.

    Returns:
        Test accuracy of each copy at the end of each window [copies, windows].
    """
    count, (x, labels) = len(masks), task.train
    kept = {name: torch.stack([mask[name] for mask in masks]) for name in masks[0]}
    stacked = {name: p.detach().expand(count, *p.shape).clone() for name, p in task.model.named_parameters()}
    for name, mask in kept.items():
        stacked[name] *= mask
    for parameter in stacked.values():
        parameter.requires_grad_(True)
    optimizer = task.optimizer(list(stacked.values()))

    def one(parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(task.model, parameters, (inputs,))

    forward = vmap(one, in_dims=(0, None))
    found: list[np.ndarray] = []
    for step, rows in enumerate(batches(task, steps, seed), start=1):
        optimizer.zero_grad(set_to_none=True)
        outputs = forward(stacked, x[rows]).flatten(0, 1)
        # The sum of the copies' mean losses: none sees another.
        (nn.functional.cross_entropy(outputs, labels[rows].repeat(count)) * count).backward()
        for name, mask in kept.items():
            gradient = stacked[name].grad
            assert gradient is not None
            gradient *= mask
        optimizer.step()
        if step % (steps // WINDOWS) == 0:
            with torch.no_grad():
                found.append(accuracy(forward(stacked, task.test[0]), task.test[1]))
    return np.stack(found, axis=1)


def one_seed(build: Callable[[int], Task], seed: int, steps: int, permutations: int) -> Found:
    """Trains a network, prunes it, retrains what is left, and measures where the windows' directions lay."""
    task = build(seed)
    start = {name: p.detach().clone() for name, p in task.model.named_parameters()}
    layers = Layers({name: start[name] for name in task.layers()})
    optimizer = task.optimizer(list(task.model.parameters()))
    every = steps // (WINDOWS * WINDOW)
    monitor = se.Monitor(
        task.model, optimizer, window=WINDOW, every=every, engine="exact", k_star="restricted", store="groups"
    )
    windows: list[Seen] = []
    dense: list[float] = []
    x, labels = task.train
    for step, rows in enumerate(batches(task, steps, seed), start=1):
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(task.model(x[rows]), labels[rows]).backward()
        optimizer.step()
        reading = monitor.step()
        if step % (steps // WINDOWS) == 0:
            assert reading is not None
            windows.append(seen(monitor.modes(), int(reading.k_star_restricted or 1), layers))
            with torch.no_grad():
                dense.append(float(accuracy(task.model(task.test[0]), task.test[1])))
    begun, ended = layers.flat(start), layers.flat(dict(task.model.named_parameters()))
    with torch.no_grad():
        for name, parameter in task.model.named_parameters():
            parameter.copy_(start[name])

    rng = np.random.default_rng(seed)
    sizes = {"final": np.abs(ended), "moved": np.abs(ended - begun), "initial": np.abs(begun)}
    masks = {(kind, q): layers.top(size, q) for q in DENSITIES for kind, size in sizes.items()}
    tried = {key: mask for key, mask in masks.items() if key[0] != "initial"}
    tried |= {("random", q): layers.random(q, rng) for q in DENSITIES}
    retrained = retrain(task, [layers.named(mask) for mask in tried.values()], steps, seed)
    measured = _measured(windows, masks, ended, layers, rng, permutations)
    return Found(**measured, dense=np.array(dense), retrained=dict(zip(tried, retrained, strict=True)))


def _measured(
    windows: Sequence[Seen],
    masks: Mapping[tuple[str, float], np.ndarray],
    ended: np.ndarray,
    layers: Layers,
    rng: np.random.Generator,
    permutations: int,
) -> dict[str, Any]:
    energy = {name: np.stack([window.energy[name] for window in windows]) for name in ("edge", *RIVALS)}
    concentration = {
        (name, kind, q): layers.concentration(square, mask, q)
        for name, square in energy.items()
        for (kind, q), mask in masks.items()
    }
    null = {q: layers.permuted(energy["edge"], q, permutations, rng) for q in DENSITIES}
    above = {q: (null[q] >= concentration["edge", "final", q]).sum(axis=0) for q in DENSITIES}

    def each(q: float, values: Sequence[np.ndarray]) -> np.ndarray:
        """The edge of each window on a mask of its own, of the largest of these values."""
        pairs = zip(energy["edge"], values, strict=True)
        return np.array([float(layers.concentration(edge, layers.top(size, q), q)) for edge, size in pairs])

    return {
        "k_star": np.array([window.k_star for window in windows]),
        "concentration": concentration,
        "apart": {q: each(q, [np.abs(ended - window.own) for window in windows]) for q in DENSITIES},
        "ceiling": {q: each(q, list(energy["edge"])) for q in DENSITIES},
        "p": {q: (1 + above[q]) / (1 + permutations) for q in DENSITIES},
        "null": {q: np.quantile(null[q], (0.01, 0.99), axis=0) for q in DENSITIES},
        "mean_in_edge": np.array([window.mean_in_edge for window in windows]),
        "participation": np.array([window.participation for window in windows]),
        "overlap": {
            (kind, q): float((mask & masks["final", q]).sum() / mask.sum()) for (kind, q), mask in masks.items()
        },
    }


def spread(values: Sequence[float], confidence: float = 0.95) -> dict[str, Any]:
    """Mean over seeds with its interval by Student's t."""
    found = paired(values, confidence=confidence)
    return {"mean": found.mean, "low": found.low, "high": found.high, "each": list(values)}


def factor(logs: Sequence[float], confidence: float = 0.95) -> dict[str, Any]:
    """Geometric mean over seeds with its interval, of logarithms."""
    found = spread(logs, confidence)
    return {name: np.exp(value) for name, value in found.items()}


def at_density(runs: Sequence[Found], q: float) -> dict[str, Any]:
    """The numbers of one arm at one density, and the answers by the rules above."""

    def log(name: str, kind: str = "final") -> list[float]:
        return [float(np.log(run.concentration[name, kind, q]).mean()) for run in runs]

    def over(other: Sequence[float], confidence: float = 0.95) -> dict[str, Any]:
        return factor([a - b for a, b in zip(log("edge"), other, strict=True)], confidence)

    kinds = ("final", "moved", "random")
    ended = {kind: np.array([run.retrained[kind, q][-LAST:].mean() for run in runs]) for kind in kinds}
    dense = np.array([run.dense[-LAST:].mean() for run in runs])
    tickets: dict[str, Any] = {}
    for kind in ("final", "moved"):
        below, above = spread(list(ended[kind] - dense)), spread(list(ended[kind] - ended["random"]))
        ticket = bool(below["low"] > -MARGIN and above["low"] > 0)
        tickets[kind] = {
            "ticket": ticket,
            "accuracy": spread(list(ended[kind])),
            "over_dense": below,
            "over_random": above,
        }
    edge = factor(log("edge"))
    significant = [float((run.p[q] < LEVEL).mean()) for run in runs]
    rivals = {name: over(log(name), 1 - 0.05 / len(RIVALS)) for name in RIVALS}
    published = more = "cannot tell"
    if tickets["final"]["ticket"]:
        if edge["low"] > 1 and np.mean(significant) > 0.5:
            published = "consistent"
        elif edge["high"] < 1:
            published = "not consistent"
        if all(ratio["low"] > 1 for ratio in rivals.values()):
            more = "yes"
        elif any(ratio["high"] < TIE for ratio in rivals.values()):
            more = "no"
    names = ("edge", *RIVALS)
    return {
        "published_sense": published,
        "more_than_any_update": more,
        "masks": tickets,
        "random_accuracy": spread(list(ended["random"])),
        "concentration": {name: factor(log(name)) for name in names},
        "edge_over": rivals,
        "edge_on_moved": factor(log("edge", "moved")),
        "mean_on_moved": factor(log("mean", "moved")),
        "edge_on_initial": factor(log("edge", "initial")),
        "edge_on_final_over_initial": over(log("edge", "initial")),
        "edge_without_own_updates": factor([float(np.log(run.apart[q]).mean()) for run in runs]),
        "ceiling": factor([float(np.log(run.ceiling[q]).mean()) for run in runs]),
        "significant": spread(significant),
        "null_99": float(np.mean([run.null[q][1] for run in runs])),
        "overlap": {kind: spread([run.overlap[kind, q] for run in runs]) for kind in ("moved", "initial")},
        "by_window": {
            name: np.exp(np.mean([np.log(run.concentration[name, "final", q]) for run in runs], axis=0))
            for name in names
        },
    }


def judged(runs: Sequence[Found]) -> dict[str, Any]:
    """The numbers of one arm."""
    counts = np.bincount(np.concatenate([run.k_star for run in runs]), minlength=WINDOW // 2 + 1)[1:]
    return {
        **{key(q): at_density(runs, q) for q in DENSITIES},
        "dense_accuracy": spread([float(run.dense[-LAST:].mean()) for run in runs]),
        "windows_with_k_star": counts,
        "mean_in_edge": spread([float(run.mean_in_edge.mean()) for run in runs]),
        "participation_of_v1": spread([float(run.participation[:, 0].mean()) for run in runs]),
        "participation_beyond": spread([float(run.participation[:, 1].mean()) for run in runs]),
    }


def key(q: float) -> str:
    """Name of a density in the record."""
    return f"top_{100 * q:.0f}"


def told(value: dict[str, Any], digits: int = 2) -> str:
    """A mean with its interval."""
    return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def sentences(numbers: dict[str, Any]) -> list[str]:
    """What was found, in words."""
    found: list[str] = []
    for arm, (title, _) in ARMS.items():
        for q in DENSITIES:
            at = numbers[arm][key(q)]
            name, final = f"{title}, largest {100 * q:.0f} % of the weights", at["masks"]["final"]
            least = min(RIVALS, key=lambda rival: at["edge_over"][rival]["mean"])
            found += [
                f"{name}: {'a ticket' if final['ticket'] else 'no ticket'}. Trained again it ends "
                f"{told(final['over_dense'], 3)} from the dense network's accuracy and "
                f"{told(final['over_random'], 3)} from a random mask's.",
                f"{name}: energy above its share, {at['published_sense']}: {told(at['concentration']['edge'])} times.",
                f"{name}: more than any update's, {at['more_than_any_update']}: "
                f"{told(at['edge_over'][least], 3)} times that of the {RIVALS[least]}.",
            ]
        at = numbers[arm]
        found.append(
            f"{title}: v_1 takes part in {at['participation_of_v1']['mean']:.0%} of the weights, a mode beyond k* in "
            f"{at['participation_beyond']['mean']:.0%} (normal entries: 33 %); the edge holds "
            f"{at['mean_in_edge']['mean']:.0%} of the mean update's energy."
        )
    return found


COLOURS = {"edge": "#D55E00", "mean": "#222222", "update": "#0072B2", "row_space": "#009E73", "beyond": "#CC79A7"}
LINES = {"edge": "-", "mean": (0, (4, 2)), "update": "-", "row_space": "-", "beyond": "-"}
LABELS = {
    "edge": "edge, $v_1$ to $v_{k*}$",
    "mean": "mean update",
    "update": "squared updates",
    "row_space": "random direction of the row space",
    "beyond": "modes beyond k*",
}


def draw(arms: dict[str, list[Found]], numbers: dict[str, Any], settings: Settings, options: Options) -> None:
    """The picture: tickets, concentration over time, and the edge against its rivals."""
    from spectral_edge.plots.frame import new_figure

    figure = new_figure(880)
    axes = figure.subplots(2, 3, gridspec_kw={"width_ratios": [1, 1.25, 0.95]})
    figure.subplots_adjust(left=0.055, right=0.985, top=0.855, bottom=0.075, hspace=0.42, wspace=0.2)
    at = [numbers[arm][key(MAIN)] for arm in arms]
    shares = " and ".join(f"{each['concentration']['edge']['mean']:.2f}" for each in at)
    ratios = " and ".join(f"{each['edge_over']['mean']['mean']:.2f}" for each in at)
    figure.suptitle(
        f"On a ticket's weights the edge has {shares} times its share of energy, "
        f"{ratios} times what the mean update has",
        x=0.055,
        y=0.975,
        ha="left",
        fontsize=14.5,
        fontweight="bold",
    )
    for row, (arm, runs), found in zip(axes, arms.items(), at, strict=True):
        steps = settings.steps[arm] // WINDOWS * np.arange(1, WINDOWS + 1)
        _tickets(row[0], steps, runs)
        if arm == "classifier":
            row[0].legend(fontsize=11.5, frameon=False, loc="lower right", labelspacing=0.3)
        _over_time(row[1], steps, runs, found)
        _against(row[2], found)
        title = ARMS[arm][0]
        row[0].set_title(f"{title[0].upper()}{title[1:]}", loc="left", fontsize=13.5, fontweight="bold")
    handles, labels = axes[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper left", bbox_to_anchor=(0.05, 0.955), ncols=6, frameon=False, fontsize=12)
    figure.savefig(options.out / "lottery_ticket.png", dpi=71, pil_kwargs={"optimize": True})


def _tickets(ax: Axes, steps: np.ndarray, runs: Sequence[Found]) -> None:
    from spectral_edge.plots.frame import plain

    plain(ax)
    curves = [("dense", "#222222", "-", [run.dense for run in runs])]
    for kind, word, colour in (("final", "largest", COLOURS["edge"]), ("random", "random", "#9a9a9a")):
        for q, line in zip(DENSITIES, (":", "-"), strict=True):
            curves.append((f"{word} {100 * q:.0f} %", colour, line, [run.retrained[kind, q] for run in runs]))
    for label, colour, line, each in curves:
        ax.plot(steps, np.mean(each, axis=0), color=colour, linestyle=line, linewidth=2, label=label)
    ax.set_ylabel("test accuracy", fontsize=13)
    ax.set_xlabel("step, trained again from the start", fontsize=13)
    ax.set_ylim(-0.02, 1.02)


def _over_time(ax: Axes, steps: np.ndarray, runs: Sequence[Found], at: dict[str, Any]) -> None:
    from spectral_edge.plots.frame import plain

    plain(ax)
    low, high = np.mean([run.null[MAIN] for run in runs], axis=0)
    ax.fill_between(steps, low, high, color="#e3e3e3", label="permuted masks, 98 %")
    for run in runs:
        ax.plot(steps, run.concentration["edge", "final", MAIN], color=COLOURS["edge"], linewidth=0.7, alpha=0.35)
    for name in (*RIVALS, "edge"):
        ax.plot(
            steps,
            at["by_window"][name],
            color=COLOURS[name],
            linestyle=LINES[name],
            linewidth=2.4,
            zorder=4 if name == "mean" else 3,
            label=LABELS[name],
        )
    ax.set_ylabel("energy on the mask / share", fontsize=13)
    ax.set_xlabel("end of the window (step)", fontsize=13)
    ax.set_title("On the largest 20 %", loc="left", fontsize=13.5)
    ax.set_ylim(bottom=0)


def _against(ax: Axes, at: dict[str, Any]) -> None:
    from spectral_edge.plots.frame import plain

    plain(ax)
    ax.grid(visible=False)
    ax.axvspan(1 / TIE, TIE, color="#e3e3e3")
    ax.axvline(1, color="#222222", linewidth=0.8)
    rows = {**at["edge_over"], "initial": at["edge_on_final_over_initial"]}
    names = {
        **{name: words for name, words in LABELS.items() if name != "edge"},
        "initial": "edge, on the largest at the start",
    }
    for place, (name, ratio) in enumerate(rows.items()):
        colour = COLOURS.get(name, "#777777")
        ax.plot(ratio["each"], np.full(len(ratio["each"]), -place), "o", color=colour, alpha=0.35, markersize=4)
        ax.plot([ratio["low"], ratio["high"]], [-place, -place], color=colour, linewidth=2.4)
        ax.plot(ratio["mean"], -place, "D", color=colour, markersize=6)
        ax.annotate(
            names[name],
            (0.98, -place + 0.2),
            xycoords=("axes fraction", "data"),
            ha="right",
            fontsize=11.5,
            color=colour,
        )
    ax.set_yticks([])
    ax.set_ylim(-len(rows) + 0.5, 0.7)
    ax.set_xlabel("the edge's value over that of", fontsize=13)
    ax.set_title(f"More than any update's: {at['more_than_any_update']}", loc="left", fontsize=13.5)


def main() -> None:
    """Runs both arms, judges, draws and records."""
    options = script_options(
        "Does the edge of a window lie on the weights of the lottery ticket?",
        "examples/consistency/lottery_ticket.py",
        results="results/consistency",
    )
    torch.set_num_threads(1)
    settings = Settings(8, {"classifier": 1440, "grokking": 6000}, 999)
    if options.quick:
        settings = Settings(2, {"classifier": 120, "grokking": 120}, 19)
    arms: dict[str, list[Found]] = {}
    for arm, (_, build) in ARMS.items():
        seeds = range(FIRST_SEED, FIRST_SEED + settings.seeds)
        arms[arm] = [one_seed(build, seed, settings.steps[arm], settings.permutations) for seed in seeds]
    numbers = {arm: judged(runs) for arm, runs in arms.items()}
    said = sentences(numbers)
    print("\n".join(said))
    draw(arms, numbers, settings, options)
    save(
        options.results / "lottery_ticket.json",
        command=options.command,
        settings={
            **asdict(settings),
            "first_seed": FIRST_SEED,
            "window": WINDOW,
            "windows": WINDOWS,
            "densities": DENSITIES,
            "main_density": MAIN,
            "margin": MARGIN,
            "tie": TIE,
            "level": LEVEL,
        },
        numbers={**numbers, "sentences": said},
    )


if __name__ == "__main__":
    main()
