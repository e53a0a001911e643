"""Altering the updates of a live run along frozen directions, with the controls that make the result mean something.

After every optimizer step the step's update d = theta_after - theta_before is replaced by alpha d + sum_k beta_k v_k.
All arms have this form, so what an arm removes follows from a few inner products, which are taken in float64.

The optimizer's own state is not touched. Momentum and second moments go on as if nothing had been altered, except
that the next gradient is taken where the altered parameters are. So an arm answers "what if the parameters could not
move along v", not "what if there were no gradient along v".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spectral_edge.errors import InputError, Outcome
from spectral_edge.modes.vectors import Vector, named, random_like
from spectral_edge.modes.window import Modes, directions_of

Array = NDArray[np.float64]
Budget = Sequence[float] | Array | int

ARMS: dict[str, str] = {
    "none": "the update as it is",
    "sham": "the component is removed from the parameters and put back: bit for bit the update as it is",
    "remove": "the component along the direction is removed",
    "shrink": "the component is multiplied by a factor below one",
    "amplify": "the component is multiplied by a factor above one",
    "rotate": "the component is turned onto another direction, in their plane, so that the norm stays",
    "shrink_all": "the whole update is shrunk until the budget of energy is gone",
    "tilt": "the update is removed along the direction tilted towards it until it carries the budget",
}
"""What an intervention can do to an update, in words."""

_BUDGETED = ("remove", "shrink_all", "tilt")
_FACTORS = {"shrink": (0.0, 1.0, 0.5), "amplify": (1.0, math.inf, 2.0)}


@dataclass(frozen=True, slots=True)
class Act:
    """What was done to one update, as the parameters' own precision left it.

    Attributes:
        step: counted from 1 since the intervention began.
        outcome: OK; NON_FINITE, SKIPPED (no parameter moved), ZERO_UPDATES (nothing is left whose norm could be
            restored), NOT_RECORDED (the schedule of shares has ended) and FAILED leave the update as it is.
        component: inner product of the update with the direction, before.
        norm_before: norm of the update, in parameter units.
        norm_after: norm of the altered update.
        displacement: norm of the difference between the two.
        cosine: between the two.
    """

    step: int
    outcome: Outcome
    component: float = math.nan
    norm_before: float = math.nan
    norm_after: float = math.nan
    displacement: float = math.nan
    cosine: float = math.nan

    @property
    def removed_energy(self) -> float:
        """Squared norm before minus squared norm after; negative where energy was added."""
        return self.norm_before**2 - self.norm_after**2

    @property
    def removed_share(self) -> float:
        """Removed energy as a share of the update's."""
        return self.removed_energy / self.norm_before**2 if self.norm_before > 0 else math.nan


