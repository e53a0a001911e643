"""A mode's direction taken out of the weights, beside displacements of the same length that know nothing of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spectral_edge.errors import InputError
from spectral_edge.modes.undisturbed import Cost, Meter, Randomness, undisturbed
from spectral_edge.modes.vectors import Vector, displaced, dot, named, norm, random_like, scaled
from spectral_edge.modes.window import direction_of

Array = NDArray[np.float64]

Score = Callable[[], float]
"""What is measured on the model as it is now, for instance the validation loss or accuracy."""


@dataclass(frozen=True, slots=True)
class Ablation:
    """What removing a direction from the weights does, beside its controls; scores as the given function has them.

    Attributes:
        displacement: |<v, theta>|, how far the weights were moved, in u.
        share: displacement over |theta|.
        baseline: score of the weights as they are.
        removed: score without their component along v.
        shrunk: score of (1 - share) theta, moved as far.
        random: scores of weights moved as far in random directions [K].
        unmatched_pub: scores without their component along random directions, as published [K].
        unmatched_displacement: how far those moved them, about |theta| / sqrt(P) [K], in u.
        cost: what the measurement took.
    """

    displacement: float
    share: float
    baseline: float
    removed: float
    shrunk: float
    random: Array
    unmatched_pub: Array
    unmatched_displacement: Array
    cost: Cost

    @property
    def ratio_matched(self) -> float:
        """Size of the effect over the mean size of the random directions', at equal displacement."""
        return _quotient(abs(self.removed - self.baseline), np.abs(self.random - self.baseline))

    @property
    def ratio_pub(self) -> float:
        """The same against unmatched directions: about (|<v, theta>| sqrt(P) / |theta|)^p times the matched one.

        p is 1 where effects grow linearly with the displacement and 2 at a minimum.
        """
        return _quotient(abs(self.removed - self.baseline), np.abs(self.unmatched_pub - self.baseline))


def ablate(
    model: nn.Module,
    direction: Mapping[str, Tensor],
    score: Score,
    *,
    generator: torch.Generator,
    draws: int = 8,
) -> Ablation:
    """Takes a direction's component out of the weights and measures, with controls; weights are restored bit for bit.

    Every score begins from the same random state, so that dropout or drawn batches are the same in all of them.

    Args:
        model: measured on undisturbed.
        direction: of any length, for instance `monitor.modes().directions[0]`. Where it names some of the parameters
            only, random directions, shrinking and |theta| keep to those.
        score: what to measure.
        generator: of the random directions; seeded otherwise than the weights were, which the draws else resemble.
        draws: number K of random directions.

    Raises:
        InputError: if the direction is zero, or names no parameter of the model, or the score gives no number.
    """
    direction = direction_of(direction)
    parameters = {name: p for name, p in named(model).items() if name in direction}
    length = norm({name: direction[name] for name in parameters})
    if not length:
        raise InputError(
            "direction",
            expected="a vector along some of the model's parameters",
            found="zero" if parameters else "other names",
            remedy="pass one of monitor.modes().directions",
        )
    if draws < 1:
        raise InputError("draws", expected="at least 1", found=str(draws), remedy="use the default of 8")
    unit = scaled(direction, 1.0 / length)
    meter, random = Meter(), Randomness(parameters.values())

    def scored() -> float:
        meter.losses += 1
        random.restore()
        value = score()
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                "score",
                expected="a function that gives a number",
                found=type(value).__name__,
                remedy="return loss.item(), say",
            ) from error

    def moved(by: Vector, factor: float) -> float:
        with displaced(parameters, by, factor):
            return scored()

    with meter, undisturbed(model), torch.no_grad():
        theta = {name: p.detach().clone() for name, p in parameters.items()}
        size, along = norm(theta), dot(unit, theta)
        baseline = scored()
        removed = moved(unit, -along)
        shrunk = moved(theta, -abs(along) / size) if size else baseline
        matched: list[float] = []
        unmatched: list[tuple[float, float]] = []
        for _ in range(draws):
            noise = random_like(parameters, generator)
            noise = scaled(noise, 1.0 / norm(noise))
            matched.append(moved(noise, abs(along)))
            unmatched.append((moved(noise, -dot(noise, theta)), abs(dot(noise, theta))))
    scores, distances = np.array(unmatched).T
    share = abs(along) / size if size else float("nan")
    return Ablation(abs(along), share, baseline, removed, shrunk, np.array(matched), scores, distances, meter.cost)


def _quotient(effect: float, others: Array) -> float:
    mean = float(others.mean())
    return effect / mean if mean else float("nan")
