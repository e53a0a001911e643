"""Lifecycle of a mode: gradient and decay along it, the commutator of two batches, and its removal from the weights.

python examples/theory/lifecycle.py           # about five minutes on one core
python examples/theory/lifecycle.py --again   # the same on 22 fresh seeds, about twenty minutes
python examples/theory/lifecycle.py --quick   # seconds; its numbers are not to be quoted

Small networks learn addition modulo 31, by full batch and by mini-batches, and grok. Controls with the same seed, read
at the step where their pair groks: no decay, and the same decay with 30 % of the pairs, which never generalises.

Rules, with tasks and lengths of runs, were fixed on pilot seeds 100 to 102, which are not among those of the trial.

- Grok: first of three successive test accuracies of .95 or more. Flip: first of three successive windows in which the
  gradient's share of energy on v_1 is below .2, after one above .8 (the published values).
- "The share has flipped at grok" *holds* if the 95 % interval of the share there (Student's t over seeds) lies below
  .5, *fails* if it lies above .5, else *cannot tell*.
- Events (flip in the run; defect onset by the grok step) are *specific* to runs that grok if the exact 95 % interval of
  their frequency lies above .5 there and below .5 in the control, *not discriminating* if it lies above .5 in both,
  *absent* if it lies below .5 in the runs that grok, else *cannot tell*.
- Defect onset, as published: first value above 20 and above ten times the median of the first three.
- "Removing v_1 hurts more than its controls" is *supported* if the intervals of the paired differences in test accuracy
  to random directions of the same length and to shrinking all weights as far both lie below 0, *contradicted* if either
  lies above 0, else *cannot tell*. Read at three steps: the last with a training accuracy of .99 and a test accuracy
  below .5, the first at or after grok, and the first 1,000 steps later.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import binomtest
from torch import nn
from torch.nn import functional

import spectral_edge as se
from spectral_edge import modes
from spectral_edge.evaluate.lifecycle import lifecycle
from spectral_edge.evaluate.probed import ProbedTrace, Products
from spectral_edge.measure import attribution, grams, spectrum
from spectral_edge.measure.motion import progress_share
from spectral_edge.modes.ablation import ablate
from spectral_edge.modes.commutator import commutator_defect, commutator_defect_pub
from spectral_edge.modes.contrast import paired
from spectral_edge.modes.lifecycle import DecayAccumulator
from spectral_edge.modes.vectors import displaced
from spectral_edge.simulate.record import save, script_options

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MODULUS, WINDOW, RATE, BATCH, PAIRS, DRAWS = 31, 10, 1e-3, 128, 5, 8


@dataclass(frozen=True)
class Regime:
    """How batches are drawn, for how long the runs go on, and how often they are measured.

    Attributes:
        title: for people.
        batch: pairs drawn a step; None trains on all of them.
        steps: of each run, by arm.
        every: steps between two observations.
        ablate_every: steps between two ablations.
        defect_every: steps between two defects; None measures none.
        defect_last: last step at which the defect is measured.
    """

    title: str
    batch: int | None
    steps: Mapping[str, int]
    every: int = 50
    ablate_every: int = 250
    defect_every: int | None = None
    defect_last: int = 4000


ARMS = {"decay": (1.0, 0.75), "no decay": (0.0, 0.75), "less data": (1.0, 0.3)}
"""Weight decay, and the share of all pairs that is trained on."""
REGIMES = {
    "full": Regime("full batch", None, {"decay": 3500, "less data": 3500}),
    "mini": Regime(
        "mini-batches of 128",
        BATCH,
        {"decay": 7000, "no decay": 4000, "less data": 7000},
        ablate_every=500,
        defect_every=100,
    ),
}
SEEDS, AGAIN = range(6), range(6, 28)
"""Of the trial, and of its repetition, for which nothing was chosen after anything had been seen."""


class Addition:
    """A two-layer network with an embedding that learns addition modulo 31, and groks if shown enough pairs."""

    def __init__(self, *, seed: int, decay: float, fraction: float, batch: int | None) -> None:
        order = torch.randperm(MODULUS**2, generator=torch.Generator().manual_seed(seed))
        self.pairs = torch.cartesian_prod(torch.arange(MODULUS), torch.arange(MODULUS))[order]
        self.labels = self.pairs.sum(dim=1) % MODULUS
        self.cut, self.batch = int(fraction * len(self.pairs)), batch
        torch.manual_seed(seed)
        self.model = nn.Sequential(
            nn.Embedding(MODULUS, 32), nn.Flatten(), nn.Linear(64, 128), nn.GELU(), nn.Linear(128, MODULUS)
        )
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=decay, fused=True
        )
        self.drawn = torch.Generator().manual_seed(seed + 1000)
        self.probed = torch.Generator().manual_seed(seed + 2000)

    def step(self) -> None:
        """One step of training."""
        rows = slice(0, self.cut)
        if self.batch is not None:
            rows = torch.randint(self.cut, (self.batch,), generator=self.drawn)
        self.optimizer.zero_grad()
        functional.cross_entropy(self.model(self.pairs[rows]), self.labels[rows]).backward()
        self.optimizer.step()

    @torch.no_grad()
    def correct(self) -> torch.Tensor:
        """Which of all pairs come out right, those of training first."""
        return (self.model(self.pairs).argmax(dim=1) == self.labels).double()

    def test_accuracy(self) -> float:
        """Share of the held-out pairs that come out right."""
        return float(self.correct()[self.cut :].mean())

    def train_accuracy(self) -> float:
        """Share of the training pairs that come out right."""
        return float(self.correct()[: self.cut].mean())

    def defects(self) -> dict[str, float]:
        """Medians over pairs of batches, by name of the form."""
        narrow, wide = self.model, copy.deepcopy(self.model).double()
        batches = torch.randint(self.cut, (PAIRS, 2, min(BATCH, self.cut)), generator=self.probed)

        def losses(model: nn.Module) -> list[tuple[modes.Loss, modes.Loss]]:
            def of(rows: torch.Tensor) -> modes.Loss:
                return lambda: functional.cross_entropy(model(self.pairs[rows]), self.labels[rows])

            return [(of(a), of(b)) for a, b in batches]

        found = commutator_defect(wide, losses(wide))
        return {
            "unnormalised": found.median,
            "normalised": found.median_normalised,
            "published, float64": float(np.median(commutator_defect_pub(wide, losses(wide), learning_rate=RATE))),
            "published, float32": float(np.median(commutator_defect_pub(narrow, losses(narrow), learning_rate=RATE))),
        }


@dataclass
class Run:
    """What one run showed, by step.

    Attributes:
        accuracy: of test pairs.
        memorised: accuracy of training pairs.
        norm: |theta|.
        defects: as `Addition.defects` names them.
        ablations: what removing a direction did, by name of the direction.
        shares: along the modes.
    """

    accuracy: dict[int, float] = field(default_factory=dict)
    memorised: dict[int, float] = field(default_factory=dict)
    norm: dict[int, float] = field(default_factory=dict)
    defects: dict[int, dict[str, float]] = field(default_factory=dict)
    ablations: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    shares: Shares | None = None

    @property
    def grok(self) -> int | None:
        """First of three successive test accuracies of .95 or more."""
        return lasting(self.accuracy, np.array(list(self.accuracy.values())) >= 0.95)

    @property
    def flip(self) -> int | None:
        """First of three successive windows with v_1's share below .2, after one above .8."""
        assert self.shares is not None
        first = self.shares.share[:, 0]
        before = np.maximum.accumulate(np.where(np.isnan(first), 0.0, first)) > 0.8
        return lasting(self.shares.step.tolist(), before & (first < 0.2))

    @property
    def peak(self) -> int:
        """Step of the largest |theta| from the first window on."""
        assert self.shares is not None
        return max((step for step in self.norm if step >= self.shares.step[0]), key=self.norm.__getitem__)

    def onset(self, form: str) -> int | None:
        """Onset of the defect by the published rule."""
        values = np.array([found[form] for found in self.defects.values()])
        fires = (values > 20) & (values > 10 * np.median(values[:3]))
        return next((step for step, fire in zip(self.defects, fires, strict=True) if fire), None)

    def largest_before(self, step: int | None) -> float:
        """Largest share on v_1 in the windows up to a step; NaN where there is none."""
        assert self.shares is not None
        seen = self.shares.share[self.shares.step <= (step or 0), 0]
        return float(seen.max()) if len(seen) else float("nan")

    def last(self, column: str) -> float:
        """A column of the shares in the last window, of v_1 where there is one for each mode."""
        assert self.shares is not None
        return float(np.ravel(getattr(self.shares, column)[-1])[0])

    def at(self, step: int | None, column: str, mode: int | None = None) -> float:
        """A column of the shares in the window that ends at a step; NaN without a step."""
        assert self.shares is not None
        where = np.flatnonzero(self.shares.step == step)
        if not len(where):
            return float("nan")
        values = getattr(self.shares, column)[where[0]]
        return float(values if mode is None else values[mode])


