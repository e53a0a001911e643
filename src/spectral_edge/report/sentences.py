"""The three sentences on what happened, computed from the runs: true of whichever run they are given."""

from spectral_edge.analysis import Trace
from spectral_edge.report.facts import RunFacts
from spectral_edge.report.pair import Pair
from spectral_edge.report.words import BAR, fold, happens, listed, moved, number, opening, percent, too_short, why
from spectral_edge.transitions import CRITERIA


def headline(trace: Trace, control: Trace | None = None) -> list[str]:
    """Three plain sentences: whether and when it transitioned, what g23 did, what left the null band.

    Args:
        trace: the run.
        control: its control, read at the run's step.
    """
    return pair_headline(Pair.of(trace, control))


def pair_headline(pair: Pair) -> list[str]:
    """`headline` of runs whose facts are at hand."""
    return [transition_sentence(pair), decline_sentence(pair), null_sentence(pair)]


# whether and when -------------------------------------------------------------------------------------------------


def transition_sentence(pair: Pair) -> str:
    """When each run met the default criterion or how far it was evaluated without, and what sets the two apart."""
    apart = [difference.name for difference in pair.differences]
    besides = "not in weight decay but in" if pair.same_decay else "in more than the treatment:"
    beside = f"; the two differ {besides} {listed(apart)}" if apart else ""
    return opening(_transitions(pair) + beside)


def differences_sentence(pair: Pair) -> str | None:
    """In what a run and its control differ that should be alike, with both values; None where nothing is known."""
    if not pair.differences:
        return None
    listing = "; ".join(difference.words for difference in pair.differences)
    if pair.same_decay:
        return f"These two differ, and not in weight decay: {listing}. What of this is no treatment confounds them."
    return f"These two differ in more than the treatment: {listing}. No contrast between them is due to it alone."


def _transitions(pair: Pair) -> str:
    run, control = pair.run, pair.control
    clauses = [_transition(run)]
    if control is None:
        return clauses[0]
    clauses.append(_transition(control))
    known = [facts for facts in pair.both if facts.accuracy is not None]
    happened = [facts for facts in known if facts.transition() is not None]
    sentence = "; ".join(clauses)
    if len(known) < 2:
        return sentence
    if len(happened) == 2:
        # Where only one of them groks, the neutral words hold for both.
        verb = happens(min(known, key=lambda facts: facts.grokked), plural=True)
        return f"both {verb}: {sentence}, so the control is not a run without a transition"
    if not happened:
        return f"neither {happens(run)} ({CRITERIA[0].words}): {sentence}"
    if happened[0] is control:
        return f"{sentence}, so it is the run that is read at the control's step"
    return sentence


def _transition(facts: RunFacts) -> str:
    if facts.accuracy is None:
        watched = f"it was watched up to step {facts.end:,}" if facts.end else "nothing was observed"
        return f"no test accuracy was logged for the {facts.name}, so no transition can be dated; {watched}"
    step = facts.transition()
    if step is None:
        return _censored(facts)
    known = facts.memorised
    before = ""
    if known is not None and known < step:
        delay = "1 step" if step - known == 1 else f"{step - known:,} steps"
        before = f", {delay} after its training accuracy first reached 0.99"
    return f"the {facts.name} {happens(facts)} at step {step:,} ({CRITERIA[0].words}){before}"


def _censored(facts: RunFacts) -> str:
    """That a run did not meet the default criterion as far as it was evaluated, and what it met instead."""
    if facts.evaluated is None:
        return f"the test accuracy of the {facts.name} is nowhere a number, so no transition can be dated"
    until = f"up to step {facts.evaluated:,}, its last evaluation"
    best = f"best test accuracy {number(facts.best)}"
    if facts.also_met is None:
        return f"the {facts.name} makes no transition {until} ({best})"
    other, at = facts.also_met
    return f"the {facts.name} has its {other.words} at step {at:,}, but no {CRITERIA[0].words} {until} ({best})"


# what the published statistic says --------------------------------------------------------------------------------