class Intervention:
    """Alters every update of a run along a frozen direction; a context manager around the training loop.

        with Intervention(model, monitor.modes(3), arm="remove", mode=1) as intervention:
            ...
            optimizer.step()
            act = intervention.step()

    It keeps a copy of the parameters, makes another during `step`, and draws no random number. Once entered, `step`
    never raises.

    A *budget* makes arms comparable: the share of the update's energy that an arm removes, exactly, step by step. It
    is either the 1-based position of the direction whose component sets it on this very trajectory, or the shares that
    another arm recorded (`Intervention.shares`). Removing under a budget removes less of the component where it has
    more energy than that, and shrinks the rest where it has less. A `tilt` is the control for "any direction would do":
    a frozen random direction has almost no energy in the update, so it is tilted towards the update until it does;
    energy and displacement then equal those of removing a component that carries the budget.

    Args:
        parameters: the model, or the parameters themselves as from `named(model)`.
        directions: modes, or any vectors of parameter space; they are normalised here, and missing names are zero.
        arm: one of `ARMS`.
        mode: position of the direction, counted from 1.
        factor: of `shrink` (default 0.5) and `amplify` (default 2).
        onto: position of the direction that `rotate` turns to.
        angle: of `rotate`, in degrees; 90 moves the whole component.
        budget: see above; `shrink_all` takes the direction's own component by default, `tilt` needs one.
        restore_norm: rescale the altered update to its norm before, so that only its direction changes.

    Attributes:
        acts: what was done, step by step.

    Raises:
        InputError: if an argument cannot be used.
    """

    def __init__(
        self,
        parameters: nn.Module | Mapping[str, Tensor],
        directions: Modes | Sequence[Mapping[str, Tensor]],
        *,
        arm: str = "remove",
        mode: int = 1,
        factor: float | None = None,
        onto: int | None = None,
        angle: float = 90.0,
        budget: Budget | None = None,
        restore_norm: bool = False,
    ) -> None:
        if arm not in ARMS:
            raise _unusable("arm", " | ".join(ARMS), repr(arm))
        if factor is not None and arm not in _FACTORS:
            raise _unusable("factor", "an arm that scales a component: shrink or amplify", arm)
        if arm in _FACTORS:
            low, high, default = _FACTORS[arm]
            factor = default if factor is None else factor
            if not (low <= factor <= high and math.isfinite(factor)):
                raise _unusable("factor", f"{low:g} to {high:g} for {arm}", repr(factor))
        if (onto is None) == (arm == "rotate"):
            raise _unusable("onto", "the position of another direction, for rotate only", repr(onto))
        if budget is not None and arm not in _BUDGETED:
            raise _unusable("budget", f"one of the arms {', '.join(_BUDGETED)}", arm)
        if budget is None and arm == "tilt":
            raise _unusable("budget", "shares, or the position of the direction that sets them", "none")
        if restore_norm and arm in ("none", "sham", "shrink_all"):
            raise _unusable("restore_norm", "an arm that changes the update's direction", arm)
        parameters = named(parameters) if isinstance(parameters, nn.Module) else parameters
        if not isinstance(parameters, Mapping) or not parameters:  # pyright: ignore[reportUnnecessaryIsInstance]
            found = "none" if isinstance(parameters, Mapping) else type(parameters).__name__  # pyright: ignore[reportUnnecessaryIsInstance]
            raise _unusable("parameters", "a model, or at least one named tensor", found)
        directions = directions_of(directions)
        self._arm, self._factor, self._angle = arm, factor, math.radians(angle)
        self._restore, self._budgeted = restore_norm, budget is not None
        self._schedule: Array | None = None
        used = [mode]
        position = budget if isinstance(budget, Integral) else None
        if position is not None:
            used.append(int(position))
        elif budget is not None:
            # Recorded shares are those that rounding left: they may lie a little outside of 0 to 1.
            try:
                self._schedule = np.asarray(budget, dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise _unusable("budget", "a whole number, or a share for each step", repr(budget)) from error
            known = self._schedule[np.isfinite(self._schedule)]
            if self._schedule.ndim != 1 or ((known < -1e-3) | (known > 1 + 1e-3)).any():
                found = f"shape {self._schedule.shape}, {known.min(initial=0):g} to {known.max(initial=0):g}"
                raise _unusable("budget", "a whole number, or a share of the energy for each step, 0 to 1", found)
        if onto is not None:
            used.append(onto)
        for place in used:
            if not isinstance(place, Integral) or not 1 <= place <= len(directions):
                raise _unusable("position of a direction", f"1 to {len(directions)}", repr(place))
        self._parameters = dict(parameters)
        self._directions = [_unit(directions[place - 1], parameters) for place in used]
        self._reference = 1 if position is not None else 0
        if arm == "rotate":
            self._directions[1] = _orthogonal(self._directions[1], self._directions[0])
        self._before: Vector | None = None
        self.acts: list[Act] = []

    def __enter__(self) -> Self:
        self._keep()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._before = None

    @property
    def shares(self) -> Array:
        """Share of the update's energy that was removed at each step; NaN where nothing could be done."""
        return np.array([act.removed_share for act in self.acts])

    @torch.no_grad()
    def step(self) -> Act:
        """Alters the update since the last call (or since entering); to be called after every optimizer step.

        Raises:
            InputError: outside of the context.
        """
        if self._before is None:
            raise InputError("step()", expected="a call inside the context", found="one outside", remedy="use with")
        number = len(self.acts) + 1
        moved = {name: tensor.detach().clone() for name, tensor in self._parameters.items()}
        try:
            act = self._alter(number, self._before)
        except Exception:
            act = Act(number, Outcome.FAILED)
        if act.outcome != Outcome.OK or self._arm == "sham":
            for name, value in moved.items():
                self._parameters[name].copy_(value)
        if self._arm == "sham" and act.outcome == Outcome.OK:
            act = Act(number, Outcome.OK, act.component, act.norm_before, act.norm_before, 0.0, 1.0)
        self.acts.append(act)
        self._keep()
        return act

    def _keep(self) -> None:
        self._before = {name: tensor.detach().clone() for name, tensor in self._parameters.items()}

    def _alter(self, number: int, before: Vector) -> Act:
        square, components = self._project(before)
        if not (math.isfinite(square) and all(math.isfinite(c) for c in components)):
            return Act(number, Outcome.NON_FINITE)
        if square <= 0:
            return Act(number, Outcome.SKIPPED)
        norm = math.sqrt(square)
        if self._arm == "none":
            return Act(number, Outcome.OK, components[0], norm, norm, 0.0, 1.0)
        share = components[self._reference] ** 2 / square
        if self._schedule is not None:
            if number > len(self._schedule):
                return Act(number, Outcome.NOT_RECORDED)
            share = float(self._schedule[number - 1])
            if not math.isfinite(share):
                return Act(number, Outcome.NON_FINITE)
        plan = self._plan(square, components, min(max(share, 0.0), 1.0))
        if plan is None:
            return Act(number, Outcome.ZERO_UPDATES)
        after, product, moved = self._write(before, *plan)
        if not math.isfinite(after):
            return Act(number, Outcome.NON_FINITE)
        cosine = product / math.sqrt(square * after) if after > 0 else math.nan
        return Act(number, Outcome.OK, components[0], norm, math.sqrt(after), math.sqrt(moved), cosine)

    def _plan(self, square: float, components: Sequence[float], share: float) -> tuple[float, list[float]] | None:
        """The factor of the update and those of the directions; None where no norm can be restored."""
        c = components[0]
        energy = share * square if self._budgeted else c * c
        beta = [0.0] * len(components)
        alpha, after = 1.0, square - energy
        if self._factor is not None:
            beta[0] = (self._factor - 1) * c
            after = square + (self._factor**2 - 1) * c * c
        elif self._arm == "shrink_all":
            alpha = math.sqrt(max(after, 0.0) / square)
        elif self._arm == "rotate":
            d = components[1]
            beta[0] = c * (math.cos(self._angle) - 1) - d * math.sin(self._angle)
            beta[1] = c * math.sin(self._angle) + d * (math.cos(self._angle) - 1)
            after = square
        elif self._arm == "tilt":
            # w = sqrt(share) d/|d| + sqrt(1 - share) r, r the direction's part orthogonal to d, of unit length.
            across = math.sqrt(max(1 - c * c / square, 0.0))
            if across == 0:
                return None
            kick = -math.copysign(math.sqrt(share * (1 - share) * square), c) / across
            beta[0] = kick
            alpha = 1 - share - kick * c / square
        elif c * c >= energy or c * c >= square:
            beta[0] = math.copysign(math.sqrt(max(c * c - energy, 0.0)), c) - c
        else:
            alpha = math.sqrt((square - energy) / (square - c * c))
            beta[0] = -alpha * c
        if self._restore:
            if after <= 0:
                return None
            rescale = math.sqrt(square / after)
            alpha, beta = alpha * rescale, [b * rescale for b in beta]
        return alpha, beta

    def _project(self, before: Vector) -> tuple[float, list[float]]:
        """Squared norm of the update and its inner products with the directions."""
        sums: list[Tensor] = []
        for name, parameter in self._parameters.items():
            update = (parameter.double() - before[name].double()).flatten()
            pieces = [update, *(direction.get(name) for direction in self._directions)]
            sums.append(
                torch.stack(
                    [update.new_zeros(()) if v is None else torch.dot(update, v.double().flatten()) for v in pieces]
                )
            )
        square, *components = torch.stack([total.to(sums[0].device) for total in sums]).sum(dim=0).tolist()
        return square, components

    def _write(self, before: Vector, alpha: float, beta: Sequence[float]) -> tuple[float, float, float]:
        """Writes the altered update; its squared norm, its product with the update, and how far it is from it."""
        sums: list[Tensor] = []
        for name, parameter in self._parameters.items():
            start = before[name].double()
            update = parameter.double() - start
            altered = alpha * update
            for factor, direction in zip(beta, self._directions, strict=True):
                if factor and name in direction:
                    altered.add_(direction[name].double(), alpha=factor)
            parameter.copy_((start + altered).to(parameter.dtype))
            applied, update = (parameter.double() - start).flatten(), update.flatten()
            moved = applied - update
            sums.append(torch.stack([torch.dot(applied, applied), torch.dot(applied, update), torch.dot(moved, moved)]))
        after, product, displaced = torch.stack([total.to(sums[0].device) for total in sums]).sum(dim=0).tolist()
        return after, product, displaced


def random_direction(like: Mapping[str, Tensor], generator: torch.Generator) -> Vector:
    """A direction of parameter space drawn uniformly, of unit length.

    Args:
        like: the parameters, or any vector of their shapes.
        generator: gives the random numbers.
    """
    return _unit(random_like(like, generator), like)


def row_space_direction(modes: Modes, generator: torch.Generator) -> Vector:
    """A direction drawn uniformly from the span of a window's modes, of unit length.

    Args:
        modes: whose directions span it.
        generator: gives the random numbers.
    """
    weights = torch.randn(len(modes.directions), generator=generator, dtype=torch.float64, device=generator.device)
    weights = (weights / weights.norm()).tolist()
    names = {name: tensor for direction in modes.directions for name, tensor in direction.items()}
    mixed = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in names.items()}
    for weight, direction in zip(weights, modes.directions, strict=True):
        for name, piece in direction.items():
            mixed[name].add_(piece.double(), alpha=weight)
    return _unit(mixed, mixed)


