"""Family 7: the GPT of the stories under a shift of distribution: one corpus to a step, another one from there on.

Source: arXiv 2603.28964 and 2603.15678, which go from one web corpus to another with a 124M model; the settings of that
run are mostly unpublished. Here one generated style is followed by another, or by any folder of text files. The control
is a sham: the same step and the same drop of the learning rate, and the first corpus to the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from spectral_edge.experiments.config import RunConfig, require_choice, require_flag, require_int, require_number
from spectral_edge.experiments.families.language import (
    LanguageConfig,
    LanguageTask,
    corpus,
    cut,
    padded,
    require_corpus,
)
from spectral_edge.experiments.families.optimizers import warmup_and_cosine
from spectral_edge.experiments.families.phrases import Chance
from spectral_edge.experiments.families.pieces import FIRST_CODEWORD


@dataclass(frozen=True, kw_only=True)
class ShiftConfig(LanguageConfig):
    """Settings of a run with a shift.

    The learning rate is constant on both sides of it after the warm-up (`floor` is 1), so that nothing changes but the
    corpus and, at the same step, the rate.

    Attributes:
        shift_at: steps that are taken on the first corpus.
        drop: factor by which the learning rate is divided from there on; 1 for none.
        sham: whether the corpus stays the same, and only the learning rate drops.
        corpus_a: the first corpus: "stories", "notes", or "text:" and a folder of .txt files.
        corpus_b: the second one.
        texts_b: training texts of the second corpus; few of them are learned by heart in the end.
    """

    family: ClassVar[str] = "shift"
    sizes: ClassVar[tuple[str, ...]] = ("cpu", "reference", "gpu")

    floor: float = 1.0
    shift_at: int = 2_000
    drop: float = 10.0
    sham: bool = False
    corpus_a: str = "stories"
    corpus_b: str = "notes"
    texts_b: int = 1_000

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("shift_at", self.shift_at, least=1)
        require_int("texts_b", self.texts_b, least=1)
        require_number("drop", self.drop, positive=True)
        require_flag("sham", self.sham)
        for field in ("corpus_a", "corpus_b"):
            require_corpus(field, getattr(self, field))

    @classmethod
    def preset(cls, size: str) -> RunConfig:
        """The run of a named size, AdamW, seed 42.

        Args:
            size: "cpu" (0.86M parameters), "reference" (12 layers of width 768) or "gpu" (the same, mixed precision).
        """
        require_choice("size", size, cls.sizes)
        if size == "cpu":
            return RunConfig(
                task=cls(),
                size=size,
                weight_decay=0.5,
                steps=3_500,
                observe_every=25,
                horizon=40,
                eval_every=25,
                checkpoint_every=500,
            )
        task = cls(
            layers=12,
            d_model=768,
            heads=12,
            d_feedforward=3_072,
            context=512,
            batch_size=64,
            learning_rate=3e-4,
            warmup=500,
            shift_at=6_000,
            texts=80_000,
            windows=1,
            texts_b=20_000,
            validation_texts=640,
        )
        reference = RunConfig(
            task=task,
            size=size,
            weight_decay=0.1,
            steps=10_000,
            observe_every=50,
            horizon=80,
            eval_every=100,
            checkpoint_every=1_000,
        )
        if size == "reference":
            return reference
        return replace(reference, task=replace(task, precision="bfloat16"), device="cuda")

    def build(self, *, seed: int, weight_decay: float, device: str) -> "ShiftTask":
        """The task with its texts, initial weights and batches all from `seed`."""
        return ShiftTask(self, seed=seed, weight_decay=weight_decay, device=device)

    def lines(self, seed: int) -> Iterator[tuple[str, str]]:
        """The texts of both corpora, of training and of validation, with an empty line after each."""
        for letter, name, count in (("a", self.corpus_a, self.texts), ("b", self.corpus_b, self.texts_b)):
            for part, number in (("train", count), ("validation", self.validation_texts)):
                for text in corpus(name, seed=seed, part=part, count=number):
                    for line in (*text.splitlines(), ""):
                        yield f"{letter}-{part}.txt", line

    def control(self, config: RunConfig) -> RunConfig:
        """The same run with a sham shift."""
        return replace(config, task=replace(self, sham=True))


class ShiftTask(LanguageTask):
    """One run with a shift, or a sham.

    Args:
        config: the settings.
        seed: seed of texts, weights and batches.
        weight_decay: decay of all parameters but the norms'.
        device: where to train.
    """

    def __init__(self, config: ShiftConfig, *, seed: int, weight_decay: float, device: str = "cpu") -> None:
        length = config.context + 1

        def examples(name: str, part: str, *, count: int, windows: int) -> Tensor:
            texts = corpus(name, seed=seed, part=part, count=count)
            return padded(cut(texts, Chance(f"{part} {seed} {name}"), windows=windows, length=length), length=length)

        first = examples(config.corpus_a, "train", count=config.texts, windows=config.windows)
        second = examples(config.corpus_b, "train", count=config.texts_b, windows=config.windows)
        before = warmup_and_cosine(config.warmup, config.schedule_steps, floor=config.floor)

        def schedule(step: int) -> float:
            return before(step) / (config.drop if step > config.shift_at else 1.0)

        super().__init__(
            config,
            torch.cat([first, second]),
            vocabulary=FIRST_CODEWORD,
            seed=seed,
            weight_decay=weight_decay,
            device=device,
            schedule=schedule,
        )
        self._config, self._first, self._second = config, len(first), len(second)
        self.validation_a, self.validation_b = (
            examples(name, "validation", count=config.validation_texts, windows=1).to(device)
            for name in (config.corpus_a, config.corpus_b)
        )

    @property
    def shifted(self) -> bool:
        """Whether the step under way is on the second corpus."""
        return self.step > self._config.shift_at and not self._config.sham

    def draw(self) -> Tensor:
        """Indices of examples of the present corpus, int64 [batch]; the second corpus follows the first."""
        start, size = (self._first, self._second) if self.shifted else (0, self._first)
        return start + torch.randint(size, (self._batch_size,), generator=self._generator)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Validation loss on both corpora, and on the present one."""
        self.model.eval()
        first, second = self.mean_loss(self.validation_a), self.mean_loss(self.validation_b)
        self.model.train()
        return {"val_loss_a": first, "val_loss_b": second, "val_loss": second if self.shifted else first}
