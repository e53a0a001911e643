"""Banks of short runs on which alarms are tuned and judged: faults, and runs with and without a transition.

Runs of odd seeds are for development, those of even seeds are held out; this was fixed before any of them was run.
"""

from dataclasses import replace
from typing import Any

from spectral_edge.experiments import RunConfig, configure
from spectral_edge.studies.plan import HALVES, Planned, Study

FAULTS = (
    "optimizer_lost",
    "stale_gradients",
    "frozen_layer",
    "bf16_rounding",
    "learning_rate_high",
    "learning_rate_low",
    "batch_small",
    "label_corruption",
    "input_corruption",
    "repeated_data",
    "attention_explosion",
    "replica_drift",
    "loss_spikes",
)
LANGUAGE_ONLY = ("attention_explosion",)
MODELS = ("language", "classifier")

HEALTHY = 12
"""Seeds of each model, every one with a healthy run; a fault takes four of them, and eight where it has one model."""

FAULT_AT, FAULT_STEPS, RAMP = 500, 1_000, 250

SMALL_LANGUAGE: dict[str, Any] = {
    "layers": 2,
    "d_model": 64,
    "d_feedforward": 256,
    "texts": 1_000,
    "validation_texts": 128,
    "probes": 64,
    "warmup": 50,
}
"""What is reduced of the story model, so that a thousand steps take half a minute."""

_SHORT: dict[str, Any] = {"window": 10, "ladder": 0, "store": "groups", "checkpoint_every": 500}
_TRUNK: dict[str, Any] = {**_SHORT, "horizon": 12, "groups": "*_[0-9]", "observe_every": 10, "eval_every": 50}
"""Attention and feed-forward part of each layer apart, and lags for one window: a fault may sit in one of them."""


def half(seed: int) -> str:
    """The half that a seed belongs to."""
    return HALVES[0] if seed % 2 else HALVES[1]


def fault_bank() -> Study:
    """Thirteen faults of eight seeds each, and 24 healthy runs with a sham at the same step.

    Onset, half and model are crossed: of the four seeds of a fault and a model two are abrupt and two gradual, one of
    each for development and one of each held out. A fault's twin is the healthy run of its model and seed.
    """
    models = {"language": _language, "classifier": _classifier}
    runs = [
        Planned(
            name=f"healthy-{model}-{seed}",
            config=replace(models[model](seed), perturbation="sham", perturb_at=FAULT_AT),
            role="healthy",
            half=half(seed),
        )
        for model in MODELS
        for seed in range(1, HEALTHY + 1)
    ]
    for number, fault in enumerate(FAULTS):
        chosen = MODELS[:1] if fault in LANGUAGE_ONLY else MODELS
        for model in chosen:
            for seed in _seeds(number, count=8 // len(chosen)):
                gradual = (seed - 1) // 2 % 2 == 1
                config = replace(
                    models[model](seed), perturbation=fault, perturb_at=FAULT_AT, perturb_ramp=RAMP if gradual else 0
                )
                twin = f"healthy-{model}-{seed}"
                name = f"{fault}-{model}-{seed}"
                runs.append(Planned(name=name, config=config, role=fault, twin=twin, longer=0.0, half=half(seed)))
    return Study("fault-bank", "Which faults of training does the spectrum tell, how soon, and which not?", tuple(runs))


def null_bank() -> Study:
    """Runs that are expected to make the transition, and a greater number that are not."""
    runs: list[Planned] = []
    for operation, count in (("add", 18), ("sub", 18), ("x2_y2", 16)):
        for seed in range(1, count + 1):
            config = _arithmetic(seed, operation=operation, steps=6_000, stop_after=500)
            runs.append(_banked(operation, "transition", config))
    for seed in range(1, 17):
        watched: dict[str, Any] = {**_SHORT, "horizon": 20, "groups": "attention*", "stop_after": 500}
        config = configure("dyck", seed=seed, steps=6_000, observe_every=25, eval_every=25, **watched)
        runs.append(_banked("dyck", "transition", config))
    nulls: list[tuple[str, int, dict[str, Any]]] = [
        ("no_decay", 10, {"weight_decay": 0.0}),
        ("little_decay", 8, {"weight_decay": 0.1}),
        ("much_decay", 8, {"weight_decay": 8.0}),
        ("slow", 8, {"learning_rate": 1e-4}),
        ("fast", 8, {"learning_rate": 0.1}),
        ("random_labels", 10, {"random_labels": True}),
        ("random_labels_no_decay", 8, {"random_labels": True, "weight_decay": 0.0}),
        ("little_data", 10, {"train_fraction": 0.3}),
        ("little_data_sub", 8, {"train_fraction": 0.3, "operation": "sub"}),
    ]
    for kind, count, options in nulls:
        for seed in range(1, count + 1):
            runs.append(_banked(kind, "null", _arithmetic(seed, steps=3_000, **options)))
    for size, count in (("cpu", 6), ("small", 4), ("large", 4)):
        for seed in range(1, count + 1):
            config = _classifier(seed, size=size, steps=1_500, label_noise=1.0)
            runs.append(_banked(f"classifier_{size}", "null", config))
    for seed in range(1, 9):
        runs.append(_banked("language_under", "null", _language(seed, steps=800, learning_rate=1e-4)))
        runs.append(_banked("language_well", "null", _language(seed, steps=1_500, schedule_steps=1_500)))
    return Study("null-bank", "What do runs look like in which nothing happens?", tuple(runs))


def _seeds(number: int, *, count: int) -> range:
    """Seeds of one fault: whole blocks of four, from another block for the next fault, so that all seeds serve."""
    places = (HEALTHY - count) // 4 + 1
    first = 4 * (number % places) + 1
    return range(first, first + count)


def _banked(kind: str, role: str, config: RunConfig) -> Planned:
    return Planned(name=f"{kind}-{config.seed}", config=config, role=role, half=half(config.seed))


def _arithmetic(seed: int, **options: Any) -> RunConfig:
    watched: dict[str, Any] = {**_SHORT, "horizon": 20, "groups": "attention*"}
    return configure("arithmetic", seed=seed, observe_every=50, eval_every=50, **watched, **options)


def _language(seed: int, *, steps: int = FAULT_STEPS, **options: Any) -> RunConfig:
    settings: dict[str, Any] = {**SMALL_LANGUAGE, "schedule_steps": FAULT_STEPS, **_TRUNK, **options}
    return configure("stories", seed=seed, steps=steps, **settings)


def _classifier(seed: int, *, size: str = "cpu", steps: int = FAULT_STEPS, **options: Any) -> RunConfig:
    return configure("patterns", size=size, seed=seed, steps=steps, **_TRUNK, **options)
