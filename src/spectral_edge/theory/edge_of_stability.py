"""The largest curvature that full-batch descent bears on a quadratic, with momentum."""

from spectral_edge.errors import InputError


def stability_threshold(rate: float, *, momentum: float = 0.0, averaged: bool = False) -> float:
    """The curvature at which a mode turns from decay to growth: there it changes sign at every step.

    From the recurrence y' = (1 + beta - eta h) y - beta y_before with a root at -1: h = 2 (1 + beta) / eta. Where
    momentum is an average, as in Adam, the step is 1 - beta as long: 38 / eta at beta = .9. Preconditioned curvature
    takes the place of h under a preconditioner that changes slowly (Cohen and others 2021, 2022).

    Args:
        rate: learning rate eta.
        momentum: beta; 0 gives 2 / eta.
        averaged: whether the gradient enters the momentum with weight 1 - beta (Adam) or 1 (SGD).

    Returns:
        The curvature, per learning-rate unit.

    Raises:
        InputError: unless rate > 0 and 0 <= beta < 1.
    """
    if not rate > 0:
        raise InputError("rate", expected="a positive learning rate", found=str(rate), remedy="check its schedule")
    if not 0 <= momentum < 1:
        raise InputError("momentum", expected="0 <= beta < 1", found=str(momentum), remedy="pass Adam's beta1")
    return 2 * (1 + momentum) / (rate * (1 - momentum if averaged else 1.0))
