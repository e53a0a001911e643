"""Family 1: one modular-arithmetic operation, the setting in which grokking was first described.

Source: arXiv 2603.28964 and 2602.16746. `cpu` and `middle` are scaled down for a CPU; `reference` is the published
size and `slow` the published slow regime.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectral_edge.experiments.config import RunConfig, require_choice, require_number
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
from spectral_edge.experiments.perturbation import Batch, flat


@dataclass(frozen=True, kw_only=True)
class ArithmeticConfig(PairConfig):
    """Settings of one modular-arithmetic task, beside those of all tasks on pairs.

    Attributes:
        operation: one of `OPERATIONS`.
        random_labels: whether the results are shuffled over all pairs, so that nothing can be learned but by heart.
        temperature: what the logits are divided by in the loss.
        norm_cap: share of the initial norm of all parameters that theirs is kept within after every step; 0 for none.
            With it runs make the transition without weight decay.
    """

    family: ClassVar[str] = "arithmetic"
    sizes: ClassVar[tuple[str, ...]] = ("cpu", "middle", "reference", "slow")

    operation: str = "add"
    random_labels: bool = False
    temperature: float = 1.0
    norm_cap: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("operation", self.operation, tuple(OPERATIONS))
        require_number("temperature", self.temperature, positive=True)
        require_number("norm_cap", self.norm_cap, remedy="use 0 for none")

    @classmethod
    def preset(cls, size: str) -> RunConfig:
        """The run of a named size, operation `add`, seed 42, weight decay as published.

        Observations come twice as often as published snapshots: the published window is then stride 2 of the trace.

        Args:
            size: "cpu" (p 43, 72,747 parameters), "middle" (p 59), "reference" (p 97, 290,401 parameters) or "slow"
                (three layers, small learning rate, 422,881 parameters).
        """
        require_choice("size", size, cls.sizes)
        reference = RunConfig(
            task=cls(),
            size="reference",
            weight_decay=1.0,
            steps=5_000,
            observe_every=50,
            eval_every=100,
            checkpoint_every=500,
        )
        if size == "reference":
            return reference
        if size == "slow":
            task = cls(layers=3, learning_rate=5e-5, beta2=0.999)
            cadence = {"observe_every": 1_000, "eval_every": 1_000, "checkpoint_every": 5_000}
            return replace(reference, task=task, size=size, weight_decay=0.1, steps=800_000, **cadence)
        if size == "middle":
            return replace(reference, task=cls(p=59, batch_size=256), size=size, observe_every=25, eval_every=50)
        task = cls(p=43, d_model=64, d_feedforward=128, batch_size=256, train_fraction=0.7)
        return replace(reference, task=task, size=size, observe_every=25, eval_every=50)

    def build(self, *, seed: int, weight_decay: float, device: str) -> "ArithmeticTask":
        """The task with its data split, initial weights and batches all from `seed`."""
        return ArithmeticTask(self, seed=seed, weight_decay=weight_decay, device=device)

    def lines(self, seed: int) -> Iterator[tuple[str, str]]:
        """Pairs and results as "a b result", the training part and the test part in a file each."""
        data = arithmetic_data(self, seed=seed)
        for row, ((a, b), label) in enumerate(zip(data.pairs.tolist(), data.labels.tolist(), strict=True)):
            yield "train.txt" if row < data.train_size else "test.txt", f"{a} {b} {label}"


def arithmetic_data(config: ArithmeticConfig, *, seed: int) -> PairData:
    """All ordered pairs of an operation, shuffled and split as published; `mul` has none with a zero.

    Args:
        config: operation, modulus and training share.
        seed: seed of the shuffle.
    """
    generator = random.Random(seed)
    pairs = shuffled_pairs(range(1 if config.operation == "mul" else 0, config.p), generator=generator)
    label = OPERATIONS[config.operation]
    labels = [label(a, b) % config.p for a, b in pairs]
    if config.random_labels:
        generator.shuffle(labels)
    return split_pairs(pairs, labels, train_fraction=config.train_fraction)


class ArithmeticModel(PairEncoder):
    """The trunk with one head, which is not tied to the embedding.

    Args:
        config: sizes.
    """

    def __init__(self, config: ArithmeticConfig) -> None:
        super().__init__(config)
        self.head = nn.Linear(config.d_model, config.p)

    def forward(self, pairs: Tensor) -> Tensor:
        """Logits [n, p] of the operands [n, 2] (int64)."""
        return self.head(self.encode(pairs))


class ArithmeticTask(PairTask):
    """One modular-arithmetic run: cross-entropy of the one operation.

    Args:
        config: the settings.
        seed: seed of the split, the weights and the batches.
        weight_decay: decoupled decay of every parameter.
        device: where to train.
    """

    def __init__(self, config: ArithmeticConfig, *, seed: int, weight_decay: float, device: str = "cpu") -> None:
        super().__init__(
            config,
            data=arithmetic_data(config, seed=seed),
            model=initialized(lambda: ArithmeticModel(config), seed=seed, device=device),
            head="head.*",
            seed=seed,
            weight_decay=weight_decay,
            device=device,
        )
        self._temperature = config.temperature
        self._cap = config.norm_cap * torch.linalg.vector_norm(flat(self.parameters)).item()

    def batch_loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy at the loss's temperature."""
        return functional.cross_entropy(self.model(batch.inputs) / self._temperature, batch.targets)

    @torch.no_grad()
    def settle(self) -> None:
        """Shrinks all parameters alike where their norm is above the cap."""
        if self._cap:
            norm = torch.linalg.vector_norm(flat(self.parameters))
            if norm > self._cap:
                for parameter in self.parameters:
                    parameter.mul_(self._cap / norm)

    def evaluate(self) -> dict[str, float]:
        """Accuracy and mean loss, at temperature 1, over the whole training part and the whole test part."""
        return pair_scores(self.logits(), self.data.labels, train_size=self.data.train_size)
