"""Does a slow cycle of the learning rate leave two branches? Planted streams, a live run, and its open-loop twin.

python examples/theory/hysteresis.py           # three minutes on one core
python examples/theory/hysteresis.py --quick   # seconds; its numbers are not to be quoted
"""

import copy
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import spectral_edge as se
from spectral_edge.experiments import SampledTask
from spectral_edge.modes.cycle import Cycle, drive, read
from spectral_edge.modes.hysteresis import Loops, RateDependence, lag_area, loops, rate_dependence
from spectral_edge.modes.streams import Drift, planted, twin
from spectral_edge.simulate.record import save, script_options

MODULUS, WINDOW, EVERY, BINS = 31, 10, 5, 8
LOW, HIGH = 3e-4, 3e-3
PERIODS, CYCLES, SETTLE = (80, 160, 320, 640), 5, 6000
"""Periods in observations of five steps each; the run has learned the task by step 6000."""

Found = Mapping[str, list[Loops]]


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

    def batch_loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of training pairs."""
        return functional.cross_entropy(self.model(self.pairs[rows]), self.labels[rows])

    def evaluate(self) -> dict[str, float]:
        """Nothing: the window is what is watched here."""
        return {}


def cycle_of(period: int, cycles: int) -> Cycle:
    """The cycle in observations."""
    return Cycle(low=LOW, high=HIGH, period=period, cycles=cycles)


def collect(found: dict[str, list[Loops]], rows: np.ndarray, period: int) -> None:
    """Adds the loops of one stream to those of other periods."""
    for reading in read(rows, window=WINDOW):
        found.setdefault(reading.name, []).append(loops(reading.time, reading.values, period=period, bins=BINS))


def planted_loops(kind: str, periods: tuple[int, ...], cycles: int) -> Found:
    """Loops of a planted stream."""
    found: dict[str, list[Loops]] = {}
    for period in periods:
        cycle = cycle_of(period, cycles)
        position = cycle.position(np.arange(cycle.steps))
        rng = np.random.default_rng(period)
        collect(found, planted(position, cycle.rates(), Drift(dynamics=kind), rng, horizon=2 * WINDOW), period)
    return found


def live_loops(periods: tuple[int, ...], cycles: int, settle: int) -> tuple[Found, Found]:
    """Loops of a live run, each period from the same settled checkpoint, and of its twin."""
    task = Addition(seed=0)
    for _ in range(settle):
        task.train_step()
    state = copy.deepcopy(task.state_dict())
    found: dict[str, list[Loops]] = {}
    rows = np.empty(0)
    for period in periods:
        task.load_state_dict(copy.deepcopy(state))
        monitor = se.Monitor(
            task.model, task.optimizer, window=WINDOW, every=EVERY, engine="exact", store="groups", null="iid"
        )

        def step(monitor: se.Monitor = monitor) -> None:
            task.train_step()
            monitor.step()

        drive(task.optimizer, Cycle(low=LOW, high=HIGH, period=period * EVERY, cycles=cycles), step)
        rows = monitor.trace.lag_rows()
        collect(found, rows, period)
    slowest = cycle_of(periods[-1], cycles)
    # Momentum .9 leaves this correlation between sums over five steps; the drift is what is common beyond it.
    memory = 0.9 * (1 - 0.9**EVERY) ** 2 / (EVERY * (1 - 0.81) - 1.8 * (1 - 0.9**EVERY))
    matched = twin(rows, slowest.position(np.arange(slowest.steps)), window=WINDOW, bins=BINS, memory=memory)
    copied: dict[str, list[Loops]] = {}
    for period in periods:
        cycle = cycle_of(period, cycles)
        rng = np.random.default_rng(period)
        collect(copied, matched.draw(cycle.position(np.arange(cycle.steps)), rng, horizon=2 * WINDOW), period)
    return found, copied


TITLES = {"loop": "planted loop", "lag": "planted lag", "live": "live run", "twin": "its open-loop twin"}
RESPONSE = "log_ratio"


def sentences(judged: Mapping[str, Mapping[str, RateDependence]]) -> list[str]:
    """Findings, one line for each stream."""
    lines = []
    for name, by_response in judged.items():
        one = by_response[RESPONSE]
        verdicts = ", ".join(f"{response} {value.verdict}" for response, value in by_response.items())
        lines.append(
            f"{TITLES[name]}: loop area in ln R from {one.areas[0]:.3f} at the shortest period to {one.areas[-1]:.3f}"
            f" at the longest, {one.remaining:.3f} [{one.low:.3f}, {one.high:.3f}] extrapolated,"
            f" {one.span:.2f} the span of the response: {verdicts}."
        )
    return lines


def picture(found: Mapping[str, Found], judged: Mapping[str, Mapping[str, RateDependence]], path: Path) -> None:
    """Branches at the longest period, and areas against the period."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.4), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(found))
    for column, (name, by_response) in enumerate(found.items()):
        one, slowest = judged[name][RESPONSE], by_response[RESPONSE][-1]
        top, bottom = axes[0][column], axes[1][column]
        top.plot(slowest.control, slowest.up, "o-", color="#0072B2", label="learning rate rises")
        top.plot(slowest.control, slowest.down, "s-", color="#D55E00", label="falls")
        top.set_title(f"{TITLES[name]}:\n{one.verdict}", loc="left", fontsize=12)
        top.set_xlabel("ln learning rate, 0 lowest to 1 highest")
        bottom.errorbar(one.periods, one.areas, yerr=2 * one.errors, fmt="o", color="#222222", capsize=3)
        fine = np.geomspace(one.periods[0] / 1.3, one.periods[-1] * 4, 200)
        shape = lag_area(one.periods, one.relaxation)
        height = float(((one.areas - one.remaining) @ shape) / (shape @ shape))
        bottom.plot(fine, one.remaining + height * lag_area(fine, one.relaxation), color="#777777", linewidth=1.2)
        end = fine[-1] * 1.15
        if math.isfinite(one.low) and math.isfinite(one.high):
            bottom.plot([end, end], [one.low, one.high], color="#009E73", linewidth=4, solid_capstyle="butt")
            bottom.plot(end, one.remaining, "D", color="#009E73", markersize=6)
        bottom.axhline(0, color="#222222", linewidth=0.8, linestyle=(0, (4, 3)))
        bottom.set_xscale("log")
        bottom.set_xlabel("period, in observations (green: extrapolated)")
        for ax in (top, bottom):
            ax.spines[["top", "right"]].set_visible(False)
            ax.grid(visible=True, axis="y", color="#ececec")
    axes[0][0].set_ylabel("ln R at k*, slowest cycle")
    axes[1][0].set_ylabel("loop area in ln R")
    axes[0][0].legend(frameon=False, loc="lower right")
    figure.savefig(path)