def lasting(steps: Mapping[int, float] | Sequence[int], holds: np.ndarray) -> int | None:
    """First step from which something holds three times running."""
    three = holds[:-2] & holds[1:-1] & holds[2:]
    return list(steps)[int(np.argmax(three))] if three.any() else None


@dataclass(frozen=True)
class Shares:
    """Shares of gradient and decay along the modes of N windows.

    Attributes:
        step: of the windows' last updates [N].
        share: energy share of the gradient by mode [N, W].
        moved_pub: how far the published trapezoid moves the share on v_1 [N].
        whole: energy share of the gradient in the whole update [N].
        alignment: sign of the product of the two parts by mode [N, W].
        cosine: of the two parts as whole vectors [N].
        progress: (1^T u_1)^2 / W [N].
        trapezoid_pub: relative error of the published trapezoid [N].
        trapezoid: the same of the library's, which knows that decay acts at the start of each step [N].
    """

    step: np.ndarray
    share: np.ndarray
    moved_pub: np.ndarray
    whole: np.ndarray
    alignment: np.ndarray
    cosine: np.ndarray
    progress: np.ndarray
    trapezoid_pub: np.ndarray
    trapezoid: np.ndarray


def read_shares(trace: ProbedTrace) -> Shares:
    """Shares along the modes, from what was recorded."""
    series = lifecycle(trace)
    index = np.searchsorted(trace.steps, series.step)
    measured = spectrum(grams(trace.lag_rows(), index, size=WINDOW))
    rough = attribution.mode_gradients(measured, Products(trace, WINDOW, None).at("lifecycle/decay_pub", index)[0])
    moved = attribution.mode_steps(measured)
    errors = [
        dict(zip(*(column.tolist() for column in trace.metrics(f"lifecycle/{name}")), strict=True))
        for name in ("trapezoid_error_pub", "trapezoid_error")
    ]
    decays = series.decay_energy > 0
    return Shares(
        series.step,
        series.share,
        np.abs(attribution.gradient_share(moved - rough, rough)[:, 0] - series.share[:, 0]),
        np.where(decays, series.gradient_energy / (series.gradient_energy + series.decay_energy), np.nan),
        series.alignment,
        series.cosine,
        progress_share(measured)[:, 0],
        *(np.array([each[int(step)] for step in series.step]) for each in errors),
    )


