"""A run beside its control: the step at which both are read, and how figures see them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from spectral_edge.analysis import Trace
from spectral_edge.plots import Mark, RunView
from spectral_edge.report.differences import Difference, differences
from spectral_edge.report.facts import RunFacts, window_of
from spectral_edge.report.words import dated, happens
from spectral_edge.transitions import CRITERIA


@dataclass(frozen=True)
class Pair:
    """A run and, where there is one, its control.

    Attributes:
        run: the run that is reported.
        control: its control.
    """

    run: RunFacts
    control: RunFacts | None

    @classmethod
    def of(cls, trace: Trace, control: Trace | None, *, window: int | None = None) -> "Pair":
        """Facts on both with the same window, so that they compare.

        Args:
            trace: the run.
            control: its control.
            window: number of updates; that of the run by default.
        """
        width = window_of(trace) if window is None else window
        if control is not None:
            width = min(width, control.horizon)
        return cls(
            RunFacts(trace, window=width, name="run"),
            None if control is None else RunFacts(control, window=width, name="control"),
        )

    @property
    def both(self) -> list[RunFacts]:
        """The run, and the control if there is one."""
        return [self.run] if self.control is None else [self.run, self.control]

    @cached_property
    def differences(self) -> list[Difference]:
        """In what the two differ besides weight decay, as far as it was recorded; empty without a control."""
        return [] if self.control is None else differences(self.run, self.control)

    @property
    def same_decay(self) -> bool:
        """Whether both are known to have one weight decay, so that this is not the treatment."""
        known = {facts.weight_decay for facts in self.both}
        return len(known) == 1 and None not in known

    @cached_property
    def owner(self) -> Literal["run", "control"] | None:
        """Whose transition dates the comparison: the run's, else the control's, else nobody's."""
        if self.run.transition() is not None:
            return "run"
        return "control" if self.control is not None and self.control.transition() is not None else None

    @cached_property
    def step(self) -> int | None:
        """The step at which both are read; None where no transition is known and each is read at its end."""
        owned = {facts.name: facts.transition() for facts in self.both}
        if self.owner is not None:
            return owned[self.owner]
        return None

    @cached_property
    def read_step(self) -> int | None:
        """Like `step`, but the last step that both reached where there is no transition."""
        if self.step is not None or self.control is None:
            return self.step
        return min(facts.end for facts in self.both)

    @property
    def where(self) -> str:
        """The step at which both are read, in words that can follow a comma."""
        if self.step is not None:
            return f"at step {self.step:,}"
        return "at the end" if self.control is None else f"at step {self.read_step:,}, the last that both reached"

    def views(self) -> list[RunView]:
        """What figures are drawn from."""
        return [self._view(facts) for facts in self.both]

    def _view(self, facts: RunFacts) -> RunView:
        return RunView(
            role="run" if facts is self.run else "control",
            title=self._title(facts),
            series=facts.series,
            layers=facts.layers,
            metrics=facts.metrics,
            loss=facts.loss,
            marks=self._marks(facts),
            falls=facts.falls(self.step) if self.step is not None else {},
        )

    def _title(self, facts: RunFacts) -> str:
        decay = facts.weight_decay
        name = facts.name.capitalize() + ("" if decay is None else f", weight decay {decay:g}")
        if facts.accuracy is None:
            return name
        own = facts.transition()
        if own is not None:
            return f"{name}: {happens(facts)} at step {own:,}"
        if facts.evaluated is None:
            return name
        missed = "no transition" if facts.also_met is None else f"no sustained {CRITERIA[0].threshold:g}"
        return f"{name}: {missed} up to step {facts.evaluated:,}"

    def _marks(self, facts: RunFacts) -> tuple[Mark, ...]:
        own = facts.transition()
        marks: list[Mark] = []
        if own is not None:
            marks.append(Mark(own, dated(facts, own)))
        if self.step is not None and facts.name != self.owner:
            owner = next(other for other in self.both if other.name == self.owner)
            marks.append(Mark(self.step, f"yoked: {self.owner}'s {dated(owner, self.step)}"))
        return tuple(marks)
