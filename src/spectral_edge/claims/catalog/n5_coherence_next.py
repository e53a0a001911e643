"""N5: how well updates agree tells which run is next."""

from spectral_edge.claims.claim import Claim, Criterion, Published
from spectral_edge.claims.next_run import COHERENCE, bank, next_units
from spectral_edge.claims.risk import BESIDE

CLAIM = Claim(
    id="N5",
    title="agreeing updates tell which run is next",
    statement="Of several runs of one kind without a transition yet, one whose updates agree better than those of "
    "most others makes it next, as can be seen a fifth of the steps before. The norm of the weights and the losses "
    "tell it as well; it is not claimed beyond them, nor earlier than the test loss does.",
    published={"": Published("ours, stated before any run of the bank was read", "found on the runs of X8")},
    criterion="none for a run",
    corrected="coherence a fifth of the steps before the transition, against the runs of its kind without a transition "
    "yet at that step",
    convention="mean cosine of ten updates of 50 steps, attention matrices, in the last window up to four fifths of "
    "the step; the half of the bank that is for development, so that its other half stays unread for alarms",
    controls=BESIDE,
    needs="study null-bank, every run of that half that is to make a transition",
    would_change="transitions that come to runs whose updates agree less than those of runs that still wait",
    families=("arithmetic",),
    units=lambda evidence, family: next_units(evidence, bank(evidence, family), COHERENCE),
    unit="coherence",
    whose=Criterion.OURS,
    note="Found on 24 runs of arithmetic of the published size, where it holds in 20 of 20 transitions a tenth of the "
    "steps before, in 19 a fifth and in 18 three tenths before; a fifth was chosen. On Dyck it does in 5, 5 and 7 of "
    "14, so that nothing is stated there. A first version asked for coherence beyond update norm and weight norm, by "
    "one regression over all rows. A critic showed, before any run of the bank was read, that any curved function of "
    "the weights' norm alone passes that, and that among the runs at risk at one step coherence adds to the norms in "
    "10 of 14: the run that is ahead is ahead in everything. [What holds instead](held-out.md#which-run-is-next) has "
    "all of that side by side. Expected was, from cohorts drawn from those 24 runs, a confirmation with .70 (the "
    "critic's figures; no command prints them). The bank's networks are smaller, and of three operations.",
)
