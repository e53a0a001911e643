"""Is the mode at the gap the one that learning needs? Interventions on the updates of runs that are about to grok.

python examples/theory/interventions.py           # four minutes on one core
python examples/theory/interventions.py --quick   # seconds; its numbers are not to be quoted

Everything that decides the result was fixed on three pilot seeds (100 to 102), which the trial does not use: the two
tasks, the steps at which they are stopped, the number of steps under intervention, the outcome (logarithm of the test
loss after the last of them), the convention of k* and the contrasts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import spectral_edge as se
from spectral_edge import modes
from spectral_edge.experiments import SampledTask, TrainStep
from spectral_edge.modes.contrast import Maximality, Paired, maximality, paired
from spectral_edge.modes.interventions import random_direction, row_space_direction
from spectral_edge.modes.trial import Arm, ArmResult, run_arms
from spectral_edge.simulate.record import save, script_options

MODULUS, POSITIONS = 31, 3
SEEDS, STEPS, EVERY, WINDOW = 8, 600, 50, 10


@dataclass(frozen=True)
class Block:
    """One task at one time.

    Attributes:
        title: for people.
        batch: pairs drawn a step; None trains on all of them.
        start: step at which the run is stopped.
    """

    title: str
    batch: int | None
    start: int


BLOCKS = {"mini_batch": Block("mini-batches of 128", 128, 3000), "full_batch": Block("full batch", None, 2250)}


class Addition(SampledTask):
    """A two-layer network with an embedding that learns addition modulo 31 from 70 % of all pairs, and groks."""

    def __init__(self, *, seed: int, batch: int | None) -> None:
        order = torch.randperm(MODULUS**2, generator=torch.Generator().manual_seed(seed))
        self.pairs = torch.cartesian_prod(torch.arange(MODULUS), torch.arange(MODULUS))[order]
        self.labels = self.pairs.sum(dim=1) % MODULUS
        self.cut = int(0.7 * len(self.pairs))
        self.batch = batch
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Embedding(MODULUS, 32), nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, MODULUS)
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=1.0, fused=True)
        super().__init__(
            model, optimizer, train_size=self.cut, batch_size=batch or self.cut, max_grad_norm=math.inf, seed=seed
        )

    def batch_loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of training pairs."""
        return functional.cross_entropy(self.model(self.pairs[rows]), self.labels[rows])

    def train_step(self) -> TrainStep:
        """A drawn batch, or all training pairs in order."""
        if self.batch is not None:
            return super().train_step()
        self.optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(self.model(self.pairs[: self.cut]), self.labels[: self.cut])
        loss.backward()
        self.optimizer.step()
        return TrainStep(loss.item(), None)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Test loss and accuracy."""
        logits, labels = self.model(self.pairs[self.cut :]), self.labels[self.cut :]
        return {
            "test_loss": functional.cross_entropy(logits.double(), labels).item(),
            "test_accuracy": (logits.argmax(dim=1) == labels).double().mean().item(),
        }


@dataclass(frozen=True)
class Seed:
    """What one seed gave: the window before, and the arms after."""

    k_star: int
    outside: bool
    ratios: list[float]
    test_loss: float
    arms: Mapping[str, ArmResult]


def arms_around(k: int) -> list[Arm]:
    """The arms of a seed whose k* is k; shares of the arm that removes v_k set the matched budgets."""
    at = f"v{k}"
    arms = [Arm(name="none", kind="none"), Arm(name="sham", kind="sham", along=at)]
    for j in range(1, POSITIONS + 1):
        arms += [Arm(name=f"v{j}", along=f"v{j}"), Arm(name=f"shrink_v{j}", kind="shrink_all", budget=f"v{j}")]
    arms += [Arm(name=f"matched_v{j}", along=f"v{j}", budget=at) for j in range(1, POSITIONS + 1)]
    return [
        *arms,
        Arm(name="random", along="random"),
        Arm(name="random_matched", kind="tilt", along="random", budget=at),
        Arm(name="row_space_matched", kind="tilt", along="row space", budget=at),
        Arm(name="norm_restored", along=at, restore_norm=True),
        Arm(name="stale", along="stale"),
        Arm(name="mean_update", along="mean"),
    ]


def one_seed(block: Block, seed: int, *, start: int, steps: int, every: int) -> Seed:
    """Trains to the block's start, freezes the window's modes, and runs every arm from there."""
    task = Addition(seed=seed, batch=block.batch)
    monitor = se.Monitor(
        task.model, task.optimizer, window=WINDOW, every=every, engine="exact", k_star="restricted", store="groups"
    )
    stale, reading = None, None
    for step in range(1, start + 1):
        task.train_step()
        reading = monitor.step() or reading
        if step == start - every * WINDOW:
            stale = monitor.modes(POSITIONS)
    assert reading is not None
    assert stale is not None
    found = monitor.modes()
    k = min(int(reading.k_star_restricted or 1), POSITIONS)
    generator = torch.Generator().manual_seed(seed)
    directions = {f"v{j}": found.directions[j - 1] for j in range(1, POSITIONS + 1)}
    directions["stale"] = stale.directions[k - 1]
    directions["random"] = random_direction(modes.named(task.model), generator)
    directions["row space"] = row_space_direction(found, generator)
    # The sum of the window's updates, sum_j sigma_j (1^T u_j) v_j: the direction of drift, without any spectrum.
    weights = found.sigma * found.left.sum(axis=0)
    mean: modes.Vector = {}
    for weight, direction in zip(weights, found.directions, strict=False):
        mean = modes.added(mean, direction, float(weight))
    directions["mean"] = mean
    results = run_arms(task, arms_around(k), directions, steps=steps)
    ratios = [float(value) for value in reading.ratios[:POSITIONS]]
    return Seed(k, reading.k_star_clear is not None, ratios, task.evaluate()["test_loss"], results)


def harm(seeds: list[Seed], name: str) -> np.ndarray:
    """Logarithm of an arm's test loss over that without intervention, by seed; `edge` is the arm that removes v_k*."""
    arms = [(seed.arms[f"v{seed.k_star}" if name == "edge" else name], seed.arms["none"]) for seed in seeds]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log([arm.outcome / none.outcome for arm, none in arms])