def train(regime: Regime, arm: str, seed: int) -> Run:
    """Trains one network and measures it."""
    decay, fraction = ARMS[arm]
    task, run = Addition(seed=seed, decay=decay, fraction=fraction, batch=regime.batch), Run()
    parameters = modes.named(task.model)
    monitor = se.Monitor(task.model, task.optimizer, window=WINDOW, every=regime.every, engine="exact", store="groups")
    accumulator = DecayAccumulator(monitor, task.model, task.optimizer)
    before = modes.scaled(parameters, 1.0)
    for step in range(1, regime.steps[arm] + 1):
        task.step()
        monitor.step()
        parts = accumulator.observe()
        if parts is not None:
            # As published: the mean of the interval's two ends.
            rough = modes.scaled(modes.added(before, parameters), -0.5 * RATE * decay * regime.every)
            size = modes.norm(parts[1])
            error = modes.norm(modes.added(rough, parts[1], -1.0)) / size if size else float("nan")
            monitor.probe(**{"lifecycle/decay_pub": rough})
            monitor.log(**{"lifecycle/trapezoid_error_pub": error})
            before = modes.scaled(parameters, 1.0)
            run.memorised[step], run.accuracy[step] = task.train_accuracy(), task.test_accuracy()
            run.norm[step] = modes.norm(parameters)
        if regime.defect_every and step % regime.defect_every == 0 and step <= regime.defect_last:
            run.defects[step] = task.defects()
        if arm == "decay" and step % regime.ablate_every == 0 and step >= regime.every * WINDOW:
            run.ablations[step] = ablations(task, monitor.modes(), seed)
    run.shares = read_shares(monitor.trace)  # pyright: ignore[reportArgumentType]
    return run


