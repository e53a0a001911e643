"""Puts the ledger itself to the test: ledgers of noise with real norms, and ledgers in which the claims are true.

python tools/try_ledger.py                  # twenty minutes; writes results/claims/synthetic.json
python tools/try_ledger.py --pool 30        # fewer synthetic pairs

Every recorded run of the grokking study lends its norms, and those of its controls. In place of the updates come pure
noise, AR(.9) noise, drift and noise, or noise of few directions, alike in runs and controls; a pool of such pairs is
read once by every claim that reads traces, and ledgers are drawn from it. Planted ledgers have a direction in the runs
that sets in before the transition and is absent from their controls; a second kind plants wins and passes themselves,
and so tests the rules of every claim.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spectral_edge.claims import NO_DECAY, SAME_DECAY, SURROGATES, Evidence, Ledger, Measured, Unit, Verdict, judge
from spectral_edge.claims.evidence import Run, Yoked
from spectral_edge.claims.rules import runs_needed
from spectral_edge.claims.surrogates import Recipe, surrogate

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "results" / "claims" / "synthetic.json"
FAMILY = "arithmetic"
LEDGERS = 200
NOISE: Mapping[str, Recipe] = {
    "optimizer noise": Recipe(),
    "AR(.9) noise": Recipe(memory=0.9),
    "drift and noise": Recipe(drift=0.3),
    "noise of 30 directions": Recipe(dimension=30),
}
PLANTED = "planted turn"
TURN = 0.6
"""Where the planted direction sets in, as a share of the way to the transition."""
TRUE = ("M4", "N1", "N2", "T2", "T7")
"""Claims that the planted direction makes true of the scalar by construction."""
ODDS, OFTEN = 0.97, 0.2
"""Planted wins and passes of runs, and passes of controls."""


class Synthetic(Evidence):
    """Pairs made of the norms of recorded ones."""

    def __init__(self, results: Path, pairs: int, run: Recipe | None, control: Recipe) -> None:
        super().__init__(results)
        templates = Evidence(results).yoked(FAMILY)
        self._pairs = [self._pair(number, templates[number % len(templates)], run, control) for number in range(pairs)]

    def yoked(self, family: str) -> list[Yoked]:
        """The synthetic pairs."""
        return self._pairs if family == FAMILY else []

    def study(self, name: str, *, family: str | None = None, role: str | None = None) -> list[Run]:
        """The synthetic runs stand for those of the grokking study; nothing else is there."""
        return (
            [pair.run for pair in self._pairs]
            if name == "grokking" and family == FAMILY and role in (None, "run")
            else []
        )

    def planned(self, name: str, family: str, *, role: str | None = None) -> dict[str, int]:
        """All of them held out."""
        return {run.name: run.seed for run in self.study(name, family=family, role=role)}

    def _pair(self, number: int, template: Yoked, run: Recipe | None, control: Recipe) -> Yoked:
        planted = run or Recipe(turn=int(TURN * template.step), turn_energy=1.0)
        made = _made(template.run, number, "run", planted)
        controls = {SURROGATES: made.noise()}
        for name in (NO_DECAY, *SAME_DECAY):
            controls[name] = _made(template.controls.get(name, template.run), number, name, control)
        return Yoked(made, template.step, controls)


def _made(template: Run, number: int, name: str, recipe: Recipe) -> Run:
    seed = 10_000 + number
    source, key = template.trace, [seed, len(name), ord(name[0])]
    return replace(
        template,
        name=f"{name} {number}",
        seed=seed,
        twin=None,
        result={**template.result, "metrics": {"step": []}},  # the template's weights are not those of noise
        load=lambda: surrogate(source, seed=int(np.random.default_rng(key).integers(2**31)), recipe=recipe),
    )


def read(ledger: Ledger) -> dict[str, list[Unit]]:
    """The units of every claim that has some, by its id."""
    found: dict[str, list[Unit]] = {}
    for claim in ledger.claims:
        for family in claim.families:
            units = list(claim.units(ledger.evidence, family)) if family in (FAMILY, "all") else []
            if units:
                found[claim.id] = units
    return found


def drawn(
    ledger: Ledger, units: Mapping[str, Sequence[Unit]], runs: int, seed: int
) -> list[dict[str, tuple[str, str]]]:
    """Verdicts of `LEDGERS` ledgers of so many runs each: by the rules, and by the scalar alone."""
    rng, claims = np.random.default_rng(seed), {claim.id: claim for claim in ledger.claims}
    found: list[dict[str, tuple[str, str]]] = []
    for _ in range(LEDGERS):
        line: dict[str, tuple[str, str]] = {}
        for name, some in units.items():
            chosen = [some[i] for i in rng.choice(len(some), size=min(runs, len(some)), replace=False)]
            claim = claims[name]
            judged = judge(
                chosen, classes=claim.classes(FAMILY), published=claim.published_for(FAMILY), claims=len(claims)
            )
            line[name] = (str(judged.verdict), str(judged.scalar))
        found.append(line)
    return found


def planted_units(ledger: Ledger, runs: int, seed: int) -> dict[str, list[Unit]]:
    """Units of every claim with controls, in which runs win and pass nearly always and controls pass seldom."""
    rng = np.random.default_rng(seed)
    made: dict[str, list[Unit]] = {}
    for claim in ledger.claims:
        if claim.controls:
            made[claim.id] = [
                Unit(
                    Measured(f"{i}", 1.0, bool(rng.random() < ODDS)),
                    {
                        name: Measured(f"{i}", 0.0 if rng.random() < ODDS else 2.0, bool(rng.random() < OFTEN))
                        for name in claim.classes(FAMILY)
                    },
                )
                for i in range(runs)
            ]
    return made


def summary(ledgers: Sequence[Mapping[str, tuple[str, str]]]) -> dict[str, Any]:
    """How often ledgers confirm anything, and how often each claim."""
    confirmed = str(Verdict.CONFIRMED)
    names = list(ledgers[0])
    return {
        "ledgers": len(ledgers),
        "confirm anything": sum(any(v == confirmed for v, _ in line.values()) for line in ledgers),
        "confirm anything by the scalar alone": sum(any(s == confirmed for _, s in line.values()) for line in ledgers),
        "by claim": {
            name: {
                "confirmed": sum(line[name][0] == confirmed for line in ledgers),
                "by the scalar alone": sum(line[name][1] == confirmed for line in ledgers),
            }
            for name in names
        },
    }


def main() -> None:
    """Reads the pools, draws the ledgers and records what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=int, default=120, help="synthetic pairs of each kind")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of the recorded studies")
    options = parser.parse_args()
    claims = len(Ledger(Evidence(options.results)).claims)
    runs = runs_needed(claims, classes=3)
    numbers: dict[str, Any] = {"claims": claims, "runs of a ledger": runs, "pool": options.pool, "kinds": {}}
    for number, (kind, recipe) in enumerate([*NOISE.items(), (PLANTED, None)]):
        ledger = Ledger(Synthetic(options.results, options.pool, recipe, recipe or Recipe()))
        numbers["kinds"][kind] = summary(drawn(ledger, read(ledger), runs, seed=number))
        print(kind, json.dumps(numbers["kinds"][kind]["by claim"]), flush=True)
    ledger = Ledger(Evidence(options.results))
    lines = [drawn_once(ledger, runs, seed) for seed in range(LEDGERS)]
    numbers["planted wins and passes"] = summary(lines)
    shares = [np.mean([line[name][0] == str(Verdict.CONFIRMED) for name in line]) for line in lines]
    numbers["share of claims that a planted ledger confirms"] = float(np.mean(shares))
    numbers["true by construction"] = list(TRUE)
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    command = f"python tools/try_ledger.py --pool {options.pool}"
    RECORD.write_text(json.dumps({"command": command, "numbers": numbers}, indent=1) + "\n", encoding="utf-8")


def drawn_once(ledger: Ledger, runs: int, seed: int) -> dict[str, tuple[str, str]]:
    """One ledger of planted wins and passes."""
    claims = {claim.id: claim for claim in ledger.claims}
    line: dict[str, tuple[str, str]] = {}
    for name, units in planted_units(ledger, runs, seed).items():
        claim = claims[name]
        published = claim.published_for(claim.families[0])
        judged = judge(units, classes=claim.classes(FAMILY), published=published, claims=len(claims))
        line[name] = (str(judged.verdict), str(judged.scalar))
    return line


if __name__ == "__main__":
    main()
