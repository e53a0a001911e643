"""A small classifier of generated pictures: the healthy run that faults are injected into, beside the language models.

Ten shapes at random places and contrasts under noise, read by a transformer of three layers. It learns steadily over
some 1,500 steps and takes a few milliseconds a step.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectral_edge.errors import InputError
from spectral_edge.experiments.config import (
    RunConfig,
    TaskConfig,
    require_choice,
    require_int,
    require_number,
    require_share,
)
from spectral_edge.experiments.families.optimizers import warmup_and_cosine
from spectral_edge.experiments.perturbation import Batch
from spectral_edge.experiments.task import SampledTask

SIDE, PATCH = 12, 3
"""Pixels along a picture's side and along a patch's."""

GREY = 128
"""Steps of a pixel's value between 0 and 1: all arithmetic of the data is on whole numbers."""

SHAPES = (
    "..###..|.#####.|#######|#######|#######|.#####.|..###..",  # disc
    "..###..|.#...#.|#.....#|#.....#|#.....#|.#...#.|..###..",  # ring
    "#######|#######|#######|#######|#######|#######|#######",  # square
    "#######|#.....#|#.....#|#.....#|#.....#|#.....#|#######",  # frame
    "...#...|...#...|...#...|#######|...#...|...#...|...#...",  # plus
    "#.....#|.#...#.|..#.#..|...#...|..#.#..|.#...#.|#.....#",  # cross
    "...#...|...#...|..###..|..###..|.#####.|.#####.|#######",  # triangle
    "#######|.......|#######|.......|#######|.......|#######",  # lines
    "#.#.#.#|#.#.#.#|#.#.#.#|#.#.#.#|#.#.#.#|#.#.#.#|#.#.#.#",  # bars
    "#.#.#.#|.#.#.#.|#.#.#.#|.#.#.#.|#.#.#.#|.#.#.#.|#.#.#.#",  # checks
)


@dataclass(frozen=True, slots=True)
class PatternData:
    """Pictures and labels; the first `train_size` are for training.

    Attributes:
        pixels: [n, 12, 12], int16, in steps of 1 / `GREY`.
        labels: [n], int64, an index of `SHAPES`; those for training with noise.
        train_size: number of training pictures.
    """

    pixels: Tensor
    labels: Tensor
    train_size: int


@dataclass(frozen=True, kw_only=True)
class PatternsConfig(TaskConfig):
    """Settings of the classifier.

    Attributes:
        train_size: training pictures.
        test_size: test pictures; as many training pictures are evaluated.
        noise: largest value that is added to or taken from a pixel; a shape's contrast is between 0.5 and 1.
        label_noise: share of the training pictures with a label at random.
        layers: encoder layers.
        d_model: width.
        heads: attention heads.
        d_feedforward: width of the feed-forward part.
        batch_size: pictures drawn a step, with replacement.
        learning_rate: AdamW's, before the schedule.
        beta2: second AdamW coefficient; the first is 0.9.
        max_grad_norm: norm to which gradients are clipped.
        warmup: steps over which the rate rises from nothing.
        schedule_steps: step at which the cosine has reached a tenth of the rate.
    """

    family: ClassVar[str] = "patterns"
    sizes: ClassVar[tuple[str, ...]] = ("cpu", "small", "large")

    train_size: int = 8_000
    test_size: int = 500
    noise: float = 0.5
    label_noise: float = 0.05
    layers: int = 3
    d_model: int = 48
    heads: int = 4
    d_feedforward: int = 96
    batch_size: int = 32
    learning_rate: float = 5e-4
    beta2: float = 0.99
    max_grad_norm: float = 1.0
    warmup: int = 50
    schedule_steps: int = 1_500

    def __post_init__(self) -> None:
        for name in ("train_size", "test_size", "layers", "heads", "d_feedforward", "batch_size", "schedule_steps"):
            require_int(name, getattr(self, name), least=1)
        require_int("warmup", self.warmup, least=0)
        require_int("d_model", self.d_model, least=self.heads)
        if self.d_model % self.heads:
            raise InputError(
                "d_model",
                expected=f"a multiple of the {self.heads} heads",
                found=str(self.d_model),
                remedy="change one of the two",
            )
        require_number("noise", self.noise, below=100.0)
        require_share("label_noise", self.label_noise)
        require_number("beta2", self.beta2, below=1.0, positive=True)
        for name in ("learning_rate", "max_grad_norm"):
            require_number(name, getattr(self, name), positive=True)

    @classmethod
    def preset(cls, size: str) -> RunConfig:
        """The run of a named size, seed 42.

        Args:
            size: "cpu" (58,714 parameters), "small" (one layer) or "large" (six layers).
        """
        require_choice("size", size, cls.sizes)
        layers = {"cpu": 3, "small": 1, "large": 6}[size]
        return RunConfig(
            task=cls(layers=layers),
            size=size,
            weight_decay=0.1,
            steps=1_500,
            observe_every=10,
            eval_every=25,
            checkpoint_every=500,
        )

    def build(self, *, seed: int, weight_decay: float, device: str) -> "PatternsTask":
        """The task with its pictures, initial weights and batches all from `seed`."""
        return PatternsTask(self, seed=seed, weight_decay=weight_decay, device=device)

    def lines(self, seed: int) -> Iterator[tuple[str, str]]:
        """Label and 144 pixels as comma-separated whole numbers, the training part and the test part in a file each."""
        data = pattern_data(self, seed=seed)
        for row, (label, pixels) in enumerate(zip(data.labels.tolist(), data.pixels.flatten(1).tolist(), strict=True)):
            yield "train.csv" if row < data.train_size else "test.csv", ",".join(map(str, (label, *pixels)))


