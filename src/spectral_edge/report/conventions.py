"""By which conventions the numbers were made, and what the null can and cannot say."""

from collections.abc import Callable

from spectral_edge.report.facts import DELAY, RunFacts
from spectral_edge.report.pair import Pair
from spectral_edge.report.words import listed, number
from spectral_edge.transitions import CRITERIA


def conventions(pair: Pair) -> list[str]:
    """One paragraph a convention."""
    width, horizon = pair.run.window, pair.run.trace.horizon
    apart = _each(pair, lambda facts: f"{number(facts.cadence)} steps apart")
    reach = " and are therefore undefined here" if horizon < 2 * width else ""
    yoked = [
        "The other run is read at that same step (yoked), whether or not it has a transition of its own. Where neither "
        "has one, both are read at the last step that both reached.",
    ]
    return [
        f"A window is W = {width} successive updates. An update is the difference of the watched parameters between "
        f"two observations, {apart}. Windows follow each other by one observation (stride 1), and only full ones are "
        "used.",
        f"The horizon is {horizon} updates: quantities at lag W need 2W = {2 * width}{reach}.",
        "k* counts from 1. Raw k*, the thesis' definition, is the position of the largest ratio; it feeds the gap "
        "ratio and the adiabatic parameters. Weighted k* multiplies each ratio by sigma_j / sum sigma, as the grokking "
        "tables do; restricted k* looks at positions up to W/2.",
        "Normalised ratios are those of the window with every update scaled to norm one (`cosine_ratios`): raw ratios "
        "move with every change of update norm. The band speaks of normalised ratios; clear k* is the position of the "
        "largest where it leaves the band.",
        "Metrics are read by name. The test accuracy is `test_accuracy`, else `val_accuracy`, else `eval_accuracy`; "
        "the training accuracy is `train_accuracy`; every other accuracy and every `*_loss` is only drawn. Accuracies "
        "are shares of 1.",
        f"Watched: {_each(pair, _watched)}. A layer is a parameter's path up to its first "
        "number, or its module's path.",
        f"The transition is dated by the default criterion, {CRITERIA[0].words}, at the first of these. A run that "
        "does not meet it is censored at the last evaluation of its test accuracy, not given a step. A run is said to "
        f"grok where its training accuracy reached 0.99 at least {DELAY} evaluations before, else to make the "
        "transition. A quantity at a step is read in the last window that ends at or before it.",
        *(yoked if pair.control is not None else []),
        "The decline is the largest value over all full windows before that one, divided by the value in it. It is "
        "taken for g23, tr G and g23 / tr G over the same windows, each from its own peak. g23 = lambda_2 - lambda_3 "
        "has the unit of a squared update.",
        "Undefined is undefined: no ratio is taken over an epsilon. Singular values below the rank floor (eigenvalues "
        "under 1e-10 of the largest) give no ratio. Undefined values leave gaps in figures and are left out of shares.",
    ]


def null_words(pair: Pair) -> list[str]:
    """What the comparison with the null means, and what it assumed."""
    return [
        "The band holds the normalised ratios that structureless updates would show if they had the optimizer's "
        "memory, and the second and third moments of this window's cosines. A ratio outside the band is not explained "
        "by these. That is all that is claimed.",
        "A zero-mean spike of the covariance, a direction in which updates vary more without moving the model, cannot "
        "be told from structure by its ratios: it may leave the band too. Coherence and the progress share, which see "
        "the sign of updates, tell it from drift.",
        "Coherence p belongs to the whitened coherence: the mean cosine after the optimizer's memory is taken out of "
        "the updates, compared with its value under flips of their signs, one-sided for drift. So a positive coherence "
        "can have p = 1 where the memory explains more. It is exact, for any covariance, only for updates without "
        "memory; with memory it is approximate. Windows overlap, so a share of windows outside the band describes the "
        "record; it does not count independent findings.",
        f"Memory: {_each(pair, _memory)}.",
    ]


def _each(pair: Pair, describe: Callable[[RunFacts], str]) -> str:
    """What holds of each run, once where it is the same for both."""
    said = {facts.name: describe(facts) for facts in pair.both}
    if len(set(said.values())) == 1:
        return said["run"] + (" (run and control)" if len(said) == 2 else "")
    return "; ".join(f"{text} ({name})" for name, text in said.items())


def _watched(facts: RunFacts) -> str:
    trace = facts.trace
    tensors = len(trace.segments[-1].inventory.tensors)
    groups = f", with named groups {listed(list(trace.groups))}" if set(trace.groups) != set(trace.layers) else ""
    layers = f"{len(trace.layers)} layer{'' if len(trace.layers) == 1 else 's'}"
    return f"{trace.parameter_count:,} parameters in {tensors} tensors of {layers}{groups}"


def _memory(facts: RunFacts) -> str:
    momentum, source = facts.memory
    if momentum is None:
        return source
    return f"momentum {number(momentum)}, {source}, over {number(facts.cadence)} steps an update"
