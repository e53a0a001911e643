"""Family 5: SCAN, commands of a small language to be translated into actions.

Source: arXiv 2603.28964 and 2602.16967, with the model and the training loop that their results rest on. `cpu` has a
smaller grammar and model; `reference` is the published size, and `gpu` is the same on a GPU, observed and evaluated at
the cadence of the published dense rerun.

The order of the benchmark's files, from which the published runs drew their examples, is not reproduced: the commands
are sorted, shuffled with a fixed seed and cut into the published shares. Which commands are trained on therefore
differs from the published runs; the number and the distribution do not.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectral_edge.errors import InputError
from spectral_edge.experiments.config import (
    RunConfig,
    TaskConfig,
    require_choice,
    require_flag,
    require_int,
    require_number,
)
from spectral_edge.experiments.families.scan_grammar import GRAMMARS, Example
from spectral_edge.experiments.families.scan_model import IGNORED, PAD, ScanModel, decode_freely, encode
from spectral_edge.experiments.perturbation import Batch
from spectral_edge.experiments.task import SampledTask

POOL_SEED = 0
"""Seed of the cut into training and test pool and of what is drawn from them, for every run."""

CHUNK = 128
"""Examples that are evaluated at once, at most."""


@dataclass(frozen=True, kw_only=True)
class ScanConfig(TaskConfig):
    """Settings of one SCAN task.

    Attributes:
        grammar: a name of `scan_grammar.GRAMMARS`.
        train_size: commands to train on, drawn from the training pool, four fifths of the grammar.
        test_size: commands to test on, drawn from the other fifth.
        random_labels: whether outputs are shuffled over all commands, so that nothing can be learned but by heart.
        free_size: test commands that are decoded freely at every evaluation, the first ones.
        d_model: width.
        heads: attention heads.
        d_feedforward: width of the feed-forward part.
        layers: layers of the encoder, and as many of the decoder.
        batch_size: commands drawn a step, with replacement.
        learning_rate: constant, in parameter units a step.
        max_grad_norm: norm to which gradients are clipped.
    """

    family: ClassVar[str] = "scan"
    sizes: ClassVar[tuple[str, ...]] = ("cpu", "reference", "gpu")

    grammar: str = "full"
    train_size: int = 2_048
    test_size: int = 500
    random_labels: bool = False
    free_size: int = 100
    d_model: int = 256
    heads: int = 4
    d_feedforward: int = 512
    layers: int = 3
    batch_size: int = 256
    learning_rate: float = 1e-4
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        require_choice("grammar", self.grammar, tuple(GRAMMARS))
        require_flag("random_labels", self.random_labels)
        names = ("train_size", "test_size", "free_size", "heads", "d_feedforward", "layers", "batch_size")
        for name in names:
            require_int(name, getattr(self, name), least=1)
        require_int("d_model", self.d_model, least=self.heads)
        if self.d_model % self.heads:
            raise InputError(
                "d_model",
                expected=f"a multiple of the {self.heads} heads",
                found=str(self.d_model),
                remedy="change one of the two",
            )
        for name in ("learning_rate", "max_grad_norm"):
            require_number(name, getattr(self, name), positive=True)
        total = GRAMMARS[self.grammar].size
        pool = _pool_size(total)
        for name, most in (("train_size", pool), ("test_size", total - pool), ("free_size", self.test_size)):
            if getattr(self, name) > most:
                raise InputError(
                    name, expected=f"at most {most} commands", found=str(getattr(self, name)), remedy="take fewer"
                )

    @classmethod
    def preset(cls, size: str) -> RunConfig:
        """The run of a named size, seed 42, weight decay as published.

        The published windows hold five updates. They are recomputed from the trace: `trace.edge(5, stride=n)` with n
        observations to a published interval.

        Args:
            size: "cpu" (small grammar, 171,273 parameters), "reference" (full grammar, 3,979,529 parameters) or "gpu"
                (the same on a GPU, for 6,000 steps).
        """
        require_choice("size", size, cls.sizes)
        reference = RunConfig(
            task=cls(),
            size="reference",
            weight_decay=1.0,
            steps=30_000,
            observe_every=250,
            eval_every=500,
            checkpoint_every=500,
        )
        if size == "reference":
            return reference
        if size == "gpu":
            cadence = {"observe_every": 100, "eval_every": 100, "checkpoint_every": 1_000}
            return replace(reference, size=size, steps=6_000, device="cuda", **cadence)
        task = cls(
            grammar="small",
            train_size=512,
            d_model=64,
            d_feedforward=128,
            layers=2,
            batch_size=64,
            learning_rate=1e-3,
        )
        return replace(reference, task=task, size=size, steps=3_000, observe_every=25, eval_every=50)

    def build(self, *, seed: int, weight_decay: float, device: str) -> "ScanTask":
        """The task with its initial weights and batches from `seed`; the data are the same for every seed."""
        return ScanTask(self, seed=seed, weight_decay=weight_decay, device=device)

    def lines(self, seed: int) -> Iterator[tuple[str, str]]:
        """The benchmark's own lines, in a file for training and one for testing; the same for every seed.

        With as many commands to train and to test on as there are, the two files hold the whole grammar.
        """
        data = scan_data(self)
        for name, examples in (("train.txt", data.train), ("test.txt", data.test)):
            yield from ((name, example.line) for example in examples)


@dataclass(frozen=True, slots=True)
class ScanData:
    """What is trained and tested on.

    Attributes:
        train: the training examples.
        test: the test examples.
    """

    train: Sequence[Example]
    test: Sequence[Example]


def scan_data(config: ScanConfig) -> ScanData:
    """The examples of a configuration, the same for every seed of a run.

    All commands of the grammar are sorted, shuffled by `random.Random(0)` and cut into a pool for training and one for
    testing, 16,728 and 4,182 of the full grammar as published. From there on as published: the training examples are
    the first of their pool as another `random.Random(0)` shuffles it, the test examples the first of a
    `torch.randperm` with seed 0.

    Args:
        config: grammar, sizes and whether outputs are shuffled.

    Returns:
        The examples.
    """
    examples = GRAMMARS[config.grammar].examples()
    shuffle = random.Random(POOL_SEED)
    shuffle.shuffle(examples)
    if config.random_labels:
        outputs = [example.actions for example in examples]
        shuffle.shuffle(outputs)
        examples = [Example(example.command, actions) for example, actions in zip(examples, outputs, strict=True)]
    cut = _pool_size(len(examples))
    train, test = examples[:cut], examples[cut:]
    random.Random(POOL_SEED).shuffle(train)
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(POOL_SEED))
    return ScanData(train[: config.train_size], [test[row] for row in order[: config.test_size].tolist()])


def _pool_size(total: int) -> int:
    """How many commands of a grammar are for training: the published share, rounded down."""
    return total * 16_728 // 20_910


class ScanTask(SampledTask):
    """One SCAN run: cross-entropy over actions and end marks, AdamW on all parameters, batches with replacement.

    Args:
        config: the settings.
        seed: seed of the weights and the batches.
        weight_decay: decoupled decay of every parameter, embeddings, norms and biases included.
        device: where to train.
    """

    def __init__(self, config: ScanConfig, *, seed: int, weight_decay: float, device: str = "cpu") -> None:
        data = scan_data(config)
        train, test = (encode(examples, grammar=config.grammar) for examples in (data.train, data.test))
        self._train = Batch(train.inputs.to(device), train.targets.to(device))
        self._test = Batch(test.inputs.to(device), test.targets.to(device))
        self._free_size = config.free_size
        self._chunks = {"train": _chunks(self._train), "test": _chunks(self._test)}
        # Initial weights depend on the seed alone, and making them leaves the caller's random state as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = ScanModel(
                config.grammar,
                width=config.d_model,
                heads=config.heads,
                d_feedforward=config.d_feedforward,
                layers=config.layers,
            ).to(device)
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            eps=1e-8,
            weight_decay=weight_decay,
            fused=True,  # the same update in one pass over the parameters
        )
        super().__init__(
            model,
            optimizer,
            train_size=config.train_size,
            batch_size=config.batch_size,
            max_grad_norm=config.max_grad_norm,
            seed=seed,
        )
        self.groups: Mapping[str, Sequence[str]] = {
            # The published Gram matrices hold W_Q, W_K, W_V and W_O of every attention, without their biases.
            # One group a layer and stack: `trace.edge(group="attention*")` adds them up.
            **_groups("encoder", config.layers, prefix="", attentions=("self_attn",)),
            **_groups("decoder", config.layers, prefix="d", attentions=("self_attn", "multihead_attn")),
            "embedding": ("source.weight", "target.weight", "source_position", "target_position"),
            "head": ("encoder.norm.*", "decoder.norm.*", "norm.*", "head.*"),
        }

    @property
    def train(self) -> Batch:
        """The training examples, as `encode` lays them out, on the task's device."""
        return self._train

    @property
    def test(self) -> Batch:
        """The test examples."""
        return self._test

    def layers(self) -> Sequence[nn.Module]:
        """The encoder layers, then the decoder layers."""
        model = cast(ScanModel, self.model)
        return (*model.encoder.layers, *model.decoder.layers)

    def batch(self, rows: Tensor) -> Batch:
        """The training examples with these indices."""
        rows = rows.to(self._train.inputs.device)
        return Batch(self._train.inputs[rows], self._train.targets[rows])

    def batch_loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy over the actions and end marks of all examples together."""
        logits = self.model(batch.inputs)
        return functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Accuracy and mean loss over all training and all test examples.

        `train_accuracy` and `test_accuracy` are shares of commands with every action and the end mark right, each given
        the right ones before it; `test_accuracy_tokens` is the share of single actions and end marks.
        `test_accuracy_free` is the share of the first `free_size` test commands that free decoding gets right. For
        these commands it must equal the share of the given kind: a first wrong token is wrong either way.
        """
        train_accuracy, _, train_loss = _scores(self.model, self._chunks["train"])
        test_accuracy, test_tokens, test_loss = _scores(self.model, self._chunks["test"])
        model = cast(ScanModel, self.model)
        said = decode_freely(model, self._test.inputs[: self._free_size, : model.source_positions])
        wanted = self._test.targets[: self._free_size]
        free = (said == wanted.clamp_min(PAD)).all(dim=1)
        return {
            "train_accuracy": train_accuracy,
            "test_accuracy": test_accuracy,
            "test_accuracy_tokens": test_tokens,
            "test_accuracy_free": free.double().mean().item(),
            "train_loss": train_loss,
            "test_loss": test_loss,
        }