CONTRASTS: dict[str, tuple[str, str]] = {
    "edge against nothing": ("edge", "none"),
    "edge against shrinking all": ("edge", "shrink_edge"),
    "edge against a random direction": ("edge", "random_matched"),
    "edge against the row space": ("edge", "row_space_matched"),
    "edge against the mean update": ("edge", "mean_update"),
    "edge against its stale direction": ("edge", "stale"),
    "norm restored against nothing": ("norm_restored", "none"),
}


def judge(seeds: list[Seed]) -> tuple[dict[str, Paired], Maximality]:
    """The preregistered contrasts and the verdict on H1."""
    values = {name: harm(seeds, name) for name in ("edge", *seeds[0].arms)}
    shrunk = np.stack([harm(seeds, f"shrink_v{j}") for j in range(1, POSITIONS + 1)], axis=1)
    edge = np.array([seed.k_star for seed in seeds])
    values["shrink_edge"] = shrunk[np.arange(len(seeds)), edge - 1]
    matched = np.stack([values[f"matched_v{j}"] for j in range(1, POSITIONS + 1)], axis=1)
    contrasts = {name: paired(values[a] - values[b]) for name, (a, b) in CONTRASTS.items()}
    return contrasts, maximality(matched, edge)


def numbers(seeds: list[Seed]) -> dict[str, object]:
    """Everything that the picture and the page show, as plain values."""
    contrasts, verdict = judge(seeds)
    arms = {}
    for name in seeds[0].arms:
        done = [seed.arms[name] for seed in seeds]
        arms[name] = {
            "log_loss_ratio": paired(harm(seeds, name)),
            "by_seed": harm(seeds, name),
            "removed_share": float(np.mean([arm.removed_share for arm in done])),
            "displacement": float(np.mean([arm.displacement for arm in done])),
            "left_out": sum(sum(arm.left_out.values()) for arm in done),
        }
    return {
        "k_star": [seed.k_star for seed in seeds],
        "outside_band": sum(seed.outside for seed in seeds),
        "ratios": np.mean([seed.ratios for seed in seeds], axis=0),
        "test_loss_before": [seed.test_loss for seed in seeds],
        "test_loss_after": [seed.arms["none"].outcome for seed in seeds],
        "sham_identical": all(seed.arms["sham"].outcome == seed.arms["none"].outcome for seed in seeds),
        "arms": arms,
        "contrasts": contrasts,
        "verdict": verdict.verdict,
        "lead": verdict.lead,
        "rivals": [{"position": j, "difference": value} for j, value in verdict.rivals.items()],
    }


