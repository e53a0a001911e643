"""Is the mode at the gap the one that learning needs? Interventions on the updates of runs that are about to grok.

python examples/theory/interventions.py           # seven minutes on one core
python examples/theory/interventions.py --again   # the same on sixteen fresh seeds
python examples/theory/interventions.py --quick   # seconds; its numbers are not to be quoted

Everything that decides the result was fixed on three pilot seeds (100 to 102), which the trial does not use: the two
tasks, the steps at which they are stopped, the number of steps under intervention, the outcome (logarithm of the test
loss after the last of them), the convention of k* and the contrasts.

Added after the trial had been run once, when its verdicts were known: the arms that close a gap, the mean update at the
energy of v_k*, outcomes at earlier steps, what is recorded of the directions, and modes that are tilted until their
removal has the energy and the displacement of v_k*'s. Two verdicts on H1 are recorded: the preregistered one, which is
matched in energy alone, and that of the tilted modes. On the fresh seeds nothing was chosen after anything was seen.
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
from spectral_edge.experiments import Batch, SampledTask, TrainStep
from spectral_edge.modes.contrast import Maximality, Paired, maximality, paired
from spectral_edge.modes.interventions import random_direction, row_space_direction
from spectral_edge.modes.trial import Arm, ArmResult, run_arms
from spectral_edge.simulate.record import save, script_options

MODULUS, POSITIONS = 31, 3
SEEDS, AGAIN = range(8), range(8, 24)
STEPS, EVERY, WINDOW = 600, 50, 10
LOOKS = 6
"""Evaluations of an arm, evenly over its steps."""


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
        self.whole = batch is None
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Embedding(MODULUS, 32), nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, MODULUS)
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=1.0, fused=True)
        super().__init__(
            model, optimizer, train_size=self.cut, batch_size=batch or self.cut, max_grad_norm=math.inf, seed=seed
        )

    def batch(self, rows: torch.Tensor) -> Batch:
        """Training pairs and their sums."""
        return Batch(self.pairs[rows], self.labels[rows])

    def batch_loss(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy."""
        return functional.cross_entropy(self.model(batch.inputs), batch.targets)

    def train_step(self) -> TrainStep:
        """A drawn batch, or all training pairs in order."""
        if not self.whole:
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
    """What one seed gave: the window before, and the arms after.

    Attributes:
        k_star: position that is judged.
        k_star_found: the same before it was cut down to the positions that arms exist for; None where undefined.
        outside: whether the largest ratio leaves the null's band.
        ratios: sigma_j / sigma_j+1 of the leading positions.
        shares: of the window's energy, by position.
        progress: progress shares, by position.
        cosines: of v_k* with the mean update, the stale direction and the parameters, without sign.
        test_loss: at the checkpoint.
        arms: what became of each.
    """

    k_star: int
    k_star_found: int | None
    outside: bool
    ratios: list[float]
    shares: list[float]
    progress: list[float]
    cosines: dict[str, float]
    test_loss: float
    arms: Mapping[str, ArmResult]


