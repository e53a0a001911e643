"""By which conventions the numbers were made, and what the null can and cannot say."""

from spectral_edge.report.facts import RunFacts
from spectral_edge.report.pair import Pair
from spectral_edge.report.transition import CRITERIA
from spectral_edge.report.words import listed, number


def conventions(pair: Pair) -> list[str]:
    """One sentence a convention."""
    run, window = pair.run, pair.run.window
    return [
        f"A window is W = {window} successive updates; an update is the difference of the watched parameters between two "
        f"observations, {listed([_cadence(facts) for facts in pair.both])}. Windows follow each other by one observation "
        "(stride 1), and only full ones are used.",
        f"The horizon is {run.trace.horizon} updates: quantities at lag W need 2W = {2 * window}"
        + (" and are therefore undefined here." if run.trace.horizon < 2 * window else "."),
        "k* counts from 1. Raw k*, the thesis' definition, is the position of the largest ratio and feeds the gap ratio and "
        "the adiabatic parameters; weighted k* multiplies each ratio by sigma_j / sum sigma, as the grokking tables do; "
        "restricted k* looks at positions up to W/2; clear k* is raw k* where the largest ratio leaves the band.",
        f"Watched: {listed([_watched(facts) for facts in pair.both])}. A layer is a parameter's path up to its first number.",
        f"The transition is dated by the {CRITERIA[0].words}, the first of them; a run that never meets it is censored at its "
        "last step, not given one. A quantity at a step is read in the last window that ends at or before it.",
        "A control is read at the step of the other run's transition (yoked), since it has none of its own. Where no "
        "transition is known, both are read at the last step that they share.",
        "The decline is the largest value over all full windows before that one, divided by the value in it. It is taken for "
        "g23, tr G and g23 / tr G over the same windows, each from its own peak; g23 = lambda_2 - lambda_3 has the unit of a "
        "squared update.",
        "Undefined is undefined: no ratio over an epsilon. Singular values below the rank floor (eigenvalues under 1e-10 of "
        "the largest) give no ratio; undefined values leave gaps in figures and are left out of shares.",
    ]  # fmt: skip


def null_words(pair: Pair) -> list[str]:
    """What the comparison with the null means, and what it assumed."""
    return [
        "The band holds the gap ratios that structureless updates would show if they had this window's row norms, the "
        "optimizer's memory, and the second and third moments of this window's cosines. A ratio outside the band is not "
        "explained by these; that is all that is claimed, and it is no test of an hypothesis.",
        "A zero-mean spike of the covariance, a direction in which updates vary more but do not move, cannot be told from "
        "structure by the ratios: it leaves the band too. Coherence and the progress share, which see the sign, can tell it "
        "from drift.",
        "Coherence p is exact for any covariance once the memory is right: it compares the mean cosine with its value under "
        "all flips of the rows' signs. The band is drawn anew for each window and windows overlap, so a share of windows "
        "outside of it is a description, not a rate of independent findings.",
        *(f"Memory, {facts.name}: {_memory(facts)}." for facts in pair.both),
    ]  # fmt: skip


def _cadence(facts: RunFacts) -> str:
    return f"{number(facts.cadence)} steps apart in the {facts.name}"


def _watched(facts: RunFacts) -> str:
    trace = facts.trace
    if not trace.segments:
        return f"nothing in the {facts.name}"
    tensors = len(trace.segments[-1].inventory.tensors)
    groups = f", named groups {listed(list(trace.groups))}" if set(trace.groups) != set(trace.layers) else ""
    return (
        f"{trace.parameter_count:,} parameters in {tensors} tensors and {len(trace.layers)} layers of the "
        f"{facts.name}{groups}"
    )


def _memory(facts: RunFacts) -> str:
    momentum, source = facts.memory
    if momentum is None:
        return source
    return f"momentum {number(momentum)}, {source}, over {number(facts.cadence)} steps an update"
