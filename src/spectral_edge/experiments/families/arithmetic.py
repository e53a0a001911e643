"""Family 1: one modular-arithmetic operation, the setting in which grokking was first described.

Source: arXiv 2603.28964 and 2602.16746, with the data order, the initialisation and the training loop that their
results rest on. `cpu` and `middle` are scaled down for a CPU; `reference` is the published size and `slow` the
published slow regime.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import nn
from torch.nn import functional

from spectral_edge.errors import InputError
from spectral_edge.experiments.config import RunConfig, TaskConfig, require_choice, require_int, require_number
from spectral_edge.experiments.perturbation import Batch, flat
from spectral_edge.experiments.task import SampledTask

OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "x2_y2": lambda a, b: a * a + b * b,
    "x2_xy_y2": lambda a, b: a * a + a * b + b * b,
    "x3_xy": lambda a, b: a * a * a + a * b,
}
"""Label of a pair before it is reduced modulo p."""


@dataclass(frozen=True, slots=True)
class ArithmeticData:
    """A split table of an operation: `pairs` [n, 2] and `labels` [n], int64, in shuffled order, training part first.

    Attributes:
        pairs: the operands.
        labels: the results modulo p.
        train_size: how many of the leading rows are for training.
    """

    pairs: torch.Tensor
    labels: torch.Tensor
    train_size: int


@dataclass(frozen=True, kw_only=True)
class ArithmeticConfig(TaskConfig):
    """Settings of one modular-arithmetic task.

    Attributes:
        p: prime modulus.
        train_fraction: share of all ordered pairs that is trained on.
        d_model: width.
        heads: attention heads.
        d_feedforward: width of the feed-forward part.
        layers: encoder layers.
        batch_size: pairs drawn a step, with replacement.
        learning_rate: constant, in parameter units a step.
        beta2: second AdamW coefficient; the first is 0.9.
        max_grad_norm: norm to which gradients are clipped.
        operation: one of `OPERATIONS`.
        random_labels: whether the results are shuffled over all pairs, so that nothing can be learned but by heart.
        temperature: what the logits are divided by in the loss.
        norm_cap: share of the initial norm of all parameters that theirs is kept within after every step; 0 for none.
            With it runs make the transition without weight decay.
    """

    family: ClassVar[str] = "arithmetic"
    sizes: ClassVar[tuple[str, ...]] = ("cpu", "middle", "reference", "slow")

    p: int = 97
    train_fraction: float = 0.5
    d_model: int = 128
    heads: int = 4
    d_feedforward: int = 256
    layers: int = 2
    batch_size: int = 512
    learning_rate: float = 1e-3
    beta2: float = 0.98
    max_grad_norm: float = 1.0
    operation: str = "add"
    random_labels: bool = False
    temperature: float = 1.0
    norm_cap: float = 0.0

    def __post_init__(self) -> None:
        require_choice("operation", self.operation, tuple(OPERATIONS))
        for name in ("heads", "d_feedforward", "layers", "batch_size"):
            require_int(name, getattr(self, name), least=1)
        require_int("p", self.p, least=3, remedy="pass an odd prime, for instance 97")
        if any(self.p % divisor == 0 for divisor in range(2, math.isqrt(self.p) + 1)):
            raise InputError("p", expected="a prime modulus", found=str(self.p), remedy="pass a prime, for instance 97")
        require_int("d_model", self.d_model, least=self.heads)
        if self.d_model % self.heads:
            raise InputError(
                "d_model",
                expected=f"a multiple of the {self.heads} heads",
                found=str(self.d_model),
                remedy="change one of the two",
            )
        for name in ("train_fraction", "beta2"):
            require_number(name, getattr(self, name), below=1.0, positive=True)
        for name in ("learning_rate", "max_grad_norm", "temperature"):
            require_number(name, getattr(self, name), positive=True)
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


def arithmetic_data(config: ArithmeticConfig, *, seed: int) -> ArithmeticData:
    """All ordered pairs of an operation, shuffled as published.

    Pairs are listed in row-major order (`mul` without zero) and shuffled with Python's own generator, whose sequence
    is fixed across versions and machines. Mirrored pairs of a commutative operation fall on both sides of the split.

    Args:
        config: operation, modulus and training share.
        seed: seed of the shuffle.

    Returns:
        The table, training part first.
    """
    operands = range(1 if config.operation == "mul" else 0, config.p)
    pairs = [(a, b) for a in operands for b in operands]
    shuffle = random.Random(seed)
    shuffle.shuffle(pairs)
    label = OPERATIONS[config.operation]
    labels = [label(a, b) % config.p for a, b in pairs]
    if config.random_labels:
        shuffle.shuffle(labels)
    return ArithmeticData(
        pairs=torch.tensor(pairs, dtype=torch.int64),
        labels=torch.tensor(labels, dtype=torch.int64),
        train_size=int(config.train_fraction * len(pairs)),
    )


class ArithmeticModel(nn.Module):
    """Pre-norm transformer encoder over the two operands, read out at the first.

    The stock encoder clones the layer that it is given, so all layers start identical, as in the published runs.
    There is no dropout; embedding and head are untied.

    Args:
        config: sizes.
    """

    def __init__(self, config: ArithmeticConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.p, config.d_model)
        self.position = nn.Parameter(torch.randn(2, config.d_model) / math.sqrt(config.d_model))
        layer = nn.TransformerEncoderLayer(
            config.d_model,
            config.heads,
            config.d_feedforward,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        # Nested tensors exist for padding, of which there is none, and warn under norm_first.
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, config.p)

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        """Logits [n, p] of the operands [n, 2] (int64)."""
        hidden = self.encoder(self.embedding(pairs) + self.position)
        return self.head(self.norm(hidden[:, 0]))


class ArithmeticTask(SampledTask):
    """One modular-arithmetic run: cross-entropy, AdamW on all parameters, batches drawn with replacement.

    Args:
        config: the settings.
        seed: seed of the split, the weights and the batches.
        weight_decay: decoupled decay of every parameter, embeddings, norms and biases included.
        device: where to train.
    """

    def __init__(self, config: ArithmeticConfig, *, seed: int, weight_decay: float, device: str = "cpu") -> None:
        data = arithmetic_data(config, seed=seed)
        self._data = ArithmeticData(data.pairs.to(device), data.labels.to(device), data.train_size)
        # Initial weights depend on the seed alone, and making them leaves the caller's random state as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = ArithmeticModel(config).to(device)
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=config.learning_rate,
            betas=(0.9, config.beta2),
            eps=1e-8,
            weight_decay=weight_decay,
            fused=True,  # the same update in one pass over the parameters, a tenth of a step's time at cpu size
        )
        super().__init__(
            model,
            optimizer,
            train_size=data.train_size,
            batch_size=config.batch_size,
            max_grad_norm=config.max_grad_norm,
            seed=seed,
        )
        self._temperature = config.temperature
        self._cap = config.norm_cap * torch.linalg.vector_norm(flat(self.parameters)).item()
        depth = range(config.layers)
        self.groups: Mapping[str, Sequence[str]] = {
            # The published Gram matrices hold W_Q, W_K, W_V and W_O of all layers, without their biases.
            # One group a layer: `trace.edge(group="attention*")` adds them up.
            **{f"attention_{layer}": _weights(layer, "self_attn.in_proj_", "self_attn.out_proj.") for layer in depth},
            **{f"feedforward_{layer}": _weights(layer, "linear1.", "linear2.") for layer in depth},
            "embedding": ("embedding.weight", "position"),
            "head": ("norm.*", "head.*"),
        }

    @property
    def data(self) -> ArithmeticData:
        """The split table, on the task's device."""
        return self._data

    def layers(self) -> Sequence[nn.Module]:
        """The encoder layers."""
        return tuple(cast(ArithmeticModel, self.model).encoder.layers)

    def batch(self, rows: torch.Tensor) -> Batch:
        """The training pairs with these indices and their results."""
        rows = rows.to(self._data.pairs.device)
        return Batch(self._data.pairs[rows], self._data.labels[rows])

    def batch_loss(self, batch: Batch) -> torch.Tensor:
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

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Accuracy and mean loss over the whole training part and the whole test part."""
        self.model.eval()
        logits = cast(torch.Tensor, self.model(self._data.pairs))
        self.model.train()
        losses = functional.cross_entropy(logits, self._data.labels, reduction="none")
        hits = (logits.argmax(dim=1) == self._data.labels).double()
        cut = self._data.train_size
        return {
            "train_accuracy": hits[:cut].mean().item(),
            "test_accuracy": hits[cut:].mean().item(),
            "train_loss": losses[:cut].double().mean().item(),
            "test_loss": losses[cut:].double().mean().item(),
        }


def _weights(layer: int, *modules: str) -> tuple[str, ...]:
    return tuple(f"encoder.layers.{layer}.{module}weight" for module in modules)
