"""Numbers as a report writes them."""

from spectral_edge.errors import Outcome
from spectral_edge.measure import DECLINED, Decline
from spectral_edge.report.facts import RunFacts

UNDEFINED = "undefined"
BAR = DECLINED


def number(value: float | None, *, digits: int = 3) -> str:
    """A number to some digits, thousands separated."""
    if value is None:
        return UNDEFINED
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        rounded = float(f"{value:.{digits}g}")
        return f"{rounded:,.0f}" if abs(rounded) >= 10**digits else f"{rounded:g}"
    return f"{value:.{digits - 1}e}"


def percent(share: float | None) -> str:
    """A share of 1 in per cent."""
    return UNDEFINED if share is None else f"{100 * share:.0f} %"


def fold(fall: Decline | None) -> str:
    """A decline as "14.2-fold"."""
    return UNDEFINED if fall is None else f"{number(fall.fold)}-fold"


def moved(name: str, fall: Decline | None) -> str:
    """What a quantity did before the step, as a clause."""
    if fall is None:
        return f"the decline of {name} is undefined"
    if fall.fold < 1:
        return f"{name} stands above every earlier window, {number(1 / fall.fold)} times the earlier peak"
    return f"{name} is {number(fall.fold)} times lower than at its peak"


def happens(facts: RunFacts, *, plural: bool = False) -> str:
    """The verb for a transition: to grok is to make it long after the training set is solved."""
    if facts.grokked:
        return "grok" if plural else "groks"
    return "make the transition" if plural else "makes the transition"


def dated(facts: RunFacts, step: int) -> str:
    """The transition of a run as a name for its step."""
    return f"{'grok' if facts.grokked else 'transition'} step {step:,}"


def listed(parts: list[str]) -> str:
    """a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def opening(text: str) -> str:
    """A sentence of a clause: the first letter raised, a full stop at the end."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def p_value(p: float | None, window: int) -> str:
    """A sign-flip p value, with the smallest that a window can give where it is that."""
    if p is None:
        return UNDEFINED
    least = 0.5 ** (window - 1)
    at_least = window <= 13 and p <= 1.5 * least
    return f"{number(p, digits=2)}{f', the smallest that {window} updates can give' if at_least else ''}"


def why(facts: RunFacts, name: str, step: int | None) -> str:
    """Why a quantity is undefined for a run at a step."""
    if facts.windows == 0:
        return Outcome.WINDOW_NOT_FULL.sentence
    reason = facts.reason(name, step)
    if reason is None:
        return f"The {facts.name} has no full window at that step."
    return reason.sentence if reason is not Outcome.OK else "It is not a number."


def too_short(facts: RunFacts) -> str:
    """That a run has no full window, with the numbers that say so."""
    rows = len(facts.trace.steps)
    return (
        f"the {facts.name} has no full window: {rows} update{'' if rows == 1 else 's'} recorded, "
        f"{facts.window} in a row needed"
    )
