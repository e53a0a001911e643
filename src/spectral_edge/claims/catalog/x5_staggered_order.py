"""X5: tasks are learned in one order."""

from collections.abc import Sequence

from spectral_edge.claims.claim import Claim, Measured, Published, Unit
from spectral_edge.claims.evidence import Evidence, Run

ORDER = ("mul", "x2_y2", "add")
BAR = 0.9


def units(evidence: Evidence, family: str) -> Sequence[Unit]:
    """Each run that learns three tasks."""
    return [Unit(_read(run)) for run in evidence.study("grokking", family=family, role="run") if run.grok() is not None]


def _read(run: Run) -> Measured:
    first: list[int] = []
    for task in ORDER:
        steps, accuracy = run.metric(f"test_accuracy_{task}")
        reached = steps[accuracy >= BAR]
        if len(reached) == 0:
            return Measured(run.name, None)
        first.append(int(reached[0]))
    told = {f"step of {task}": step for task, step in zip(ORDER, first, strict=True)}
    return Measured(run.name, float(first[2] - first[0]), first[0] < first[1] < first[2], told)


CLAIM = Claim(
    id="X5",
    title="mul, then squares, then add",
    statement="With three tasks, multiplication is learned first, the sum of squares next and addition last.",
    published={"": Published("3 of 3 with a decay of 1", "2602.18523", 3, 3)},
    criterion="first test accuracies of .9 come in this order",
    corrected="none: an order by chance has a probability of 1/6",
    convention="first evaluation of each task with a test accuracy of at least .9",
    controls={},
    needs="study grokking, tri",
    would_change="runs in another order",
    families=("tri",),
    units=units,
    unit="steps from mul to add",
)