def ablations(task: Addition, found: modes.Modes, seed: int) -> dict[str, dict[str, float]]:
    """Change of test and training accuracy when v_1, or v_1 and v_2, leave the weights, and under the controls."""
    theta = modes.scaled(modes.named(task.model), 1.0)
    first, second = found.directions[:2]
    along = found.projections(theta)
    # Taking out the projection on the pair's span takes out the pair.
    pair = modes.added(modes.scaled(first, along[0]), second, along[1])
    drift: modes.Vector = {}
    for weight, direction in zip(found.sigma * found.left.sum(axis=0), found.directions, strict=False):
        drift = modes.added(drift, direction, float(weight))
    made: dict[str, dict[str, float]] = {}
    for name, direction in {"v1": first, "v1 and v2": pair}.items():
        unit = modes.scaled(direction, 1 / modes.norm(direction))
        one: dict[str, float] = {}
        for kind, score in {"test": task.test_accuracy, "train": task.train_accuracy}.items():
            result = ablate(task.model, unit, score, generator=torch.Generator().manual_seed(seed + 3000), draws=DRAWS)
            one[f"{kind} baseline"] = result.baseline
            for arm in ("removed", "shrunk", "random", "unmatched_pub"):
                one[f"{kind} {arm}"] = float(np.mean(getattr(result, arm))) - result.baseline
            one |= {
                "displacement": result.displacement,
                "share of theta": result.share,
                "unmatched displacement": float(result.unmatched_displacement.mean()),
            }
        one |= apart(task, unit, theta)
        # Does the displacement go on along the window's motion (1) or back (-1), and for how many windows?
        one["forward"] = -modes.dot(unit, theta) * modes.dot(unit, drift) / (one["displacement"] * modes.norm(drift))
        one["windows"] = one["displacement"] / modes.norm(drift)
        made[name] = one
    return made


def apart(task: Addition, unit: modes.Vector, theta: modes.Vector) -> dict[str, float]:
    """What the displacement's parts along and across theta do alone, and the displacement turned round."""
    along = modes.dot(unit, theta)
    moved = modes.scaled(unit, -along)
    radial = modes.scaled(theta, -((along / modes.norm(theta)) ** 2))
    baseline, parameters = task.test_accuracy(), modes.named(task.model)

    def after(by: modes.Vector) -> float:
        with displaced(parameters, by):
            return task.test_accuracy() - baseline

    return {
        "test radial": after(radial),
        "test across": after(modes.added(moved, radial, -1.0)),
        "test reversed": after(modes.scaled(moved, -1.0)),
        "test without theta": after(modes.scaled(theta, -1.0)),
    }


Runs = Mapping[str, Sequence[Run]]
"""Of one regime, by arm; the same place in each is the same seed."""


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds with its 95 % interval by Student's t, and the values."""
    found = paired(list(values))
    return {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n, "each": list(values)}


def frequency(happened: Sequence[bool]) -> dict[str, Any]:
    """How often something happened, with the exact 95 % interval."""
    if not happened:
        return {"count": 0, "of": 0, "low": 0.0, "high": 1.0}
    found = binomtest(sum(happened), len(happened)).proportion_ci(0.95, method="exact")
    return {"count": sum(happened), "of": len(happened), "low": found.low, "high": found.high}


def specific(runs: Mapping[str, Any], control: Mapping[str, Any]) -> str:
    """The verdict on an event, by the rule at the head."""
    if runs["high"] < 0.5:
        return "absent"
    if runs["low"] > 0.5 and control["low"] > 0.5:
        return "not discriminating"
    return "specific" if runs["low"] > 0.5 and control["high"] < 0.5 else "cannot tell"


def gap(later: int | None, earlier: int | None) -> float:
    """Steps between two events; NaN unless both happened."""
    return float("nan") if later is None or earlier is None else float(later - earlier)


