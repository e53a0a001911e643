"""Families 2 and 3: two or three modular operations learned at once by one trunk with a head for each.

Source: arXiv 2603.28964 and 2602.18523. `cpu` is scaled down to a modulus of 59, the smallest at which two operations
are known to make the transition together; `reference` is the published size.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectral_edge.experiments.config import RunConfig, require_choice
from spectral_edge.experiments.families.encoder import initialized
from spectral_edge.experiments.families.pairs import (
    OPERATIONS,
    PairConfig,
    PairData,
    PairEncoder,
    PairTask,
    pair_scores,
    shuffled_pairs,
    split_pairs,
)
from spectral_edge.experiments.perturbation import Batch


@dataclass(frozen=True, kw_only=True)
class JointConfig(PairConfig):
    """Settings of several operations on the same pairs; the two families below say which.

    Attributes:
        operations: the names in `OPERATIONS` of what is computed, in the order of the heads.
        limits: size to the optimizer steps of its preset.
    """

    sizes: ClassVar[tuple[str, ...]] = ("cpu", "reference")
    operations: ClassVar[tuple[str, ...]]
    limits: ClassVar[Mapping[str, int]]

    @classmethod
    def preset(cls, size: str) -> RunConfig:
        """The run of a named size, seed 42, weight decay as published.

        The published windows have 200 steps between updates: stride 4 of the reference trace. As there, a run ends
        early once all operations are learned, though here 1,000 steps later, so that what follows is seen too.

        Args:
            size: "cpu" (p 59) or "reference" (p 97).
        """
        require_choice("size", size, cls.sizes)
        reference = RunConfig(
            task=cls(),
            size="reference",
            weight_decay=1.0,
            steps=cls.limits["reference"],
            observe_every=50,
            eval_every=100,
            checkpoint_every=500,
            stop_after=1_000,
        )
        if size == "reference":
            return reference
        task = cls(p=59, train_fraction=0.7)
        return replace(reference, task=task, size=size, steps=cls.limits[size], observe_every=25, eval_every=50)

    def build(self, *, seed: int, weight_decay: float, device: str) -> "JointTask":
        """The task with its data split, initial weights and batches all from `seed`."""
        return JointTask(self, seed=seed, weight_decay=weight_decay, device=device)

    def lines(self, seed: int) -> Iterator[tuple[str, str]]:
        """Pairs and results as "a b result result", the training part and the test part in a file each."""
        data = joint_data(self, seed=seed)
        for row, numbers in enumerate(torch.cat([data.pairs, data.labels], dim=1).tolist()):
            yield "train.txt" if row < data.train_size else "test.txt", " ".join(map(str, numbers))


@dataclass(frozen=True, kw_only=True)
class DualConfig(JointConfig):
    """Addition and multiplication: 302,914 parameters at reference size, 288,246 at cpu size."""

    family: ClassVar[str] = "dual"
    operations: ClassVar[tuple[str, ...]] = ("add", "mul")
    # Published runs went on for up to 300,000 steps and made the transition at 13,333 +- 2,620.
    limits: ClassVar[Mapping[str, int]] = {"cpu": 8_000, "reference": 20_000}


@dataclass(frozen=True, kw_only=True)
class TriConfig(JointConfig):
    """Addition, multiplication and a sum of squares: 315,427 parameters at reference size, 295,857 at cpu size."""

    family: ClassVar[str] = "tri"
    operations: ClassVar[tuple[str, ...]] = ("add", "mul", "x2_y2")
    # The latest published transition is at step 30,500.
    limits: ClassVar[Mapping[str, int]] = {"cpu": 15_000, "reference": 40_000}


def joint_data(config: JointConfig, *, seed: int) -> PairData:
    """All ordered pairs without a zero and the result of every operation, shuffled and split as published.

    Args:
        config: operations, modulus and training share.
        seed: seed of the shuffle.
    """
    pairs = shuffled_pairs(range(1, config.p), generator=random.Random(seed))
    labels = [[OPERATIONS[name](a, b) % config.p for name in config.operations] for a, b in pairs]
    return split_pairs(pairs, labels, train_fraction=config.train_fraction)


class JointModel(PairEncoder):
    """The trunk with one head per operation, all of which read the same vector.

    Args:
        config: sizes and operations.
    """

    def __init__(self, config: JointConfig) -> None:
        super().__init__(config)
        self.heads = nn.ModuleDict({name: nn.Linear(config.d_model, config.p) for name in config.operations})

    def forward(self, pairs: Tensor) -> Tensor:
        """Logits [n, operations, p] of the operands [n, 2] (int64)."""
        hidden = self.encode(pairs)
        return torch.stack([head(hidden) for head in self.heads.values()], dim=1)


class JointTask(PairTask):
    """One run of several operations: the unweighted sum of their cross-entropies.

    Args:
        config: the settings.
        seed: seed of the split, the weights and the batches.
        weight_decay: decoupled decay of every parameter.
        device: where to train.
    """

    def __init__(self, config: JointConfig, *, seed: int, weight_decay: float, device: str = "cpu") -> None:
        super().__init__(
            config,
            data=joint_data(config, seed=seed),
            model=initialized(lambda: JointModel(config), seed=seed, device=device),
            head="heads.*",
            seed=seed,
            weight_decay=weight_decay,
            device=device,
        )
        self._operations = config.operations

    def batch_loss(self, batch: Batch) -> Tensor:
        """Sum over the operations of the mean cross-entropy."""
        logits, losses = self.model(batch.inputs), functional.cross_entropy
        return torch.stack([losses(logits[:, i], batch.targets[:, i]) for i in range(len(self._operations))]).sum()

    def evaluate(self) -> dict[str, float]:
        """Accuracies of the worst operation, summed losses, and each operation's test accuracy.

        The published runs end when every operation has once been at 0.98 three times running, each at its own time;
        the criteria here ask it of all at the same time.
        """
        logits, labels = self.logits(), self.data.labels
        scores = [
            pair_scores(logits[:, i], labels[:, i], train_size=self.data.train_size)
            for i in range(len(self._operations))
        ]
        return {
            "train_accuracy": min(score["train_accuracy"] for score in scores),
            "test_accuracy": min(score["test_accuracy"] for score in scores),
            "train_loss": sum(score["train_loss"] for score in scores),
            "test_loss": sum(score["test_loss"] for score in scores),
            **{
                f"test_accuracy_{name}": score["test_accuracy"]
                for name, score in zip(self._operations, scores, strict=True)
            },
        }
