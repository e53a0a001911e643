"""What the families that compute modulo a prime share: pairs of operands, their split, and a trunk that reads them.

Source: arXiv 2603.28964, 2602.16746 and 2602.18523, with the data order, the initialisation and the training loop
that their results rest on.
"""

import math
import random
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectral_edge.errors import InputError
from spectral_edge.experiments.config import TaskConfig, require_int, require_number
from spectral_edge.experiments.families.encoder import adamw, encoder_groups, encoder_stack, require_encoder
from spectral_edge.experiments.perturbation import Batch
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
class PairData:
    """A split table of pairs and labels, int64, in shuffled order, training part first.

    Attributes:
        pairs: the operands, [n, 2].
        labels: the results modulo p, [n], or [n, tasks] where several are computed.
        train_size: how many of the leading rows are for training.
    """

    pairs: Tensor
    labels: Tensor
    train_size: int


@dataclass(frozen=True, kw_only=True)
class PairConfig(TaskConfig):
    """Settings that tasks on pairs have in common; the defaults are the published size.

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
    """

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

    def __post_init__(self) -> None:
        require_int("p", self.p, least=3, remedy="pass an odd prime, for instance 97")
        if any(self.p % divisor == 0 for divisor in range(2, math.isqrt(self.p) + 1)):
            raise InputError("p", expected="a prime modulus", found=str(self.p), remedy="pass a prime, for instance 97")
        require_encoder(d_model=self.d_model, heads=self.heads, d_feedforward=self.d_feedforward, layers=self.layers)
        require_int("batch_size", self.batch_size, least=1)
        for name in ("train_fraction", "beta2"):
            require_number(name, getattr(self, name), below=1.0, positive=True)
        for name in ("learning_rate", "max_grad_norm"):
            require_number(name, getattr(self, name), positive=True)


def shuffled_pairs(operands: range, *, generator: random.Random) -> list[tuple[int, int]]:
    """All ordered pairs in row-major order, shuffled as published.

    Python's own generator is used, whose sequence is fixed across versions and machines. Mirrored pairs, which a
    commutative operation cannot tell apart, fall on both sides of a split.

    Args:
        operands: what either operand may be.
        generator: does the shuffle.
    """
    pairs = [(a, b) for a in operands for b in operands]
    generator.shuffle(pairs)
    return pairs


def split_pairs(
    pairs: Sequence[tuple[int, int]], labels: Sequence[int] | Sequence[Sequence[int]], *, train_fraction: float
) -> PairData:
    """The table of pairs and labels, of which the leading share, rounded down, is for training."""
    return PairData(
        pairs=torch.tensor(pairs, dtype=torch.int64),
        labels=torch.tensor(labels, dtype=torch.int64),
        train_size=int(train_fraction * len(pairs)),
    )


class PairEncoder(nn.Module):
    """Pre-norm transformer encoder over the two operands, read out at the first; subclasses add their heads.

    Args:
        config: sizes.
    """

    def __init__(self, config: PairConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.p, config.d_model)
        self.position = nn.Parameter(torch.randn(2, config.d_model) / math.sqrt(config.d_model))
        self.encoder = encoder_stack(
            d_model=config.d_model, heads=config.heads, d_feedforward=config.d_feedforward, layers=config.layers
        )
        self.norm = nn.LayerNorm(config.d_model)

    def encode(self, pairs: Tensor) -> Tensor:
        """The normalised vector [n, d_model] at the first of the operands [n, 2] (int64)."""
        hidden = self.encoder(self.embedding(pairs) + self.position)
        return self.norm(hidden[:, 0])


class PairTask(SampledTask, ABC):
    """A run on pairs: AdamW on all parameters, batches drawn with replacement; subclasses say what the loss is.

    Args:
        config: the settings.
        data: the split table.
        model: the network, on `device`; its heads are the parameters that `head` names.
        head: glob over the names of the heads' parameters.
        seed: seed of the batches.
        weight_decay: decoupled decay of every parameter, embeddings, norms and biases included.
        device: where to train.
    """

    def __init__(
        self,
        config: PairConfig,
        *,
        data: PairData,
        model: PairEncoder,
        head: str,
        seed: int,
        weight_decay: float,
        device: str,
    ) -> None:
        super().__init__(
            model,
            adamw(model, learning_rate=config.learning_rate, beta2=config.beta2, weight_decay=weight_decay),
            train_size=data.train_size,
            batch_size=config.batch_size,
            max_grad_norm=config.max_grad_norm,
            seed=seed,
        )
        self._data = PairData(data.pairs.to(device), data.labels.to(device), data.train_size)
        self._layers = tuple(model.encoder.layers)
        self.groups: Mapping[str, Sequence[str]] = {
            **encoder_groups(config.layers),
            "embedding": ("embedding.weight", "position"),
            "head": ("norm.*", head),
        }

    @property
    def data(self) -> PairData:
        """The split table, on the task's device."""
        return self._data

    def layers(self) -> Sequence[nn.Module]:
        """The encoder layers."""
        return self._layers

    def batch(self, rows: Tensor) -> Batch:
        """The training pairs with these indices and their results."""
        rows = rows.to(self._data.pairs.device)
        return Batch(self._data.pairs[rows], self._data.labels[rows])

    @torch.no_grad()
    def logits(self) -> Tensor:
        """What the model says of the whole table."""
        self.model.eval()
        logits = self.model(self._data.pairs)
        self.model.train()
        return logits


def pair_scores(logits: Tensor, labels: Tensor, *, train_size: int) -> dict[str, float]:
    """Accuracy and mean loss over the whole training part and the whole test part of a table.

    Args:
        logits: [n, p].
        labels: [n], int64.
        train_size: how many of the leading rows are the training part.
    """
    losses = functional.cross_entropy(logits, labels, reduction="none").double()
    hits = (logits.argmax(dim=1) == labels).double()
    return {
        "train_accuracy": hits[:train_size].mean().item(),
        "test_accuracy": hits[train_size:].mean().item(),
        "train_loss": losses[:train_size].mean().item(),
        "test_loss": losses[train_size:].mean().item(),
    }
