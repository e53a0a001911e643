"""N6: the norm of the weights tells which run is next."""

from spectral_edge.claims.claim import Claim, Criterion, Published
from spectral_edge.claims.next_run import WEIGHTS, bank, next_units
from spectral_edge.claims.risk import BESIDE

CLAIM = Claim(
    id="N6",
    title="small weights tell which run is next",
    statement="Of several runs of one kind without a transition yet, one whose weights are smaller than those of most "
    "others makes it next, as can be seen a fifth of the steps before. The test loss tells it as well, and earlier.",
    published={
        "": Published(
            "weights shrink before grokking; that they tell which run is next is ours", "found on the runs of X8"
        )
    },
    criterion="none for a run",
    corrected="minus the norm of all weights a fifth of the steps before the transition, against the runs of its kind "
    "without a transition yet at that step",
    convention="at the last observation up to four fifths of the step; the half of the bank that is for development, "
    "so that its other half stays unread for alarms",
    controls=BESIDE,
    needs="study null-bank, every run of that half that is to make a transition",
    would_change="transitions that come to runs whose weights are larger than those of runs that still wait",
    families=("arithmetic",),
    units=lambda evidence, family: next_units(evidence, bank(evidence, family), WEIGHTS),
    unit="minus norm of the weights",
    whose=Criterion.OURS,
    note="The rival of N5, stated with it and before any run of the bank was read. On the runs that both were found "
    "on it holds in 20 of 20 transitions of arithmetic a fifth of the steps before; the smallest of all is the weight "
    "of the next run in 6. On Dyck it does in 6 of 14. Expected was a confirmation with .79 (the critic's figure; no "
    "command prints it).",
)