def _unit(direction: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> Vector:
    for name, piece in direction.items():
        if name not in parameters or parameters[name].shape != piece.shape:
            there = tuple(parameters[name].shape) if name in parameters else "no such parameter"
            raise _unusable("a direction", f"{there} under the name {name}", str(tuple(piece.shape)))
    wide = {name: piece.detach().double() for name, piece in direction.items()}
    length = math.sqrt(sum(float(torch.dot(piece.flatten(), piece.flatten())) for piece in wide.values()))
    if not (math.isfinite(length) and length > 0):
        raise _unusable("a direction", "a finite vector other than zero", f"norm {length}")
    # Float64 costs twice the memory of float32, and buys budgets that are met to rounding.
    return {name: piece / length for name, piece in wide.items()}


def _orthogonal(direction: Vector, to: Vector) -> Vector:
    common = sum(float(torch.dot(to[name].flatten(), direction[name].flatten())) for name in to.keys() & direction)
    if 1 - common * common < 1e-10:
        raise _unusable("onto", "a direction other than that of the component", "the same direction")
    rest = {name: piece.clone() for name, piece in direction.items()}
    for name, piece in to.items():
        rest[name] = rest[name] - common * piece if name in rest else -common * piece
    return _unit(rest, rest)


def _unusable(subject: str, expected: str, found: str) -> InputError:
    return InputError(subject, expected=expected, found=found, remedy="see spectral_edge.modes.interventions")