def share_numbers(runs: Runs) -> dict[str, Any]:
    """Part (a): the gradient's share, where it flips, and what the control without generalisation does."""
    pair = {arm: runs[arm] for arm in ("decay", "less data")}
    ours, control = pair.values()
    groks = [run.grok for run in ours]

    def at_grok(each: Sequence[Run], column: str, mode: int | None = None) -> dict[str, Any]:
        return interval([run.at(grok, column, mode) for run, grok in zip(each, groks, strict=True)])

    def over_all(column: str) -> np.ndarray:
        return np.concatenate([getattr(run.shares, column) for run in (*ours, *control)])

    first = at_grok(ours, "share", 0)
    flips = {arm: frequency([run.flip is not None for run in each]) for arm, each in pair.items()}
    aligned = [run.at(grok, "alignment", 0) > 0 for run, grok in zip(ours, groks, strict=True) if grok]
    return {
        "grok": groks,
        "test accuracy of less data": max(run.accuracy[max(run.accuracy)] for run in control),
        "share before grok, largest": interval(
            [run.largest_before(grok) for run, grok in zip(ours, groks, strict=True)]
        ),
        "share at grok": {f"v{j + 1}": at_grok(ours, "share", j) for j in range(3)},
        "share at grok, whole update": at_grok(ours, "whole"),
        "share at grok, v1 of less data": at_grok(control, "share", 0),
        "flipped at grok": "holds" if first["high"] < 0.5 else "fails" if first["low"] > 0.5 else "cannot tell",
        "parts aligned at grok": frequency(aligned),
        "flip": {arm: [run.flip for run in each] for arm, each in pair.items()},
        "flips": flips,
        "flip specific": specific(flips["decay"], flips["less data"]),
        "flip after grok": interval([gap(run.flip, run.grok) for run in ours]),
        "flip after largest norm": {
            arm: interval([gap(run.flip, run.peak) for run in each]) for arm, each in pair.items()
        },
        "flip of less data after the run's": interval(
            [gap(b.flip, a.flip) for a, b in zip(ours, control, strict=True)]
        ),
        "at the end": {
            column: {arm: interval([run.last(column) for run in each]) for arm, each in pair.items()}
            for column in ("share", "whole", "cosine")
        },
        "progress share of v1, median": float(np.median(over_all("progress"))),
        "largest error of trapezoid_pub": float(over_all("trapezoid_pub").max()),
        "largest error of trapezoid": float(over_all("trapezoid").max()),
        "largest change of v1's share by trapezoid_pub": float(over_all("moved_pub").max()),
    }


FORMS = ("published, float32", "published, float64", "normalised")


def defect_numbers(runs: Runs) -> dict[str, Any]:
    """Part (b): onsets of the defect in runs that grok and in their controls, and values at grok."""
    groks = [run.grok for run in runs["decay"]]
    undefined = all(np.isnan(run.last("share")) for run in runs["no decay"])
    found: dict[str, Any] = {"shares without decay are undefined": undefined}
    for form in FORMS:
        onsets = {arm: [run.onset(form) for run in runs[arm]] for arm in ARMS}
        fired = {
            arm: frequency([gap(grok, at) >= 0 for at, grok in zip(each, groks, strict=True) if grok])
            for arm, each in onsets.items()
        }
        beyond = [
            run.defects[at][form] / run.defects[at]["normalised"] for run in runs["decay"] if (at := run.onset(form))
        ]
        leads = [gap(ours, control) for ours, control in zip(onsets["decay"], onsets["no decay"], strict=True)]
        largest = {arm: [max(one[form] for one in run.defects.values()) for run in runs[arm]] for arm in ARMS}
        found[form] = {
            "onset": onsets,
            "fired by the grok step": fired,
            "against no decay": specific(fired["decay"], fired["no decay"]),
            "against less data": specific(fired["decay"], fired["less data"]),
            "lead": interval([gap(grok, at) for grok, at in zip(groks, onsets["decay"], strict=True)]),
            "lead of no decay on the run": interval(leads),
            "at onset, over the limit of small steps": interval(beyond),
            "largest": {arm: interval(each) for arm, each in largest.items()},
            "exactly zero from": {
                arm: [next((step for step, one in run.defects.items() if one[form] == 0), None) for run in runs[arm]]
                for arm in ARMS
            },
        }
    for form in ("normalised", "unnormalised"):
        found[f"{form}, at the grok step"] = {
            arm: interval([near(run.defects, grok, form) for run, grok in zip(runs[arm], groks, strict=True)])
            for arm in ARMS
        }
    return found


def near(defects: Mapping[int, Mapping[str, float]], step: int | None, form: str) -> float:
    """The last defect measured up to a step."""
    known = [at for at in defects if step is not None and at <= step]
    return defects[known[-1]][form] if known else float("nan")


MOMENTS = ("before", "at", "after")


