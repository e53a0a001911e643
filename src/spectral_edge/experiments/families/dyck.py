"""Family 4: the depth of every position in a string of balanced brackets of one kind.

Source: arXiv 2603.28964 and 2602.16967; their results rest on one kind of bracket and depths up to 12. `cpu` is scaled
down for a CPU, `reference` is the published size. Accuracy is near 0.9 at once, and a run without weight decay passes
0.95 too: the transition to look for is that to 0.98.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectral_edge.errors import InputError
from spectral_edge.experiments.config import RunConfig, TaskConfig, require_choice, require_int, require_number
from spectral_edge.experiments.families.dyck_data import (
    LONGER_PAIRS,
    PAIRS,
    SPLITS,
    TOKENS,
    UNSCORED,
    DyckData,
    dyck_data,
    encoded,
)
from spectral_edge.experiments.families.encoder import (
    adamw,
    encoder_groups,
    encoder_stack,
    initialized,
    require_encoder,
)
from spectral_edge.experiments.families.prefixes import Prefixes, packed, prefixes
from spectral_edge.experiments.perturbation import Batch
from spectral_edge.experiments.task import SampledTask

LARGEST_SPLIT = 20_000


@dataclass(frozen=True, kw_only=True)
class DyckConfig(TaskConfig):
    """Settings of the depth task. The data are the same for every seed.

    Attributes:
        split: "published" (strings occur in the training part several times, and in the test part again) or
            "deduplicated" (training strings are distinct, and no test string is one of them).
        train_size: training strings.
        test_size: test strings.
        random_labels: whether the depths are shuffled over all distinct prefixes of strings. A causal network sees the
            prefix only, so that it can still learn the labels by heart, and in no other way.
        d_model: width.
        heads: attention heads.
        d_feedforward: width of the feed-forward part.
        layers: encoder layers.
        positions: learned positions; from 40 on there is room for the longer strings of `ood_accuracy`.
        batch_size: strings drawn a step, with replacement.
        learning_rate: constant, in parameter units a step.
        max_grad_norm: norm to which gradients are clipped.
    """

    family: ClassVar[str] = "dyck"
    sizes: ClassVar[tuple[str, ...]] = ("cpu", "reference")

    split: str = "published"
    train_size: int = 50
    test_size: int = 5_000
    random_labels: bool = False
    d_model: int = 128
    heads: int = 4
    d_feedforward: int = 256
    layers: int = 2
    positions: int = 48
    batch_size: int = 50
    learning_rate: float = 1e-3
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        require_choice("split", self.split, SPLITS)
        for name in ("train_size", "test_size", "batch_size"):
            require_int(name, getattr(self, name), least=1)
        if self.train_size + self.test_size > LARGEST_SPLIT:
            raise InputError(
                "train_size and test_size",
                expected=f"at most {LARGEST_SPLIT:,} strings",  # there are few short ones, and distinct ones run out
                found=f"{self.train_size + self.test_size:,}",
                remedy="ask for fewer",
            )
        require_encoder(d_model=self.d_model, heads=self.heads, d_feedforward=self.d_feedforward, layers=self.layers)
        require_int("positions", self.positions, least=2 * PAIRS, remedy="the strings must fit")
        for name in ("learning_rate", "max_grad_norm"):
            require_number(name, getattr(self, name), positive=True)

    @classmethod
    def preset(cls, size: str) -> RunConfig:
        """The run of a named size, seed 42, weight decay as published.

        Observations come every 50 steps, as the snapshots of the one published run that was dense enough. All
        published transitions lie before step 10,000, where the published controls end.

        Args:
            size: "cpu" (69,645 parameters) or "reference" (273,421 parameters).
        """
        require_choice("size", size, cls.sizes)
        reference = RunConfig(
            task=cls(),
            size="reference",
            weight_decay=1.0,
            steps=10_000,
            observe_every=50,
            eval_every=50,
            checkpoint_every=500,
        )
        if size == "reference":
            return reference
        task = cls(d_model=64, d_feedforward=128, positions=2 * PAIRS)
        return replace(reference, task=task, size=size, steps=3_000, observe_every=25, eval_every=25)

    def data(self) -> DyckData:
        """The strings and their labels."""
        return dyck_data(
            split=self.split, train_size=self.train_size, test_size=self.test_size, random_labels=self.random_labels
        )

    def build(self, *, seed: int, weight_decay: float, device: str) -> "DyckTask":
        """The task with its initial weights and batches from `seed`."""
        return DyckTask(self, seed=seed, weight_decay=weight_decay, device=device)

    def lines(self, seed: int) -> Iterator[tuple[str, str]]:
        """Strings and the labels of their positions, as "(())", a tab and "1 2 1 0"."""
        data = self.data()
        for name, strings in (("train", data.train), ("test", data.test), ("longer", data.longer)):
            for string in strings:
                yield f"{name}.txt", f"{string}\t{' '.join(map(str, data.labels(string)))}"


class DyckModel(nn.Module):
    """Causal pre-norm transformer encoder that says the depth at every position.

    Padding stands at the end, where no bracket can see it.

    Args:
        config: sizes.
    """

    mask: Tensor

    def __init__(self, config: DyckConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.embedding = nn.Embedding(len(TOKENS) + 1, config.d_model)
        # The scale is unpublished. Divided by the root of the width, as in family 1, runs and controls alike pass 0.95
        # long before the published steps; as wide as token embeddings they come near them.
        self.position = nn.Parameter(torch.randn(config.positions, config.d_model))
        self.encoder = encoder_stack(
            d_model=config.d_model, heads=config.heads, d_feedforward=config.d_feedforward, layers=config.layers
        )
        self.norm = nn.LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, PAIRS + 1)
        mask = nn.Transformer.generate_square_subsequent_mask(config.positions)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [n, length, depths] of tokens [n, length] (int64)."""
        length = tokens.shape[1]
        hidden = self.embedding(tokens) + self.position[:length]
        hidden = self.encoder(hidden, mask=self.mask[:length, :length], is_causal=True)
        return self.head(self.norm(hidden))

    def read(self, part: Prefixes) -> Tensor:
        """Logits [rows, width, depths] at the ends of prefixes, those of `forward` for the strings they come from."""
        hidden = self.embedding(part.tokens) + self.position[part.places]
        hidden = self.encoder(hidden, mask=part.mask.repeat_interleave(self.heads, dim=0), is_causal=False)
        return self.head(self.norm(hidden))


