"""How much of the training's time observation takes."""

import math
import time

from spectral_edge.errors import InputError

ACTIONS = ("warn", "stretch")
LATER = 10
"""Observations between two judgements of a budget: a single one is too noisy."""
SETTLED = 5
"""Observations before the meter speaks: the first ones compile kernels and fill caches."""


class Meter:
    """Adds up the time inside the monitor and the time of the whole run since it settled.

    Attributes:
        observations: number of observations since it settled.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forgets everything, as after a change of cadence."""
        self._inside = 0.0
        self._since: float | None = None
        self._entered = 0.0
        self._seen = 0
        self.observations = 0

    def enter(self) -> None:
        """The monitor begins to work."""
        self._entered = time.perf_counter()
        if self._since is None and self._seen >= SETTLED:
            self._since = self._entered

    def leave(self, *, observed: bool) -> None:
        """The monitor is done."""
        self._seen += observed
        if self._since is not None:
            self._inside += time.perf_counter() - self._entered
            self.observations += observed

    @property
    def share(self) -> float | None:
        """Share of the time since it settled that was spent observing; None before that.

        It is known where a whole number of intervals has passed: read it at an observation.
        """
        if self._since is None or self.observations < 2:
            return None
        passed = time.perf_counter() - self._since
        return self._inside / passed if passed > 0 else None


class Budget:
    """The share of the training's time that observation may take, and what to do beyond it.

    Args:
        share: for instance 0.01; None sets no budget, and time is measured all the same.
        action: "warn" or "stretch".

    Attributes:
        meter: measures this process.
        overhead: the share to be judged: on several ranks the first one's, so that all come to the same decision.

    Raises:
        InputError: if the share is none, or there is no such action.
    """

    def __init__(self, share: float | None, action: str) -> None:
        if share is not None and not 0 < share < 1:
            raise InputError("budget", expected="a share between 0 and 1", found=repr(share), remedy="0.01 is 1 %")
        if action not in ACTIONS:
            raise InputError("budget_action", expected=" | ".join(ACTIONS), found=repr(action), remedy="use warn")
        self._share = share
        self.stretches = action == "stretch"
        self.meter = Meter()
        self.overhead = 0.0
        self._judged = 0
        self._said = False

    def exceeded(self) -> str | None:
        """What to say where the budget is exceeded: once, or before each stretch."""
        if self._share is None or self.overhead <= self._share or (self._said and not self.stretches):
            return None
        if self.meter.observations < self._judged + LATER:
            return None
        self._judged, self._said = self.meter.observations, True
        return f"observation takes {self.overhead:.2%} of the time, more than its budget of {self._share:.2%}"

    def factor(self) -> int | None:
        """How many times less often to observe from here on; None where that is not wanted."""
        if not self.stretches or self._share is None:
            return None
        self.meter.restart()
        self._judged = 0
        share = min(self.overhead, 0.999)
        return max(2, math.ceil(share / (1 - share) * (1 - self._share) / self._share))
