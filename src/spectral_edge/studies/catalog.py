"""The studies: which runs decide which question.

The plans are what was recorded: a change to a configuration here makes recorded runs those of another plan.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from spectral_edge.experiments import RunConfig, configure
from spectral_edge.studies.banks import fault_bank, null_bank
from spectral_edge.studies.plan import Planned, Study

PUBLISHED_SEEDS = (42, 137, 2024)
HELD_OUT = {"arithmetic": tuple(range(1001, 1018)), "dyck": tuple(range(1001, 1013))}
"""Those of the papers, and ours beside them, of addition and of Dyck. Seventeen pairs confirm a claim with one loss;
twelve are the fewest that decide anything."""

GROKKING_STEPS = 20_000
"""Where a run that has not made its transition stops, and is censored."""

_WATCHED: dict[str, Any] = {
    "window": 10,
    "horizon": 20,
    "ladder": 2,
    "store": "groups",
    "groups": "attention*",
    "probe_parameters": True,
    "checkpoint_every": 500,
}
"""The attention matrices, as in the papers. Windows of ten updates reach over 50 to 200 steps an update."""

_CADENCE: dict[str, dict[str, int]] = {
    "arithmetic": {"observe_every": 50, "eval_every": 100},
    "dual": {"observe_every": 50, "eval_every": 100},
    "tri": {"observe_every": 50, "eval_every": 100},
    "dyck": {"observe_every": 50, "eval_every": 50},
    "scan": {"observe_every": 25, "eval_every": 50},
}
"""Steps between observations and between evaluations of the grokking study."""

_SIZES = {"arithmetic": "reference", "dual": "reference", "tri": "reference", "dyck": "reference", "scan": "cpu"}


def grokking() -> Study:
    """The papers' 24 runs with decay and their controls, the six that they leave out, and the held-out pairs."""
    runs: list[Planned] = []
    for seed in PUBLISHED_SEEDS:
        for operation in ("add", "sub", "mul", "x2_y2"):
            runs += _pair(operation, "arithmetic", seed=seed, operation=operation)
    for family in ("dyck", "scan"):
        for seed in (*PUBLISHED_SEEDS, *HELD_OUT.get(family, ())):
            runs += _pair(family, family, seed=seed)
    for seed in HELD_OUT["arithmetic"]:
        runs += _pair("add", "arithmetic", seed=seed, operation="add")
    for family in ("dual", "tri"):
        for seed in PUBLISHED_SEEDS:
            runs += _pair(family, family, seed=seed, stop_after=1_000)
    for operation in ("x2_xy_y2", "x3_xy"):
        for seed in PUBLISHED_SEEDS:
            # These are not expected to make the transition, so that no control has a step to be read at: half as many
            # observations of a long record.
            runs.append(_run(operation, "arithmetic", seed=seed, operation=operation, observe_every=100))
    return Study("grokking", "Does the gap move before the transition, and only there?", tuple(runs))


def same_decay() -> Study:
    """Runs with the decay of the grokking study but no transition, and runs with the transition but no decay.

    Of two kinds, which differ: labels dealt at random, and too few examples. Every held-out run of arithmetic has one
    of each.
    """
    runs: list[Planned] = []
    held_out = HELD_OUT["arithmetic"]
    dealt = (*PUBLISHED_SEEDS, *held_out)
    for operation, random in (("add", dealt), ("mul", PUBLISHED_SEEDS), ("x2_y2", PUBLISHED_SEEDS)):
        for seed in random:
            runs.append(_without(f"{operation}-random", "arithmetic", seed, operation=operation, random_labels=True))
    for operation, little in (("add", held_out), ("sub", PUBLISHED_SEEDS)):
        for seed in little:
            runs.append(_without(f"{operation}-little", "arithmetic", seed, operation=operation, train_fraction=0.2))
    for family, steps in (("dyck", 8_000), ("scan", 4_000)):
        for seed in (*PUBLISHED_SEEDS, *HELD_OUT.get(family, ())):
            runs.append(_without(f"{family}-random", family, seed, steps=steps, random_labels=True))
    for operation in ("add", "x2_y2"):
        for seed in PUBLISHED_SEEDS:
            options = {"operation": operation, "norm_cap": 0.35, "weight_decay": 0.0, "stop_after": 500}
            config = _config("arithmetic", seed=seed, steps=10_000, **options)
            runs.append(Planned(name=f"{operation}-capped-{seed}", config=config, role="grok-without-decay"))
    return Study("same-decay", "Is it the transition that moves the gap, or weight decay?", tuple(runs))


def optimizers() -> Study:
    """The story model under three optimizers; the intervals are recomputed from one record.

    Ten updates of 10, 20 and 50 steps fit into 50 lags; those of 200 are five rows of 40 steps each from the ladder.
    """
    watched: dict[str, Any] = {"observe_every": 10, "window": 10, "horizon": 50, "ladder": 2, "store": "groups"}
    runs = [
        Planned(name=f"{name}-{seed}", role=name, config=configure("stories", seed=seed, optimizer=name, **watched))
        for seed in PUBLISHED_SEEDS
        for name in ("adamw", "sgd", "muon")
    ]
    return Study("optimizers", "Does k* depend on the optimizer, or on the interval and the convention?", tuple(runs))