def moments(run: Run) -> dict[str, int | None]:
    """The three steps at which ablations are read."""
    grok, steps = run.grok, list(run.ablations)
    if grok is None:
        return dict.fromkeys(MOMENTS)
    before = [s for s in steps if s < grok and run.memorised[s] >= 0.99 and run.accuracy[s] < 0.5]
    at, after = (next((s for s in steps if s >= grok + wait), None) for wait in (0, 1000))
    return {"before": before[-1] if before else None, "at": at, "after": after}


CONTROLS = ("removed", "shrunk", "random", "unmatched_pub", "radial", "across", "reversed", "without theta")


def ablation_numbers(runs: Runs) -> dict[str, Any]:
    """Part (c): effects on test accuracy of removing v_1, or v_1 and v_2, and of the controls."""
    ours = runs["decay"]
    steps = [moments(run) for run in ours]
    found: dict[str, Any] = {"steps": steps}
    for moment in MOMENTS:
        for name in ("v1", "v1 and v2"):
            each = [
                run.ablations[s][name] for run, at in zip(ours, steps, strict=True) if (s := at[moment]) is not None
            ]
            effects = {arm: interval([one[f"test {arm}"] for one in each]) for arm in CONTROLS}
            differences = {
                control: interval([one["test removed"] - one[f"test {control}"] for one in each])
                for control in ("random", "shrunk")
            }
            verdict = "cannot tell"
            if all(one["high"] < 0 for one in differences.values()):
                verdict = "supported"
            elif any(one["low"] > 0 for one in differences.values()):
                verdict = "contradicted"
            columns = ("displacement", "share of theta", "unmatched displacement", "forward", "windows")
            found[f"{moment}, {name}"] = {
                "baseline": interval([one["test baseline"] for one in each]),
                **effects,
                "removed less": differences,
                "verdict": verdict,
                **{column: interval([one[column] for one in each]) for column in columns},
            }
    return found


def sentences(numbers: Mapping[str, Any]) -> list[str]:
    """What was found, in words."""

    def told(value: Mapping[str, Any]) -> str:
        return f"{value['mean']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"

    def count(value: Mapping[str, Any]) -> str:
        return f"{value['count']} of {value['of']}"

    found: list[str] = []
    for regime in REGIMES:
        title, shares, removed = REGIMES[regime].title, numbers[regime]["shares"], numbers[regime]["ablation"]
        flips = shares["flips"]
        found += [
            f"{title}: the gradient's share on v_1 is {told(shares['share at grok']['v1'])} at the grok step: that it "
            f"has flipped {shares['flipped at grok']}. It flips {told(shares['flip after grok'])} steps after grok.",
            f"{title}: it flips in {count(flips['decay'])} runs that grok, in {count(flips['less data'])} that never "
            f"generalise ({shares['flip specific']}), {told(shares['flip after largest norm']['decay'])} steps after "
            "|theta| was largest.",
        ]
        for moment in MOMENTS:
            one = removed[f"{moment}, v1"]
            found.append(
                f"{title}, {moment} grok: removing v_1 changes test accuracy by {told(one['removed'])}, a random "
                f"direction as long {told(one['random'])}, shrinking as far {told(one['shrunk'])}, the reverse "
                f"{told(one['reversed'])}; forward {told(one['forward'])}: {one['verdict']}."
            )
    for form in FORMS:
        one = numbers["mini"]["defect"][form]
        fired = ", ".join(f"{count(value)} {arm}" for arm, value in one["fired by the grok step"].items())
        found.append(f"Defect, {form}: fired by the grok step in {fired}: {one['against no decay']} (no decay).")
    return found


BLUE, ORANGE, GREY, GREEN, PINK = "#0072B2", "#D55E00", "#8a8a8a", "#009E73", "#CC79A7"
COLOURS = {"decay": BLUE, "no decay": GREY, "less data": ORANGE}
LABELS = {"decay": "groks", "no decay": "no decay", "less data": "30 % of the pairs"}


