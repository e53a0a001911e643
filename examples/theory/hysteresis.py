"""Does a slow cycle of the learning rate leave two branches? Planted streams, live runs, and their open-loop twins.

python examples/theory/hysteresis.py           # five minutes on one core
python examples/theory/hysteresis.py --quick   # seconds; its numbers are not to be quoted

A run that has settled has no drift, so no gap that drift keeps open, and there is nothing whose loss and return could
be watched. The live runs therefore follow a target that moves at a steady speed: their drift never ends. The script
also records how little a settled run shows.

The verdicts are those of `spectral_edge.modes.hysteresis` on all seeds together; all four kinds of stream get the same
periods, cycles and number of seeds, so the planted loop says whether this design finds a loop at all. Periods, learning
rates, network, target and the number of seeds were chosen on seeds 0 to 2 and 100, which the runs do not use.
"""

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.ticker import NullFormatter
from torch import nn
from torch.nn import functional

import spectral_edge as se
from spectral_edge.experiments import Batch, SampledTask
from spectral_edge.modes.cycle import Cycle, Readings, drive, read
from spectral_edge.modes.hysteresis import Loops, RateDependence, lag_area, loops, rate_dependence
from spectral_edge.modes.streams import Drift, planted, twin
from spectral_edge.plots.frame import COLOURS, FAINT, INK, LARGE, NORMAL, SMALL, new_figure, plain
from spectral_edge.simulate.record import save, script_options

WINDOW, EVERY, BINS = 10, 5, 8
LOW, HIGH = 3e-3, 3e-2
PERIODS, CYCLES, SETTLE, SEEDS = (160, 320, 640, 1280), 5, 3000, 3
"""Periods in observations of five steps each."""
FIRST_SEED = 10
INPUTS, HIDDEN, BATCH, NOISE, TURN = 12, 32, 16, 0.3, 3000.0
"""Of the live runs: sizes, standard deviation of the target's noise, and steps in which the target turns once."""
PLANES = np.sqrt([0.5, 0.7, 0.9, 1.1, 1.3, 1.5])
"""Speeds of the target's turn in six planes of the inputs, whose mean square is 1. A single plane would be in step with
one cycle or the other, and the network's response to the target's angle would pass for one to the learning rate."""
MODULUS, CONSTANT = 31, (3e-4, 1e-3, 3e-3)
"""Of the settled run: its task, and the learning rates at which it is watched."""

Found = dict[str, list[Loops]]


class Committee(nn.Module):
    """A hidden layer of tanh units, half of which add and half of which subtract.

    Nothing behind it is learned: a learned readout trades norm with the hidden layer for as long as noise lasts, and
    the run would never come to the same place twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(INPUTS, HIDDEN)
        self.register_buffer("votes", torch.tensor([1.0, -1.0]).repeat(HIDDEN // 2)[:, None] / math.sqrt(HIDDEN))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One output for each row."""
        return torch.tanh(self.hidden(x)) @ self.get_buffer("votes")


class Tracking:
    """A committee that follows a linear target of constant norm and speed, by plain descent on fresh data.

    Its drift is a property of the target's speed, the noise of its updates grows with the learning rate: the rate is
    the drive. Nothing in it reads a gap.
    """

    def __init__(self, *, seed: int) -> None:
        torch.manual_seed(seed)
        self.data = torch.Generator().manual_seed(seed)
        self.model = Committee()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LOW)
        self.steps = 0

    def train_step(self) -> None:
        """A fresh batch, and a step."""
        angle = 2 * np.pi * self.steps / TURN * PLANES
        target = np.stack([np.cos(angle), np.sin(angle)], axis=1).reshape(INPUTS, 1) / np.sqrt(len(PLANES))
        x = torch.randn(BATCH, INPUTS, generator=self.data)
        y = x @ torch.from_numpy(target).float() + NOISE * torch.randn(BATCH, 1, generator=self.data)
        self.optimizer.zero_grad(set_to_none=True)
        functional.mse_loss(self.model(x), y).backward()
        self.optimizer.step()
        self.steps += 1