def _groups(stack: str, layers: int, *, prefix: str, attentions: Sequence[str]) -> dict[str, Sequence[str]]:
    """Weights of a stack's layers: attention_<prefix><layer> and feedforward_<prefix><layer>."""
    groups: dict[str, Sequence[str]] = {}
    for layer in range(layers):
        path = f"{stack}.layers.{layer}."
        groups[f"attention_{prefix}{layer}"] = tuple(
            f"{path}{name}.{part}weight" for name in attentions for part in ("in_proj_", "out_proj.")
        )
        groups[f"feedforward_{prefix}{layer}"] = (f"{path}linear1.weight", f"{path}linear2.weight")
    return groups


def _chunks(data: Batch) -> list[Batch]:
    """Examples by length, in chunks whose actions are cut where the longest ends; commands stay padded as they are."""
    lengths = (data.targets != IGNORED).sum(dim=1)
    places = data.targets.shape[1]
    chunks: list[Batch] = []
    for rows in lengths.argsort(stable=True).split(CHUNK):
        spare = places - int(lengths[rows].max())
        kept = data.inputs.shape[1] - spare
        chunks.append(Batch(data.inputs[rows, :kept], data.targets[rows, : places - spare]))
    return chunks


def _scores(model: nn.Module, chunks: Sequence[Batch]) -> tuple[float, float, float]:
    """Share of examples that are right throughout, share of tokens that are right, and mean loss of a token."""
    exact = hits = tokens = examples = 0
    loss = 0.0
    for inputs, targets in chunks:
        logits = cast(Tensor, model(inputs))
        scored = targets != IGNORED
        right = logits.argmax(dim=-1) == targets
        exact += int((right | ~scored).all(dim=1).sum())
        hits += int(right.sum())
        tokens += int(scored.sum())
        examples += len(targets)
        losses = functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
        )
        loss += losses.double().sum().item()
    return exact / examples, hits / tokens, loss / tokens