def picture(found: Mapping[str, Runs], numbers: Mapping[str, Any], path: Path) -> None:
    """The figure of the page."""
    from PIL import Image

    from spectral_edge.plots.frame import new_figure

    figure = new_figure(1180)
    grid = figure.add_gridspec(2, 3, left=0.052, right=0.99, top=0.955, bottom=0.075, hspace=0.26, wspace=0.23)
    for column, (name, runs) in enumerate(found.items()):
        _shares(figure.add_subplot(grid[0, column]), REGIMES[name].title, runs)
    _norms(figure.add_subplot(grid[0, 2]), found["mini"])
    _defects(figure.add_subplot(grid[1, 0]), found["mini"])
    _products(figure.add_subplot(grid[1, 1]), found["mini"])
    _removals(figure.add_subplot(grid[1, 2]), numbers)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=78)
    Image.open(drawn).convert("RGB").quantize(256).save(path, optimize=True)


def _titled(ax: Axes, title: str, x: str, y: str) -> None:
    from spectral_edge.plots.frame import plain

    plain(ax)
    ax.set_title(title, loc="left", fontsize=14, fontweight="bold")
    ax.set_xlabel(x, fontsize=12.5)
    ax.set_ylabel(y, fontsize=12.5)


def _groks(ax: Axes, runs: Sequence[Run], height: float) -> None:
    """Grok steps of the runs, as ticks near the top."""
    steps = [run.grok for run in runs if run.grok]
    ax.plot(steps, np.full(len(steps), height), "v", color=BLUE, markersize=7, transform=ax.get_xaxis_transform())


def _shares(ax: Axes, title: str, runs: Runs) -> None:
    _titled(ax, f"{title[0].upper()}{title[1:]}: gradient's share", "step", "E$_g$ / (E$_g$ + E$_w$)")
    for arm in ("less data", "decay"):
        for n, run in enumerate(runs[arm]):
            assert run.shares is not None
            step, first = run.shares.step, run.shares.share[:, 0]
            ax.plot(step, first, color=COLOURS[arm], linewidth=1.1, label=None if n else f"v$_1$, {LABELS[arm]}")
        known = [run.shares for run in runs[arm] if run.shares]
        whole, label = np.mean([each.whole for each in known], axis=0), "whole update, mean" if arm == "decay" else None
        ax.plot(known[0].step, whole, color=COLOURS[arm], linestyle=(0, (5, 2)), linewidth=1.6, label=label)
    ax.set_ylim(-0.06, 1.25)
    ax.set_yticks([0, 0.2, 0.5, 0.8, 1])
    _groks(ax, runs["decay"], 0.02)
    ax.plot([], [], "v", color=BLUE, markersize=7, label="grok steps")
    ax.legend(loc="upper right", ncols=2, frameon=False, fontsize=11.5, columnspacing=1.0, handlelength=1.6)


def _norms(ax: Axes, runs: Runs) -> None:
    _titled(ax, "It flips as the weights stop growing", "step, mini-batches", "|θ| over its largest")
    for arm in ("less data", "decay"):
        for n, run in enumerate(runs[arm]):
            assert run.shares is not None
            steps = np.array([s for s in run.norm if s >= run.shares.step[0]])
            norm = np.array([run.norm[int(s)] for s in steps]) / run.norm[run.peak]
            ax.plot(steps, norm, color=COLOURS[arm], linewidth=1.1, label=None if n else LABELS[arm])
            if run.flip is not None:
                ax.plot(run.flip, run.norm[run.flip] / run.norm[run.peak], "o", color=COLOURS[arm], markersize=7)
    ax.plot([], [], "o", color=GREY, markersize=7, label="share on v$_1$ flips")
    _groks(ax, runs["decay"], 0.02)
    ax.legend(loc="lower right", frameon=False, fontsize=11.5, bbox_to_anchor=(1, 0.05))


def _defects(ax: Axes, runs: Runs) -> None:
    _titled(ax, "Normalised defect of two batches", "step, mini-batches", "defect / (|g$_A$| |g$_B$|), 1/u")
    styles = {"published, float32": "-", "published, float64": (0, (1, 1.4)), "normalised": (0, (5, 2))}
    for arm, each in runs.items():
        for form, style in styles.items():
            steps, values = _medians(each, form)
            ax.plot(steps, np.where(values > 0, values, np.nan), color=COLOURS[arm], linestyle=style, linewidth=1.7)
    ax.axhline(20, color="#222222", linewidth=1)
    ax.set_yscale("log")
    ax.set_ylim(0.1, 5e5)
    ax.text(3990, 23, "20", ha="right", fontsize=11)
    names = {
        "published, float32": "published, float32",
        "published, float64": "published, float64",
        "normalised": "by Hessian-vector products",
    }
    for form, style in styles.items():
        ax.plot([], [], color="#222222", linestyle=style, linewidth=1.7, label=names[form])
    for arm in runs:
        ax.plot([], [], color=COLOURS[arm], linewidth=4, label=LABELS[arm])
    _groks(ax, runs["decay"], 0.02)
    ax.legend(loc="upper left", ncols=2, frameon=False, fontsize=11.5, columnspacing=0.6, handletextpad=0.3)