class _Score(NamedTuple):
    """Accuracy and mean loss per bracket of a set of strings; NaN for an empty one."""

    accuracy: float
    loss: float


class DyckTask(SampledTask):
    """One run of the depth task: cross-entropy over all brackets of a batch, AdamW on all parameters.

    Args:
        config: the settings.
        seed: seed of the weights and the batches.
        weight_decay: decoupled decay of every parameter.
        device: where to train.
    """

    def __init__(self, config: DyckConfig, *, seed: int, weight_decay: float, device: str = "cpu") -> None:
        data = config.data()
        model = initialized(lambda: DyckModel(config), seed=seed, device=device)
        super().__init__(
            model,
            adamw(model, learning_rate=config.learning_rate, beta2=0.98, weight_decay=weight_decay),
            train_size=config.train_size,
            batch_size=config.batch_size,
            max_grad_norm=config.max_grad_norm,
            seed=seed,
        )
        self.data = data
        self._layers = tuple(model.encoder.layers)
        self._train = Batch(*(part.to(device) for part in encoded(data.train, data, length=2 * PAIRS)))
        trained = set(data.train)
        self._sets = {
            "train": data.train,
            "test": data.test,
            "unseen": [string for string in data.test if string not in trained],
            "longer": data.longer if config.positions >= 2 * LONGER_PAIRS else [],
        }
        self._prefixes = _packed(data, list(self._sets.values()), device=device)
        self.groups: Mapping[str, Sequence[str]] = {
            **encoder_groups(config.layers),
            "embedding": ("embedding.weight", "position"),
            "head": ("norm.*", "head.*"),
        }

    def layers(self) -> Sequence[nn.Module]:
        """The encoder layers."""
        return self._layers

    def batch(self, rows: Tensor) -> Batch:
        """The training strings with these indices and the labels of their positions."""
        rows = rows.to(self._train.inputs.device)
        return Batch(self._train.inputs[rows], self._train.targets[rows])

    def batch_loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy over the brackets of a batch."""
        return functional.cross_entropy(
            self.model(batch.inputs).flatten(0, 1), batch.targets.flatten(), ignore_index=UNSCORED
        )

    def evaluate(self) -> dict[str, float]:
        """Accuracy and mean loss over the brackets of the training and the test strings.

        `test_accuracy_unseen` leaves out test strings that were trained on; it is NaN where none remains.
        `ood_accuracy` is out of distribution, there where the network has the positions: strings of up to 20 pairs,
        where depths of at most 12 are scored.
        """
        scores = dict(zip(self._sets, self._scores(), strict=True))
        found = {
            "train_accuracy": scores["train"].accuracy,
            "test_accuracy": scores["test"].accuracy,
            "test_accuracy_unseen": scores["unseen"].accuracy,
            "train_loss": scores["train"].loss,
            "test_loss": scores["test"].loss,
        }
        return {**found, "ood_accuracy": scores["longer"].accuracy} if self._sets["longer"] else found

    @torch.no_grad()
    def _scores(self) -> list[_Score]:
        """The scores of each of the sets."""
        model = cast(DyckModel, self.model)
        sums = torch.zeros(3, len(self._sets), dtype=torch.float64, device=self._train.inputs.device)
        for part in self._prefixes:
            # There is no dropout, so that the training mode says the same.
            logits, labels = model.read(part).flatten(0, 1), part.labels.flatten()
            losses = functional.cross_entropy(logits, labels, ignore_index=UNSCORED, reduction="none")
            columns = torch.stack([(logits.argmax(dim=1) == labels).double(), losses.double(), labels != UNSCORED])
            sums += columns @ part.counts.flatten(0, 1)
        hits, losses, brackets = sums
        return [_Score(*score) for score in zip((hits / brackets).tolist(), (losses / brackets).tolist(), strict=True)]


def _packed(data: DyckData, sets: Sequence[Sequence[str]], *, device: str) -> list[Prefixes]:
    strings = {string for strings in sets for string in strings}
    labels = {
        prefix: label
        for string in strings
        for prefix, label in zip(prefixes(string), data.scored_labels(string), strict=True)
    }
    return packed(sets, tokens=TOKENS, labels=labels, device=device)