def arms_around(k: int, ratios: list[float]) -> list[Arm]:
    """The arms of a seed whose k* is k; shares of the arm that removes v_k set the matched budgets."""
    at = f"v{k}"
    arms = [Arm(name="none", kind="none"), Arm(name="sham", kind="sham", along=at)]
    for j in range(1, POSITIONS + 1):
        arms += [Arm(name=f"v{j}", along=f"v{j}"), Arm(name=f"shrink_v{j}", kind="shrink_all", budget=f"v{j}")]
    arms += [Arm(name=f"matched_v{j}", along=f"v{j}", budget=at) for j in range(1, POSITIONS + 1)]
    return [
        *arms,
        *(Arm(name=f"tilt_v{j}", kind="tilt", along=f"v{j}", budget=at) for j in range(1, POSITIONS + 1) if j != k),
        Arm(name="random", along="random"),
        Arm(name="random_matched", kind="tilt", along="random", budget=at),
        Arm(name="row_space_matched", kind="tilt", along="row space", budget=at),
        Arm(name="norm_restored", along=at, restore_norm=True),
        Arm(name="stale", along="stale"),
        Arm(name="mean_update", along="mean"),
        Arm(name="mean_matched", along="mean", budget=at),
        # The claim's own words: the gap behind position j is closed, and no more than that.
        *(
            Arm(name=f"close_v{j}", kind="shrink", along=f"v{j}", factor=1 / ratio)
            for j, ratio in enumerate(ratios, start=1)
        ),
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
    assert reading.ratios is not None
    assert reading.progress_share is not None
    ratios = [float(value) for value in reading.ratios[:POSITIONS]]
    k_found = reading.k_star_restricted
    k = min(int(k_found or 1), POSITIONS)
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
    edge = directions[f"v{k}"]
    others = {"mean": mean, "stale": stale.directions[k - 1], "parameters": modes.named(task.model)}
    cosines = {name: abs(modes.dot(edge, other)) / modes.norm(other) for name, other in others.items()}
    energy = found.sigma**2
    results = run_arms(task, arms_around(k, ratios), directions, steps=steps, evaluate_every=max(steps // LOOKS, 1))
    return Seed(
        k_star=k,
        k_star_found=None if k_found is None else int(k_found),
        outside=reading.k_star_clear is not None,
        ratios=ratios,
        shares=(energy / energy.sum())[:POSITIONS].tolist(),
        progress=[float(value) for value in reading.progress_share[:POSITIONS]],
        cosines=cosines,
        test_loss=task.evaluate()["test_loss"],
        arms=results,
    )


def harm(seeds: list[Seed], name: str) -> np.ndarray:
    """Logarithm of an arm's test loss over that without intervention, by seed; `edge` is the arm that removes v_k*."""
    arms = [(seed.arms[f"v{seed.k_star}" if name == "edge" else name], seed.arms["none"]) for seed in seeds]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log([arm.outcome / none.outcome for arm, none in arms])


def by_step(seeds: list[Seed], name: str) -> np.ndarray:
    """Mean over seeds of the logarithm of an arm's test loss over that without intervention, at each evaluation."""
    losses = [[seed.arms[each].metrics["test_loss"] for seed in seeds] for each in (name, "none")]
    with np.errstate(divide="ignore", invalid="ignore"):
        return (np.log(losses[0]) - np.log(losses[1])).mean(axis=0)


CONTRASTS: dict[str, tuple[str, str]] = {
    "edge against nothing": ("edge", "none"),
    "edge against shrinking all": ("edge", "shrink_edge"),
    "edge against a random direction": ("edge", "random_matched"),
    "edge against the row space": ("edge", "row_space_matched"),
    "edge against the mean update": ("edge", "mean_update"),
    "edge against its stale direction": ("edge", "stale"),
    "norm restored against nothing": ("norm_restored", "none"),
}
ADDED: dict[str, tuple[str, str]] = {
    "edge against the mean update, same energy": ("matched_edge", "mean_matched"),
    "closing the gap against nothing": ("close_edge", "none"),
    "closing the gap against closing the worst other": ("close_edge", "close_other"),
}
"""Contrasts that were added when the first ones were known."""


@dataclass(frozen=True)
class Judged:
    """What the trial says.

    Attributes:
        contrasts: preregistered ones first.
        energy: the verdict on H1 among modes that are matched in removed energy, as preregistered.
        displacement: the same among modes that are tilted, so that they are matched in displacement too.
        apart: largest relative difference of displacements among the former; they are matched in energy alone.
    """

    contrasts: dict[str, Paired]
    energy: Maximality
    displacement: Maximality
    apart: float


def tilted(seed: Seed, j: int) -> str:
    """The arm that removes v_j at the energy and displacement of v_k*; at k* itself that is plain removal."""
    return f"v{j}" if j == seed.k_star else f"tilt_v{j}"


def tilted_harm(seed: Seed, j: int) -> float:
    """Logarithm of that arm's test loss over that without intervention."""
    return float(np.log(seed.arms[tilted(seed, j)].outcome / seed.arms["none"].outcome))


def judge(seeds: list[Seed]) -> Judged:
    """The contrasts and both verdicts on H1."""
    values = {name: harm(seeds, name) for name in ("edge", *shared_arms(seeds))}
    shrunk = np.stack([harm(seeds, f"shrink_v{j}") for j in range(1, POSITIONS + 1)], axis=1)
    edge = np.array([seed.k_star for seed in seeds])
    values["shrink_edge"] = shrunk[np.arange(len(seeds)), edge - 1]
    matched = np.stack([values[f"matched_v{j}"] for j in range(1, POSITIONS + 1)], axis=1)
    closed = np.stack([values[f"close_v{j}"] for j in range(1, POSITIONS + 1)], axis=1)
    at_edge = np.arange(1, POSITIONS + 1) == edge[:, None]
    values["matched_edge"] = matched[at_edge]
    values["close_edge"], values["close_other"] = closed[at_edge], np.where(at_edge, -np.inf, closed).max(axis=1)
    contrasts = {name: paired(values[a] - values[b]) for name, (a, b) in (CONTRASTS | ADDED).items()}
    names = [[tilted(seed, j) for j in range(1, POSITIONS + 1)] for seed in seeds]
    tilt = np.array([[tilted_harm(seed, j) for j in range(1, POSITIONS + 1)] for seed in seeds])
    tilt_moved = np.array(
        [[seed.arms[arm].displacement for arm in row] for seed, row in zip(seeds, names, strict=True)]
    )
    moved = np.array([[seed.arms[f"matched_v{j}"].displacement for j in range(1, POSITIONS + 1)] for seed in seeds])
    return Judged(
        contrasts,
        maximality(matched, edge),
        maximality(tilt, edge, displacements=tilt_moved),
        maximality(matched, edge, displacements=moved).apart,
    )


def shared_arms(seeds: list[Seed]) -> list[str]:
    """Arms that every seed has: which modes are tilted depends on where its k* is."""
    return [name for name in seeds[0].arms if not name.startswith("tilt_")]


def read(seeds: list[Seed]) -> str:
    """The verdict, and whether the direction of drift alone would have given it.

    H1 tells the gap from drift only where removing v_k* does more harm than removing the mean update, each with its own
    energy and both with the same: the mean of the window's updates needs no spectrum.
    """
    judged = judge(seeds)
    verdict = judged.energy.verdict
    told_apart = all(
        judged.contrasts[f"edge against the mean update{energy}"].sign > 0 for energy in ("", ", same energy")
    )
    return verdict if verdict != "supported" or told_apart else "supported, not told from drift"


def numbers(seeds: list[Seed]) -> dict[str, object]:
    """Everything that the picture and the page show, as plain values."""
    judged = judge(seeds)
    arms = {}
    for name in shared_arms(seeds):
        done = [seed.arms[name] for seed in seeds]
        arms[name] = {
            "log_loss_ratio": paired(harm(seeds, name)),
            "by_seed": harm(seeds, name),
            "by_step": by_step(seeds, name),
            "removed_share": float(np.mean([arm.removed_share for arm in done])),
            "displacement": float(np.mean([arm.displacement for arm in done])),
            "left_out": sum(sum(arm.left_out.values()) for arm in done),
        }
    return {
        "k_star": [seed.k_star for seed in seeds],
        "k_star_found": [seed.k_star_found for seed in seeds],
        "outside_band": sum(seed.outside for seed in seeds),
        "ratios": np.mean([seed.ratios for seed in seeds], axis=0),
        "shares": np.mean([seed.shares for seed in seeds], axis=0),
        "progress": np.mean([seed.progress for seed in seeds], axis=0),
        "cosines": {name: [seed.cosines[name] for seed in seeds] for name in seeds[0].cosines},
        "steps": seeds[0].arms["none"].steps,
        "test_loss_before": [seed.test_loss for seed in seeds],
        "test_loss_after": [seed.arms["none"].outcome for seed in seeds],
        "sham_identical": all(seed.arms["sham"].outcome == seed.arms["none"].outcome for seed in seeds),
        "arms": arms,
        "tilted": {
            f"v{j}": {
                "log_loss_ratio": paired([tilted_harm(seed, j) for seed in seeds]),
                "displacement": float(np.mean([seed.arms[tilted(seed, j)].displacement for seed in seeds])),
            }
            for j in range(1, POSITIONS + 1)
        },
        "contrasts": judged.contrasts,
        "read": read(seeds),
        "h1": {name: verdict(one) for name, one in (("energy", judged.energy), ("displacement", judged.displacement))},
        "apart_in_displacement": judged.apart,
    }


def verdict(found: Maximality) -> dict[str, object]:
    """A verdict on H1 as plain values."""
    rivals = [{"position": j, "difference": value} for j, value in found.rivals.items()]
    return {"verdict": found.verdict, "lead": found.lead, "apart": found.apart, "rivals": rivals}


def told(value: Paired) -> str:
    """A mean with its interval, as factors of the test loss."""
    low, mean, high = (math.exp(x) if math.isfinite(x) else math.nan for x in (value.low, value.mean, value.high))
    decide = "" if value.sign else f"; {value.seeds or 'over 10,000'} seeds would decide"
    return f"factor {mean:.2f} [{low:.2f}, {high:.2f}]{decide}"


def sentences(title: str, seeds: list[Seed]) -> list[str]:
    """Findings of one block."""
    judged = judge(seeds)
    contrasts = judged.contrasts
    edges = [seed.k_star for seed in seeds]
    positions = ", ".join(f"k* = {k} in {edges.count(k)}" for k in sorted(set(edges)))
    return [
        f"{title}: {positions} of {len(seeds)} seeds. Removing v_k* multiplies the final test loss, "
        f"{told(contrasts['edge against nothing'])}.",
        f"{title}: against shrinking every update by the same energy, {told(contrasts['edge against shrinking all'])};"
        f" against a random direction with the same energy and displacement, "
        f"{told(contrasts['edge against a random direction'])}.",
        f"{title}: against removing the mean update, {told(contrasts['edge against the mean update'])}; at the energy "
        f"of v_k*, {told(contrasts['edge against the mean update, same energy'])}.",
        f"{title}: closing the gap at k* and no more, {told(contrasts['closing the gap against nothing'])}.",
        f"{title}: H1 {read(seeds)}: v_k* against the worst other mode at matched energy, {told(judged.energy.lead)}"
        f" (displacements differ by up to {judged.apart:.0%}).",
        f"{title}: H1 {judged.displacement.verdict} at matched energy and displacement, "
        f"{told(judged.displacement.lead)}.",
    ]


OWN, MATCHED, CLOSED, CONTROL = "#0072B2", "#D55E00", "#009E73", "#777777"
COLOURS = {
    OWN: "with its own energy",
    MATCHED: "with another arm's energy",
    CLOSED: "as much as closes the gap",
    CONTROL: "control",
}
LABELS: dict[str, tuple[str, str]] = {
    "v1": (OWN, "remove $v_1$"),
    "v2": (OWN, "remove $v_2$"),
    "v3": (OWN, "remove $v_3$"),
    "mean_update": (OWN, "remove the mean update"),
    "stale": (OWN, "remove $v_{k*}$ of a window ago"),
    "norm_restored": (OWN, "remove $v_{k*}$, restore the norm"),
    "matched_v1": (MATCHED, "$v_1$, energy of $v_{k*}$"),
    "matched_v2": (MATCHED, "$v_2$, energy of $v_{k*}$"),
    "matched_v3": (MATCHED, "$v_3$, energy of $v_{k*}$"),
    "tilted_v1": (MATCHED, "$v_1$, also its displacement"),
    "tilted_v2": (MATCHED, "$v_2$, also its displacement"),
    "tilted_v3": (MATCHED, "$v_3$, also its displacement"),
    "mean_matched": (MATCHED, "mean update, energy of $v_{k*}$"),
    "shrink_v1": (MATCHED, "shrink all, energy of $v_1$"),
    "shrink_v2": (MATCHED, "shrink all, energy of $v_2$"),
    "row_space_matched": (MATCHED, "row space, energy of $v_{k*}$"),
    "random_matched": (MATCHED, "random, energy of $v_{k*}$"),
    "close_v1": (CLOSED, "shrink $v_1$ until $R_1 = 1$"),
    "close_v2": (CLOSED, "shrink $v_2$ until $R_2 = 1$"),
    "close_v3": (CLOSED, "shrink $v_3$ until $R_3 = 1$"),
    "random": (CONTROL, "random, its own energy"),
    "sham": (CONTROL, "sham"),
}


def picture(found: Mapping[str, list[Seed]], path: Path) -> None:
    """Harm of every arm, seed by seed, with intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(13, 8.4), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(LABELS))[::-1]
    for ax, (name, seeds) in zip(axes, found.items(), strict=True):
        for place, (arm, (colour, _)) in zip(places, LABELS.items(), strict=True):
            tilt = int(arm[-1]) if arm.startswith("tilted") else 0
            values = np.array([tilted_harm(seed, tilt) for seed in seeds]) if tilt else harm(seeds, arm)
            mean = paired(values)
            ax.plot(np.exp(values), np.full(len(values), place), "o", color=colour, alpha=0.35, markersize=4.5)
            if mean.n > 1:
                ax.plot(np.exp([mean.low, mean.high]), [place, place], color=colour, linewidth=2.6)
                ax.plot(np.exp(mean.mean), place, "D", color=colour, markersize=6.5)
        ax.axvline(1.0, color="#222222", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        ax.set_xscale("log")
        ax.set_xticks([1, 1.5, 2, 3, 4, 5])
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.tick_params(labelsize=12)
        ax.set_xlabel("test loss as a multiple of that without intervention", fontsize=13)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(visible=True, axis="x", color="#ececec")
        ax.set_axisbelow(True)
        edges = [seed.k_star for seed in seeds]
        which = ", ".join(f"k* = {k} in {edges.count(k)}" for k in sorted(set(edges)))
        title = BLOCKS[name].title
        ax.set_title(
            f"{title[0].upper()}{title[1:]}, {which}:\nH1 {read(seeds)}", loc="left", fontsize=13, fontweight="bold"
        )
        ax.set_yticks(places, [label for _, label in LABELS.values()], fontsize=12)
    key = [Line2D([], [], color=colour, marker="D", linewidth=2.6, label=label) for colour, label in COLOURS.items()]
    figure.legend(handles=key, loc="outside lower center", ncols=4, frameon=False, fontsize=12)
    figure.savefig(path)


def main() -> None:
    """Runs both blocks."""
    options = script_options(
        "Interventions on the updates of grokking runs.",
        "examples/theory/interventions.py",
        again="on sixteen fresh seeds",
    )
    torch.set_num_threads(1)
    seeds, name = (AGAIN, "interventions_again.png") if options.again else (SEEDS, "interventions.png")
    steps, every = (4, 2) if options.quick else (STEPS, EVERY)
    seeds = seeds[:2] if options.quick else seeds
    found: dict[str, list[Seed]] = {}
    for key, block in BLOCKS.items():
        start = 40 if options.quick else block.start
        found[key] = [one_seed(block, seed, start=start, steps=steps, every=every) for seed in seeds]
        print("\n".join(sentences(block.title, found[key])), flush=True)
    picture(found, options.out / name)
    save(
        (options.results / name).with_suffix(".json"),
        command=options.command,
        settings={
            "seeds": [seeds.start, seeds.stop],
            "steps": steps,
            "every": every,
            "window": WINDOW,
            "looks": LOOKS,
            "blocks": BLOCKS,
        },
        numbers={key: numbers(each) for key, each in found.items()},
    )


if __name__ == "__main__":
    main()