def _products(ax: Axes, runs: Runs) -> None:
    _titled(ax, "The defect itself", "step, mini-batches", "|H$_B$g$_A$ − H$_A$g$_B$|")
    for arm, each in runs.items():
        steps, values = _medians(each, "unnormalised")
        ax.plot(steps, values, color=COLOURS[arm], linewidth=2, label=LABELS[arm])
    ax.set_yscale("log")
    _groks(ax, runs["decay"], 0.02)
    ax.legend(loc="upper right", frameon=False, fontsize=11.5)


def _medians(each: Sequence[Run], form: str) -> tuple[list[int], np.ndarray]:
    return list(each[0].defects), np.median([[d[form] for d in run.defects.values()] for run in each], axis=0)


def _removals(ax: Axes, numbers: Mapping[str, Any]) -> None:
    _titled(ax, "v$_1$ taken out of the weights", "", "change of test accuracy")
    shown = {
        "removed": ("v$_1$ removed", BLUE, "o"),
        "reversed": ("turned round", GREEN, "D"),
        "random": ("random, same length", ORANGE, "s"),
        "shrunk": ("θ shrunk, same length", PINK, "^"),
        "unmatched_pub": ("random, published", GREY, "x"),
    }
    places = [(regime, moment) for regime in REGIMES for moment in MOMENTS]
    for n, (arm, (label, colour, marker)) in enumerate(shown.items()):
        for x, (regime, moment) in enumerate(places):
            value = numbers[regime]["ablation"][f"{moment}, v1"][arm]
            at = x + 0.14 * (n - 2)
            if np.isfinite(value["low"]):
                ax.plot([at, at], [value["low"], value["high"]], color=colour, linewidth=1.8)
            ax.plot(at, value["mean"], marker, color=colour, markersize=7, label=None if x else label)
    ax.axhline(0, color="#222222", linewidth=0.8)
    ax.axvline(2.5, color="#dddddd")
    ax.set_xticks(range(len(places)), [moment for _, moment in places])
    ax.set_xlabel("grok: full batch (left), mini-batches (right)", fontsize=12.5)
    ax.set_ylim(-1.05, 1.35)
    ax.set_yticks([-1, -0.5, 0, 0.5])
    ax.legend(loc="upper left", ncols=2, frameon=False, fontsize=11.5, columnspacing=0.6, handletextpad=0.3)


def main() -> None:
    """Runs everything, prints what was found, writes the figure and its numbers."""
    torch.set_num_threads(1)
    options = script_options("Lifecycle of a mode.", "examples/theory/lifecycle.py", again="on 22 fresh seeds")
    regimes, seeds = REGIMES, AGAIN if options.again else SEEDS
    name = "lifecycle_again.png" if options.again else "lifecycle.png"
    if options.quick:
        regimes = {
            key: replace(
                one,
                steps=dict.fromkeys(one.steps, 120),
                every=10,
                ablate_every=60,
                defect_every=one.defect_every and 40,
            )
            for key, one in REGIMES.items()
        }
        seeds = seeds[:1]
    found = {
        key: {arm: [train(regime, arm, seed) for seed in seeds] for arm in regime.steps}
        for key, regime in regimes.items()
    }
    numbers: dict[str, Any] = {
        key: {"shares": share_numbers(runs), "ablation": ablation_numbers(runs)} for key, runs in found.items()
    }
    numbers["mini"]["defect"] = defect_numbers(found["mini"])
    said = sentences(numbers)
    print("\n".join(said))
    picture(found, numbers, options.out / name)
    save(
        (options.results / name).with_suffix(".json"),
        command=options.command,
        settings={
            "regimes": regimes,
            "arms": ARMS,
            "seeds": list(seeds),
            "modulus": MODULUS,
            "window": WINDOW,
            "rate": RATE,
            "pairs_of_batches": PAIRS,
            "random_directions": DRAWS,
        },
        numbers={**numbers, "sentences": said},
    )


if __name__ == "__main__":
    main()
