"""Family 6: a small GPT on generated stories, with the key-retrieval probe.

Source: arXiv 2603.15678 (four seeds, spectra), 2602.23696 (probe, backbone) and 2603.28964 (optimizers), with a story
generator and a byte-pair vocabulary of this library in place of a download, and with probes that are planted once in
a fixed set of examples, not anew in every batch. `cpu` is scaled down for a CPU; `reference` has the published
settings of the 51M model, `gpu` the same with fewer texts and mixed precision, `g124` the larger model that the
published numbers of the four seeds are likely to come from.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from spectral_edge.errors import InputError
from spectral_edge.experiments.config import RunConfig, require_choice, require_int, require_number, require_share
from spectral_edge.experiments.families.language import (
    LanguageConfig,
    LanguageTask,
    corpus,
    cut,
    inputs_and_targets,
    padded,
)
from spectral_edge.experiments.families.phrases import Chance
from spectral_edge.experiments.families.pieces import FIRST_CODEWORD, MOST_CODEWORDS, decode
from spectral_edge.experiments.families.probe import (
    SHORTEST_PREFIX,
    answers,
    longest_sentences,
    plant,
    retrieval_set,
)
from spectral_edge.experiments.perturbation import Batch


@dataclass(frozen=True, kw_only=True)
class StoriesConfig(LanguageConfig):
    """Settings of the story model.

    Attributes:
        probe_share: share of the training examples that carry a probe.
        probe_weight: weight of the answers' mean loss beside that of all other tokens. The published 2 and 4 belong to
            batches of 64 sequences; in one of 16, with one or two answers, they drown everything else.
        late_probe_weight: the weight after `late_from` steps.
        late_from: steps that are taken with the first weight.
        codewords: number of codewords, tokens of their own.
        shortest_gap: tokens between key and query in training, at least; and in the probe within range.
        longest_gap: the same, at most.
        shortest_far_gap: tokens between key and query in the probe out of range, at least.
        longest_far_gap: the same, at most.
        probes: examples in each of the two probe sets.
    """

    family: ClassVar[str] = "stories"
    sizes: ClassVar[tuple[str, ...]] = ("cpu", "reference", "gpu", "g124")

    probe_share: float = 0.10
    probe_weight: float = 0.5
    late_probe_weight: float = 1.0
    late_from: int = 800
    codewords: int = 64
    shortest_gap: int = 3
    longest_gap: int = 10
    shortest_far_gap: int = 25
    longest_far_gap: int = 45
    probes: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("probe_share", self.probe_share)
        for name in ("probe_weight", "late_probe_weight"):
            require_number(name, getattr(self, name))
        require_int("late_from", self.late_from, least=0)
        require_int("codewords", self.codewords, least=2)
        require_int("probes", self.probes, least=1)
        for name in ("shortest_gap", "shortest_far_gap"):
            require_int(name, getattr(self, name), least=0)
        require_int("longest_gap", self.longest_gap, least=self.shortest_gap)
        require_int("longest_far_gap", self.longest_far_gap, least=self.shortest_far_gap)
        if self.codewords > MOST_CODEWORDS:
            raise InputError(
                "codewords", expected=f"at most {MOST_CODEWORDS}", found=str(self.codewords), remedy="use fewer"
            )
        longest = max(self.longest_gap, self.longest_far_gap)
        room = self.context + 1 - longest_sentences() - SHORTEST_PREFIX
        if longest > room:
            raise InputError(
                "longest_far_gap" if longest == self.longest_far_gap else "longest_gap",
                expected=f"at most {room}, so that key and query fit into a context of {self.context}",
                found=str(longest),
                remedy="shorten the gap or lengthen the context",
            )

    @classmethod
    def preset(cls, size: str) -> RunConfig:
        """The run of a named size, AdamW, seed 42, weight decay as published.

        Args:
            size: "cpu" (0.87M parameters), "reference" and "gpu" (the 51M model, 25.8M parameters with this
                vocabulary), or "g124" (12 layers of width 768, 85.9M parameters).
        """
        require_choice("size", size, cls.sizes)
        if size == "cpu":
            return RunConfig(
                task=cls(),
                size=size,
                weight_decay=0.5,
                steps=2_000,
                # Rows of one record for intervals of 10, 20, 50 and 200 steps at the usual window of 10.
                observe_every=10,
                horizon=50,
                ladder=2,
                eval_every=50,
                checkpoint_every=500,
            )
        published = cls(
            layers=8,
            d_model=512,
            heads=16,
            d_feedforward=2_048,
            context=256,
            batch_size=128,
            warmup=1_500,
            schedule_steps=10_000,
            texts=200_000,
            windows=1,
            validation_texts=1_280,
            probe_weight=2.0,
            late_probe_weight=4.0,
            late_from=4_000,
            codewords=512,
            shortest_gap=5,
            longest_gap=30,
            shortest_far_gap=80,
            longest_far_gap=200,
            probes=2_000,
        )
        reference = RunConfig(
            task=published,
            size=size,
            weight_decay=0.5,
            steps=10_000,
            observe_every=50,
            horizon=80,
            eval_every=200,
            checkpoint_every=1_000,
        )
        if size == "reference":
            return reference
        # Stories take half a millisecond each, while the device waits.
        lighter = replace(published, texts=100_000, windows=2, precision="bfloat16")
        if size == "g124":
            lighter = replace(lighter, layers=12, d_model=768, heads=12, d_feedforward=3_072)
        return replace(reference, task=lighter, device="cuda")

    def build(self, *, seed: int, weight_decay: float, device: str) -> "StoriesTask":
        """The task with its stories, probes, initial weights and batches all from `seed`."""
        return StoriesTask(self, seed=seed, weight_decay=weight_decay, device=device)

    def lines(self, seed: int) -> Iterator[tuple[str, str]]:
        """The stories, one a line, of training and of validation, and the training examples that carry a probe."""
        for part, count in (("train", self.texts), ("validation", self.validation_texts)):
            for text in corpus("stories", seed=seed, part=part, count=count):
                yield f"{part}.txt", text
        for row in story_examples(self, seed=seed):
            if any(token >= FIRST_CODEWORD for token in row):
                yield "probes.txt", decode(row).decode().strip()


def story_examples(config: StoriesConfig, *, seed: int) -> list[list[int]]:
    """The training examples, each of at most context + 1 tokens: windows of stories, a share of them with a probe.

    Args:
        config: sizes and the probe's settings.
        seed: seed of stories, windows and probes.
    """
    chance, length = Chance(f"examples {seed}"), config.context + 1
    texts = corpus("stories", seed=seed, part="train", count=config.texts)
    rows = cut(texts, chance, windows=config.windows, length=length)
    for index, row in enumerate(rows):
        if chance.happens(config.probe_share):
            gap = chance.between(config.shortest_gap, config.longest_gap)
            rows[index] = plant(row, chance, gap=gap, codewords=config.codewords, length=length)
    return rows


class StoriesTask(LanguageTask):
    """One run of the story model.

    Args:
        config: the settings.
        seed: seed of stories, probes, weights and batches.
        weight_decay: decay of all parameters but the norms'.
        device: where to train.
    """

    def __init__(self, config: StoriesConfig, *, seed: int, weight_decay: float, device: str = "cpu") -> None:
        length = config.context + 1
        super().__init__(
            config,
            padded(story_examples(config, seed=seed), length=length),
            vocabulary=FIRST_CODEWORD + config.codewords,
            seed=seed,
            weight_decay=weight_decay,
            device=device,
        )
        self._config = config
        texts = corpus("stories", seed=seed, part="validation", count=config.validation_texts)
        rows = cut(texts, Chance(f"validation {seed}"), windows=1, length=length)
        self.validation = padded(rows, length=length).to(device)
        near = (config.shortest_gap, config.longest_gap)
        far = (config.shortest_far_gap, config.longest_far_gap)
        self.near, self.far = (
            retrieval_set(seed + offset, count=config.probes, gaps=gaps, codewords=config.codewords, length=length).to(
                device
            )
            for offset, gaps in ((100, near), (200, far))
        )

    @property
    def weight(self) -> float:
        """Weight of the answers in the step under way."""
        config = self._config
        return config.probe_weight if self.step <= config.late_from else config.late_probe_weight

    def batch_loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of all tokens but the answers, and that of the answers, weighted."""
        return self.losses(batch)[0]

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The weighted loss, which is trained; and the mean over all tokens, which the weights cannot make jump."""
        losses, scored = self.token_losses(batch)
        asked = answers(batch.targets)
        other = (losses * ~asked).sum() / (scored & ~asked).sum().clamp(min=1)
        asked_for = (losses * asked).sum() / asked.sum().clamp(min=1)
        return other + self.weight * asked_for, losses.sum() / scored.sum().clamp(min=1)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Validation loss on stories without probes, and the share of codewords that are retrieved."""
        self.model.eval()
        metrics = {
            "val_loss": self.mean_loss(self.validation),
            "probe_accuracy_in": self.retrieved(self.near),
            "probe_accuracy_out": self.retrieved(self.far),
        }
        self.model.train()
        return metrics

    @torch.no_grad()
    def retrieved(self, examples: Tensor) -> float:
        """Share of the answers of probes [n, context + 1] that are the most likely of all tokens."""
        right, count = 0, 0
        for part in examples.split(self._batch_size * 4):
            inputs, targets = inputs_and_targets(part)
            asked = answers(targets)
            right += int((self.logits(inputs)[asked].argmax(dim=-1) == targets[asked]).sum())
            count += int(asked.sum())
        return right / count
