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
        stretches: whether it observes less often where it exceeds the budget.

    Raises:
        InputError: if the share is none, or there is no such action.
    """

    def __init__(self, share: float | None, action: str) -> None:
        if share is not None and (not isinstance(share, (int, float)) or not 0 < share < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError("budget", expected="a share between 0 and 1", found=repr(share), remedy="0.01 is 1 %")
        if action not in ACTIONS:
            raise InputError("budget_action", expected=" | ".join(ACTIONS), found=repr(action), remedy="use warn")
        self._share = share
        self.stretches = action == "stretch"
        self.meter = Meter()
        self._judged = 0
        self._said = False

    def wish(self) -> int:
        """What should be done: 0 nothing, 1 warn, else to observe so many times less often."""
        share = self.meter.share
        if self._share is None or share is None or share <= self._share or (self._said and not self.stretches):
            return 0
        if self.meter.observations < self._judged + LATER:
            return 0
        if not self.stretches:
            return 1
        share = min(share, 0.999)
        return max(2, math.ceil(share / (1 - share) * (1 - self._share) / self._share))

    def granted(self) -> str:
        """Notes that a wish is being fulfilled; what to say of it."""
        text = (
            f"observation takes {self.meter.share or 0:.2%} of the time, more than its budget of {self._share or 0:.2%}"
        )
        self._judged, self._said = self.meter.observations, True
        if self.stretches:
            self.meter.restart()
            self._judged = 0
        return text