def pattern_data(config: PatternsConfig, *, seed: int) -> PatternData:
    """Pictures of shapes, made of whole random numbers from torch's CPU generator.

    Args:
        config: sizes and noise.
        seed: seed of labels, places, contrasts and noise.
    """
    generator = torch.Generator().manual_seed(seed)
    count = config.train_size + config.test_size

    def whole(least: int, most: int, *shape: int) -> Tensor:
        return torch.randint(least, most + 1, shape, generator=generator)

    shapes = torch.tensor([[[sign == "#" for sign in line] for line in shape.split("|")] for shape in SHAPES])
    size = shapes.shape[-1]
    labels = whole(0, len(SHAPES) - 1, count)
    places = whole(0, SIDE - size, count, 2)
    # Where each pixel of a shape lies in its picture.
    rows = places[:, :1, None] + torch.arange(size)[None, :, None]
    columns = places[:, 1:, None] + torch.arange(size)[None, None, :]
    pixels = torch.zeros(count, SIDE, SIDE, dtype=torch.int64)
    pixels[torch.arange(count)[:, None, None], rows, columns] = shapes[labels] * whole(GREY // 2, GREY, count, 1, 1)
    strength = round(config.noise * GREY)
    pixels += whole(-strength, strength, count, SIDE, SIDE)
    wrong = torch.randperm(config.train_size, generator=generator)[: round(config.label_noise * config.train_size)]
    labels[wrong] = whole(0, len(SHAPES) - 1, len(wrong))
    return PatternData(pixels.to(torch.int16), labels, config.train_size)


class PatternsModel(nn.Module):
    """Pre-norm transformer over the patches of a picture, averaged before the head; no dropout.

    Args:
        config: sizes.
    """

    def __init__(self, config: PatternsConfig) -> None:
        super().__init__()
        self.patches = nn.Linear(PATCH * PATCH, config.d_model)
        self.position = nn.Parameter(torch.randn((SIDE // PATCH) ** 2, config.d_model) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.d_model,
                config.heads,
                config.d_feedforward,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, len(SHAPES))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits [n, 10] of pictures [n, 12, 12]."""
        patches = pictures.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).flatten(3).flatten(1, 2)
        hidden = self.patches(patches) + self.position
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(self.norm(hidden).mean(dim=1))


class PatternsTask(SampledTask):
    """One run of the classifier: cross-entropy, AdamW on all parameters, batches drawn with replacement.

    Args:
        config: the settings.
        seed: seed of pictures, weights and batches.
        weight_decay: decoupled decay of every parameter.
        device: where to train.
    """

    def __init__(self, config: PatternsConfig, *, seed: int, weight_decay: float, device: str = "cpu") -> None:
        data = pattern_data(config, seed=seed)
        self._pictures, self._labels = (data.pixels.float() / GREY).to(device), data.labels.to(device)
        # Initial weights depend on the seed alone, and making them leaves the caller's random state as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = PatternsModel(config).to(device)
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=config.learning_rate,
            betas=(0.9, config.beta2),
            weight_decay=weight_decay,
            fused=True,  # the same update in one pass over the parameters
        )
        super().__init__(
            model,
            optimizer,
            train_size=data.train_size,
            batch_size=config.batch_size,
            max_grad_norm=config.max_grad_norm,
            seed=seed,
            schedule=warmup_and_cosine(config.warmup, config.schedule_steps, floor=0.1),
        )
        self._test_size = config.test_size
        depth = range(config.layers)
        self.groups: Mapping[str, Sequence[str]] = {
            **{f"attention_{layer}": (f"layers.{layer}.self_attn.*",) for layer in depth},
            **{f"feedforward_{layer}": (f"layers.{layer}.linear*",) for layer in depth},
            "embedding": ("patches.*", "position"),
            "norms": ("layers.*.norm*",),
            "head": ("norm.*", "head.*"),
        }

    def layers(self) -> Sequence[nn.Module]:
        """The encoder layers."""
        return tuple(cast(PatternsModel, self.model).layers)

    def batch(self, rows: Tensor) -> Batch:
        """The training pictures with these indices and their labels."""
        rows = rows.to(self._labels.device)
        return Batch(self._pictures[rows], self._labels[rows])

    def batch_loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy over the labels that are not negative."""
        return functional.cross_entropy(self.model(batch.inputs), batch.targets, ignore_index=-1)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Accuracy and mean loss on the test part, and on as many training pictures with the labels they have."""
        self.model.eval()
        metrics: dict[str, float] = {}
        for name, rows in (("train", slice(0, self._test_size)), ("test", slice(-self._test_size, None))):
            logits, labels = self.model(self._pictures[rows]), self._labels[rows]
            metrics[f"{name}_accuracy"] = (logits.argmax(dim=1) == labels).double().mean().item()
            metrics[f"{name}_loss"] = functional.cross_entropy(logits, labels).item()
        self.model.train()
        return metrics