def shift() -> Study:
    """A change of corpus, and a sham at the same step."""
    runs: list[Planned] = []
    for seed in PUBLISHED_SEEDS:
        config = configure("shift", seed=seed, store="groups")
        runs += [
            Planned(name=f"shift-{seed}", config=config),
            Planned(name=f"sham-{seed}", config=config.control(), role="control", twin=f"shift-{seed}", longer=0.0),
        ]
    return Study("shift", "Does the spectrum tell of a shift of distribution that the loss does not?", tuple(runs))


def interventions() -> Study:
    """Weight decay changed after the transition, and gradients suppressed before it, both beside a sham."""
    watched: dict[str, Any] = {
        "observe_every": 50,
        "horizon": 20,
        "store": "groups",
        "groups": "attention*",
        "operation": "add",
    }
    suppressions = [("suppress_orthogonal", strength) for strength in (0.25, 0.5, 0.75, 1.0)]
    suppressions += [("suppress_random", 1.0), ("suppress_norm_matched", 1.0), ("kicks", 50.0), ("kicks", 500.0)]
    runs: list[Planned] = []
    for seed in PUBLISHED_SEEDS:
        base = configure("arithmetic", seed=seed, steps=7_000, probe_parameters=True, **watched)
        runs += _beside_sham("late", base, 4_000, [("weight_decay", strength) for strength in (0.0, 0.3, 3.0)])
    for seed in PUBLISHED_SEEDS:
        base = configure("arithmetic", seed=seed, steps=8_000, **watched)
        runs += _beside_sham("early", base, 500, suppressions, stop_after=500)
    return Study("interventions", "What does the transition, and the gap after it, depend on?", tuple(runs))


def gpu() -> Study:
    """What needs a GPU: reference sizes of SCAN, stories and shift, in pieces as short as `--minutes` says."""
    runs: list[Planned] = []
    for seed in PUBLISHED_SEEDS:
        config = configure("scan", size="gpu", seed=seed, **{**_WATCHED, "horizon": 50, "checkpoint_every": 1_000})
        name = f"scan-{seed}"
        control = Planned(name=f"{name}-control", config=config.control(), role="control", twin=name, longer=0.0)
        runs += [Planned(name=name, config=config), control]
    for name, family, size, options in (
        ("stories-adamw", "stories", "gpu", {"optimizer": "adamw"}),
        ("stories-muon", "stories", "gpu", {"optimizer": "muon"}),
        ("shift", "shift", "gpu", {}),
        ("stories-g124", "stories", "g124", {}),
    ):
        config = configure(family, size=size, seed=42, store="groups", **options)
        runs.append(Planned(name=f"{name}-42", config=config))
    return Study("gpu", "Do the results at a CPU's sizes hold at the published ones?", tuple(runs))


def fresh() -> Study:
    """Two pairs at the smallest size, some minutes each: what the ledger of claims trains anew when it is asked to."""
    runs: list[Planned] = []
    for seed in PUBLISHED_SEEDS[:2]:
        config = configure("arithmetic", size="cpu", seed=seed, steps=6_000, stop_after=500, **_WATCHED)
        control = Planned(
            name=f"add-{seed}-control",
            config=replace(config.control(), stop_after=None),
            role="control",
            twin=f"add-{seed}",
        )
        runs += [Planned(name=f"add-{seed}", config=config), control]
    return Study("fresh", "What do the claims say of runs that were trained just now?", tuple(runs))


STUDIES: dict[str, Callable[[], Study]] = {
    "grokking": grokking,
    "same-decay": same_decay,
    "fault-bank": fault_bank,
    "null-bank": null_bank,
    "optimizers": optimizers,
    "shift": shift,
    "interventions": interventions,
    "gpu": gpu,
    "fresh": fresh,
}
"""Every study by name."""


def _config(family: str, *, seed: int, **options: Any) -> RunConfig:
    return configure(family, size=_SIZES[family], seed=seed, **{**_WATCHED, **_CADENCE[family], **options})


def _pair(name: str, family: str, *, seed: int, stop_after: int = 500, **options: Any) -> Iterator[Planned]:
    """A run that ends after its transition, and its control of half as many steps more."""
    run = _run(name, family, seed=seed, stop_after=stop_after, **options)
    yield run
    control = replace(run.config.control(), stop_after=None)
    yield Planned(name=f"{run.name}-control", config=control, role="control", twin=run.name)


def _run(name: str, family: str, *, seed: int, stop_after: int = 500, **options: Any) -> Planned:
    config = _config(family, seed=seed, steps=GROKKING_STEPS, stop_after=stop_after, **options)
    return Planned(name=f"{name}-{seed}", config=config)


def _without(name: str, family: str, seed: int, *, steps: int = 5_000, **options: Any) -> Planned:
    """A run with decay that is not expected to make the transition."""
    return Planned(name=f"{name}-{seed}", config=_config(family, seed=seed, steps=steps, **options), role="same-decay")


def _beside_sham(
    prefix: str, base: RunConfig, at: int, kinds: list[tuple[str, float]], *, stop_after: int | None = None
) -> Iterator[Planned]:
    """A sham, and runs that are changed after the same step as it."""
    sham = f"{prefix}-sham-{base.seed}"
    yield Planned(name=sham, config=replace(base, perturbation="sham", perturb_at=at), role="control")
    for kind, strength in kinds:
        config = replace(base, perturbation=kind, perturb_at=at, strength=strength, stop_after=stop_after)
        name = f"{prefix}-{kind}-{strength:g}-{base.seed}"
        yield Planned(name=name, config=config, role=kind, twin=sham, longer=0.0)