class Addition(SampledTask):
    """A two-layer network with an embedding that learns addition modulo 31 from batches of 128 pairs."""

    def __init__(self, *, seed: int) -> None:
        order = torch.randperm(MODULUS**2, generator=torch.Generator().manual_seed(seed))
        self.pairs = torch.cartesian_prod(torch.arange(MODULUS), torch.arange(MODULUS))[order]
        self.labels = self.pairs.sum(dim=1) % MODULUS
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Embedding(MODULUS, 32), nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, MODULUS)
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=1.0, fused=True)
        train_size = int(0.7 * len(self.pairs))
        super().__init__(model, optimizer, train_size=train_size, batch_size=128, max_grad_norm=math.inf, seed=seed)

    def batch(self, rows: torch.Tensor) -> Batch:
        """Training pairs and their sums."""
        return Batch(self.pairs[rows], self.labels[rows])

    def batch_loss(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy."""
        return functional.cross_entropy(self.model(batch.inputs), batch.targets)

    def evaluate(self) -> dict[str, float]:
        """Nothing: the window is what is watched here."""
        return {}


def cycle_of(period: int, cycles: int) -> Cycle:
    """The cycle in observations."""
    return Cycle(low=LOW, high=HIGH, period=period, cycles=cycles)


def collect(found: Found, readings: Iterable[Readings], period: int) -> None:
    """Adds the loops of one stream to those of other periods and seeds."""
    for reading in readings:
        found.setdefault(reading.name, []).append(loops(reading.time, reading.values, period=period, bins=BINS))


def planted_loops(kind: str, periods: tuple[int, ...], cycles: int, seeds: Iterable[int]) -> Found:
    """Loops of a planted stream."""
    found: Found = {}
    for seed in seeds:
        for period in periods:
            cycle = cycle_of(period, cycles)
            position = cycle.position(np.arange(cycle.steps))
            rng = np.random.default_rng([seed, period])
            rows = planted(position, cycle.rates(), Drift(dynamics=kind), rng, horizon=2 * WINDOW)
            collect(found, read(rows, window=WINDOW, every=1), period)
    return found


def watching(task: Tracking | Addition) -> se.Monitor:
    """A monitor of a live run."""
    return se.Monitor(
        task.model, task.optimizer, window=WINDOW, every=EVERY, engine="exact", store="groups", null="iid"
    )


def live_loops(periods: tuple[int, ...], cycles: int, settle: int, seeds: Iterable[int]) -> tuple[Found, Found]:
    """Loops of live runs, one for each seed and period, and of their twins."""
    found: Found = {}
    copied: Found = {}
    for seed in seeds:
        rows = np.empty(0)
        for period in periods:
            task = Tracking(seed=seed)
            for _ in range(settle):
                task.train_step()
            monitor = watching(task)

            def step(monitor: se.Monitor = monitor, task: Tracking = task) -> None:
                task.train_step()
                monitor.step()

            drive(task.optimizer, Cycle(low=LOW, high=HIGH, period=period * EVERY, cycles=cycles), step)
            rows = monitor.trace.lag_rows()
            collect(found, read(rows, window=WINDOW, every=1), period)
        slowest = cycle_of(periods[-1], cycles)
        matched = twin(rows, slowest.position(np.arange(slowest.steps)), window=WINDOW, bins=BINS)
        for period in periods:
            cycle = cycle_of(period, cycles)
            rng = np.random.default_rng([seed, period])
            drawn = matched.draw(cycle.position(np.arange(cycle.steps)), rng, horizon=2 * WINDOW)
            collect(copied, read(drawn, window=WINDOW, every=1), period)
    return found, copied


def settled(steps: int, watched: int) -> dict[str, list[float]]:
    """What a run that has learned its task shows at constant learning rates: mean responses, one for each rate."""
    task = Addition(seed=0)
    for _ in range(steps):
        task.train_step()
    state = copy.deepcopy(task.state_dict())
    found: dict[str, list[float]] = {}
    for rate in CONSTANT:
        task.load_state_dict(copy.deepcopy(state))
        for group in task.optimizer.param_groups:
            group["lr"] = rate
        monitor = watching(task)
        for _ in range(watched):
            task.train_step()
            monitor.step()
        for reading in read(monitor.trace.lag_rows(), window=WINDOW):
            found.setdefault(reading.name, []).append(float(np.nanmean(reading.values)))
    return found


@dataclass(frozen=True)
class Branches:
    """Branches of the slowest cycle, averaged over seeds.

    Attributes:
        control: centres of the bins of the control, 0 to 1.
        up: response on the way up.
        down: on the way down.
    """

    control: np.ndarray
    up: np.ndarray
    down: np.ndarray


def slowest_branches(found: list[Loops]) -> Branches:
    """The branches at the longest period."""
    longest = max(one.period for one in found)
    chosen = [one for one in found if one.period == longest]
    up, down = (np.mean([getattr(one, branch) for one in chosen], axis=0) for branch in ("up", "down"))
    return Branches(chosen[0].control, up, down)


TITLES = {"loop": "planted loop", "lag": "planted lag", "live": "live runs", "twin": "their open-loop twins"}
RESPONSE = "log_ratio"


def sentences(judged: Mapping[str, Mapping[str, RateDependence]], at_rest: Mapping[str, list[float]]) -> list[str]:
    """Findings, one line for each stream, and one for the settled run."""
    lines: list[str] = []
    for name, by_response in judged.items():
        one = by_response[RESPONSE]
        verdicts = ", ".join(f"{response} {value.verdict}" for response, value in by_response.items())
        lines.append(
            f"{TITLES[name]}: loop area in ln R from {one.areas[0]:.3f} at the shortest period to {one.areas[-1]:.3f}"
            f" at the longest, {one.low:.3f} to {one.high:.3f} at an infinite one ({one.remaining:.3f} if one lag is"
            f" all that trails), {one.span:.2f} the span of the response: {verdicts}."
        )
    values, kept = (", ".join(f"{value:.2f}" for value in at_rest[name]) for name in (RESPONSE, "overlap"))
    lines.append(f"A settled run at {len(CONSTANT)} constant learning rates: ln R {values}, overlap at lag W {kept}.")
    return lines


def picture(found: Mapping[str, Found], judged: Mapping[str, Mapping[str, RateDependence]], path: Path) -> None:
    """Branches at the longest period, and areas against the period."""
    figure = new_figure(800)
    axes = figure.subplots(2, len(found), sharey="row")
    figure.subplots_adjust(left=0.055, right=0.99, top=0.9, bottom=0.09, wspace=0.09, hspace=0.32)
    for column, (name, by_response) in enumerate(found.items()):
        one, slowest = judged[name][RESPONSE], slowest_branches(by_response[RESPONSE])
        top, bottom = axes[0][column], axes[1][column]
        plain(top)
        plain(bottom)
        top.plot(slowest.control, slowest.up, "o-", color=COLOURS["run"], linewidth=2, label="learning rate rises")
        top.plot(slowest.control, slowest.down, "s-", color=COLOURS["control"], linewidth=2, label="falls")
        top.set_title(f"{TITLES[name]}:\n{one.verdict}", loc="left", fontsize=LARGE, color=INK)
        top.set_xlim(0, 1)
        top.set_xticks([0.0, 0.25, 0.5, 0.75])
        top.set_xlabel("ln learning rate, 0 lowest to 1 highest", fontsize=NORMAL)
        bottom.errorbar(one.periods, one.areas, yerr=2 * one.errors, fmt="o", color=INK, capsize=3)
        fine = np.geomspace(one.periods[0] / 1.3, one.periods[-1] * 3, 200)
        shape = lag_area(one.periods, one.relaxation)
        height = float(((one.areas - one.remaining) @ shape) / (shape @ shape))
        bottom.plot(
            fine, one.remaining + height * lag_area(fine, one.relaxation), color=FAINT, linewidth=1.4, label="one lag"
        )
        end = fine[-1] * 1.25
        if math.isfinite(one.low) and math.isfinite(one.high):
            bottom.plot([end, end], [one.low, one.high], color="#009E73", linewidth=5, label="interval at infinity")
        bottom.axhline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        bottom.set_xscale("log")
        bottom.set_xticks(one.periods, [f"{period:g}" for period in one.periods])
        bottom.xaxis.set_minor_formatter(NullFormatter())
        bottom.set_xlabel("period, in observations", fontsize=NORMAL)
    axes[0][0].set_ylabel("ln R at k*, slowest cycle", fontsize=NORMAL)
    axes[1][0].set_ylabel("loop area in ln R", fontsize=NORMAL)
    axes[0][0].legend(frameon=False, loc="upper left", fontsize=SMALL)
    axes[1][1].legend(frameon=False, loc="upper right", fontsize=SMALL)
    figure.savefig(path, dpi=80)


def main() -> None:
    """Runs all four streams."""
    options = script_options(
        "Hysteresis under a slow learning-rate cycle, told from lag.", "examples/theory/hysteresis.py"
    )
    torch.set_num_threads(1)
    periods, cycles, settle = ((16, 32, 64), 6, 20) if options.quick else (PERIODS, CYCLES, SETTLE)
    rest, watched = (20, 150) if options.quick else (6000, 2500)
    seeds = range(FIRST_SEED, FIRST_SEED + (1 if options.quick else SEEDS))
    found: dict[str, Found] = {kind: planted_loops(kind, periods, cycles, seeds) for kind in ("loop", "lag")}
    found["live"], found["twin"] = live_loops(periods, cycles, settle, seeds)
    judged = {
        name: {response: rate_dependence(each) for response, each in by_response.items()}
        for name, by_response in found.items()
    }
    at_rest = settled(rest, watched)
    print("\n".join(sentences(judged, at_rest)))
    picture(found, judged, options.out / "hysteresis.png")
    save(
        options.results / "hysteresis.json",
        command=options.command,
        settings={
            "low": LOW,
            "high": HIGH,
            "periods": periods,
            "cycles": cycles,
            "every": EVERY,
            "window": WINDOW,
            "bins": BINS,
            "seeds": list(seeds),
            "settle": settle,
            "tracking": {
                "inputs": INPUTS,
                "hidden": HIDDEN,
                "batch": BATCH,
                "noise": NOISE,
                "turn": TURN,
                "planes": PLANES,
            },
            "settled": {"steps": rest, "watched": watched, "rates": CONSTANT, "seed": 0},
        },
        numbers={
            name: {
                "branches": {response: slowest_branches(each) for response, each in by_response.items()},
                "judged": judged[name],
            }
            for name, by_response in found.items()
        }
        | {"settled": at_rest},
    )


if __name__ == "__main__":
    main()
