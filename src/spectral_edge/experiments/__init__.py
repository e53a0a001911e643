"""The experiments of the papers as clients of the public API.

    from spectral_edge.experiments import configure, run

    config = configure("arithmetic", size="cpu", operation="add", seed=42)
    result = run(config, "runs/add")
    control = run(config.control(), "runs/add-control")
    result.grok["sustained_95"]        # a step, or None where it never grokked

A family is a `TaskConfig` that builds a `Task`; the runner is the same for all.
"""

from typing import Any

from spectral_edge.experiments.config import RunConfig, TaskConfig, require_choice, with_options
from spectral_edge.experiments.families.arithmetic import ArithmeticConfig
from spectral_edge.experiments.families.dyck import DyckConfig
from spectral_edge.experiments.families.joint import DualConfig, TriConfig
from spectral_edge.experiments.families.pairs import OPERATIONS
from spectral_edge.experiments.families.patterns import PatternsConfig
from spectral_edge.experiments.families.scan import ScanConfig
from spectral_edge.experiments.families.shift import ShiftConfig
from spectral_edge.experiments.families.stories import StoriesConfig
from spectral_edge.experiments.perturbation import Batch
from spectral_edge.experiments.runner import Progress, RunResult, check_folder, run
from spectral_edge.experiments.task import SampledTask, Task, TrainStep
from spectral_edge.experiments.typed import option_named, parse_settings, settings_help, sizes_help

__all__ = [
    "FAMILIES",
    "OPERATIONS",
    "Batch",
    "Progress",
    "RunConfig",
    "RunResult",
    "SampledTask",
    "Task",
    "TaskConfig",
    "TrainStep",
    "check_folder",
    "configure",
    "option_named",
    "parse_settings",
    "run",
    "settings_help",
    "sizes_help",
]

FAMILIES: dict[str, type[TaskConfig]] = {
    kind.family: kind
    for kind in (
        ArithmeticConfig,
        DualConfig,
        TriConfig,
        DyckConfig,
        ScanConfig,
        StoriesConfig,
        ShiftConfig,
        PatternsConfig,
    )
}
"""Every family by name."""


def configure(family: str, *, size: str = "cpu", **options: Any) -> RunConfig:
    """The configuration of a run.

    Args:
        family: one of `FAMILIES`.
        size: a preset of the family.
        options: settings to change: fields of `RunConfig` or of the family's task configuration.

    Returns:
        The configuration, checked.

    Raises:
        InputError: for an unknown family, size or option, or a value that is not accepted.
    """
    require_choice("family", family, tuple(FAMILIES))
    return with_options(FAMILIES[family].preset(size), **options)