def main() -> None:
    """Runs all four streams."""
    options = script_options(
        "Hysteresis under a slow learning-rate cycle, told from lag.", "examples/theory/hysteresis.py"
    )
    torch.set_num_threads(1)
    periods, cycles, settle = ((80, 160, 320), 5, 100) if options.quick else (PERIODS, CYCLES, SETTLE)
    slow = periods if options.quick else tuple(2 * period for period in periods)
    found: dict[str, Found] = {kind: planted_loops(kind, slow, 7) for kind in ("loop", "lag")}
    found["live"], found["twin"] = live_loops(periods, cycles, settle)
    judged = {
        name: {response: rate_dependence(each) for response, each in by_response.items()}
        for name, by_response in found.items()
    }
    print("\n".join(sentences(judged)))
    picture(found, judged, options.out / "hysteresis.png")
    save(
        options.results / "hysteresis.json",
        command=options.command,
        settings={"low": LOW, "high": HIGH, "periods": periods, "planted_periods": slow, "every": EVERY}
        | {"cycles": cycles, "planted_cycles": 7, "window": WINDOW, "settle": settle, "seed": 0},
        numbers={
            name: {"loops": {response: each[-1] for response, each in found[name].items()}, "judged": judged[name]}
            for name in found
        },
    )


if __name__ == "__main__":
    main()