def told(value: Paired) -> str:
    """A mean with its interval, as factors of the test loss."""
    low, mean, high = (math.exp(x) if math.isfinite(x) else math.nan for x in (value.low, value.mean, value.high))
    decide = "" if value.sign else f"; {value.seeds or 'over 10,000'} seeds would decide"
    return f"factor {mean:.2f} [{low:.2f}, {high:.2f}]{decide}"


def sentences(title: str, seeds: list[Seed]) -> list[str]:
    """Findings of one block."""
    contrasts, verdict = judge(seeds)
    edges = [seed.k_star for seed in seeds]
    positions = ", ".join(f"k* = {k} in {edges.count(k)}" for k in sorted(set(edges)))
    return [
        f"{title}: {positions} of {len(seeds)} seeds. Removing v_k* multiplies the final test loss, "
        f"{told(contrasts['edge against nothing'])}.",
        f"{title}: against shrinking every update by the same energy, {told(contrasts['edge against shrinking all'])};"
        f" against a random direction with the same energy and displacement, "
        f"{told(contrasts['edge against a random direction'])}.",
        f"{title}: against removing the mean update, {told(contrasts['edge against the mean update'])}.",
        f"{title}: H1 {verdict.verdict}: v_k* against the worst other mode at matched energy, {told(verdict.lead)}.",
    ]


LABELS: dict[str, str] = {
    "v1": "remove $v_1$",
    "v2": "remove $v_2$",
    "v3": "remove $v_3$",
    "mean_update": "remove the mean update",
    "stale": "remove $v_{k*}$ of a window ago",
    "norm_restored": "remove $v_{k*}$, restore the norm",
    "matched_v1": "$v_1$, energy of $v_{k*}$",
    "matched_v2": "$v_2$, energy of $v_{k*}$",
    "matched_v3": "$v_3$, energy of $v_{k*}$",
    "shrink_v1": "shrink all, energy of $v_1$",
    "shrink_v2": "shrink all, energy of $v_2$",
    "row_space_matched": "row space, energy of $v_{k*}$",
    "random_matched": "random, energy of $v_{k*}$",
    "random": "random, its own energy",
    "sham": "sham",
}


def picture(found: Mapping[str, list[Seed]], path: Path) -> None:
    """Harm of every arm, seed by seed, with intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.6), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(LABELS))[::-1]
    for ax, (name, seeds) in zip(axes, found.items(), strict=True):
        for place, arm in zip(places, LABELS, strict=True):
            values = harm(seeds, arm)
            mean = paired(values)
            colour = "#0072B2" if arm in ("v1", "v2", "v3", "mean_update", "stale", "norm_restored") else "#D55E00"
            colour = "#777777" if arm in ("sham", "random") else colour
            ax.plot(np.exp(values), np.full(len(values), place), "o", color=colour, alpha=0.35, markersize=4)
            if mean.n > 1:
                ax.plot(np.exp([mean.low, mean.high]), [place, place], color=colour, linewidth=2.4)
                ax.plot(np.exp(mean.mean), place, "D", color=colour, markersize=6)
        ax.axvline(1.0, color="#222222", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        ax.set_xscale("log")
        ax.set_xlabel("test loss as a multiple of the run without intervention")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(visible=True, axis="x", color="#ececec")
        ax.set_axisbelow(True)
        edges = sorted({seed.k_star for seed in seeds})
        verdict = judge(seeds)[1].verdict
        which = " or ".join(map(str, edges))
        ax.set_title(f"{BLOCKS[name].title}, k* = {which}: maximality {verdict}", loc="left", fontsize=12)
        ax.set_yticks(places, list(LABELS.values()))
    figure.savefig(path)


def main() -> None:
    """Runs both blocks."""
    options = script_options("Interventions on the updates of grokking runs.", "examples/theory/interventions.py")
    torch.set_num_threads(1)
    seeds, steps, every = (2, 10, 10) if options.quick else (SEEDS, STEPS, EVERY)
    found: dict[str, list[Seed]] = {}
    for name, block in BLOCKS.items():
        start = 200 if options.quick else block.start
        found[name] = [one_seed(block, seed, start=start, steps=steps, every=every) for seed in range(seeds)]
        print("\n".join(sentences(block.title, found[name])), flush=True)
    picture(found, options.out / "interventions.png")
    save(
        options.results / "interventions.json",
        command=options.command,
        settings={"seeds": seeds, "steps": steps, "every": every, "window": WINDOW, "blocks": BLOCKS},
        numbers={name: numbers(each) for name, each in found.items()},
    )


if __name__ == "__main__":
    main()