def decline_sentence(pair: Pair) -> str:
    """What g23 did before the step, beside the update norm it follows and beside the control."""
    run, step = pair.run, pair.read_step
    if run.windows == 0:
        return opening(f"{too_short(run)}, so nothing can be said of the spectrum")
    g23, trace, share = (run.fall(name, step) for name in ("g23", "gram_trace", "g23_normalized"))
    if g23 is None:
        reason = "" if run.value("g23", step) is not None else f" ({why(run, 'g23', step).rstrip('.')})"
        return opening(f"{pair.where}, the decline of g23 is undefined for the run{reason}")
    beside = f"{moved('tr G', trace)} and {moved('g23 / tr G', share)}"
    if trace is not None and share is not None and min(trace.fold, share.fold) >= 1:
        beside = f"tr G is {number(trace.fold)} times and g23 / tr G {number(share.fold)} times lower"
    return opening(f"{pair.where}, {moved('g23', g23)} before; {beside}{_against(pair, g23.fold)}")


def _against(pair: Pair, own: float) -> str:
    """What the control's decline at the same step says of the run's."""
    if pair.control is None:
        return ", and without a control nobody can say whether that is special"
    other = pair.control.fall("g23", pair.read_step)
    if other is None:
        return "; the control cannot be read at that step"
    there = f"the control's g23 fell {fold(other)}" if other.fold >= 1 else "the control's g23 did not fall"
    if pair.step is None:
        return f"; {there} by then"
    if (own > BAR) == (other.fold > BAR):
        verdict = "both pass" if own > BAR else "neither passes"
        return f"; by the same step {there}: {verdict} the published bar of {BAR}, which does not tell them apart"
    passing = "the run" if own > BAR else "the control"
    return f"; by the same step {there}: only {passing} passes the published bar of {BAR}"


P_WORDS = "p being that of the whitened coherence under sign flips"

# what the null says -----------------------------------------------------------------------------------------------


def null_sentence(pair: Pair) -> str:
    """Whether the largest ratio leaves its band at the step and over each run, and whether updates agree."""
    run, step = pair.run, pair.read_step
    if run.windows == 0:
        return opening(f"nothing can be compared with the null before a window of {run.window} updates is full")
    shares = [f"{percent(facts.outside)} of the {facts.name}'s windows" for facts in pair.both if facts.windows]
    agree = [coherence_clause(facts, step) for facts in pair.both]
    return opening(
        f"{pair.where}, {band_clause(pair)}; over the whole record it is outside in {' and in '.join(shares)}; "
        f"coherence is {' and '.join(agree)}, {P_WORDS}"
    )


def band_clause(pair: Pair) -> str:
    """Where the largest normalised ratio of each run lies at the step."""
    found = [(facts.name, *_side(facts, pair.read_step)) for facts in pair.both]
    sides = [side for _, side, _ in found]
    if len(found) == 2 and sides[0] == sides[1]:
        details = "; ".join(f"{name}: {detail}" for name, _, detail in found if detail)
        return f"the largest normalised ratio {sides[0]} in both{f' ({details})' if details else ''}"
    clauses = [f"{side} in the {name}{f' ({detail})' if detail else ''}" for name, side, detail in found]
    return f"the largest normalised ratio {' but '.join(clauses)}"


def _side(facts: RunFacts, step: int | None) -> tuple[str, str]:
    largest, limit = facts.largest(step), facts.value("band_max", step)
    if largest is None or limit is None:
        return "is undefined or without a null band", ""
    position, ratio = largest
    side = "outside" if ratio > limit else "inside"
    return f"is {side} its null band", f"R_{position} = {number(ratio)}, limit {number(limit)}"


def coherence_clause(facts: RunFacts, step: int | None) -> str:
    """Coherence of a run at a step with its p value."""
    value = facts.value("coherence", step)
    if value is None:
        return f"undefined in the {facts.name}"
    return f"{number(value)} in the {facts.name} (p {number(facts.value('coherence_p', step), digits=2)})"
