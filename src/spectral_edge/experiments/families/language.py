"""What the language families share: corpora, one sequence an example, the network, its optimizer and schedule.

Source: arXiv 2603.15678 and 2602.23696 for the settings of training. An example is a window of one text, cut out at
random once and for all or padded to context + 1 tokens; padding is not scored.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectral_edge.errors import InputError
from spectral_edge.experiments.config import (
    TaskConfig,
    require_choice,
    require_flag,
    require_int,
    require_number,
    require_share,
)
from spectral_edge.experiments.families.gpt import GPT
from spectral_edge.experiments.families.notes_text import note
from spectral_edge.experiments.families.optimizers import OPTIMIZERS, Rates, make_optimizer, warmup_and_cosine
from spectral_edge.experiments.families.phrases import Chance
from spectral_edge.experiments.families.pieces import END, encode
from spectral_edge.experiments.families.story_text import story
from spectral_edge.experiments.perturbation import Batch
from spectral_edge.experiments.task import SampledTask

FOLDER = "text:"
"""Begins the name of a corpus that is a folder of text files."""

PADDING = -1
_PASSAGE = 1_000
_HELD_OUT = 10


@dataclass(frozen=True, kw_only=True)
class LanguageConfig(TaskConfig):
    """Settings that the language families share.

    Attributes:
        layers: blocks.
        d_model: width.
        heads: attention heads.
        d_feedforward: inner width of the feed-forward parts.
        context: tokens that the network sees.
        biases: whether linear maps have biases.
        batch_size: examples drawn a step, with replacement.
        optimizer: "adamw", "sgd", or "muon", which leaves all but the blocks' weights to AdamW.
        learning_rate: AdamW's, in parameter units a step, before the schedule.
        sgd_learning_rate: SGD's.
        muon_learning_rate: Muon's.
        momentum: SGD's.
        beta2: second AdamW coefficient; the first is 0.9.
        max_grad_norm: norm to which gradients are clipped.
        warmup: steps over which the rate rises from nothing.
        schedule_steps: step at which the cosine has reached its floor; the rate stays there.
        floor: the floor, as a share of the full rate.
        texts: training texts.
        windows: examples that are cut out of each.
        validation_texts: texts that are kept for validation, with an example each.
        precision: "float32", or "bfloat16" for mixed precision with float32 weights.
    """

    layers: int = 4
    d_model: int = 128
    heads: int = 4
    d_feedforward: int = 512
    context: int = 64
    biases: bool = False
    batch_size: int = 16
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    sgd_learning_rate: float = 0.03
    muon_learning_rate: float = 0.02
    momentum: float = 0.9
    beta2: float = 0.95
    max_grad_norm: float = 1.0
    warmup: int = 100
    schedule_steps: int = 2_000
    floor: float = 0.1
    texts: int = 4_000
    windows: int = 4
    validation_texts: int = 128
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "d_feedforward", "batch_size", "schedule_steps", "texts", "windows"):
            require_int(name, getattr(self, name), least=1)
        require_int("context", self.context, least=8)
        require_int("warmup", self.warmup, least=0)
        require_int("validation_texts", self.validation_texts, least=1)
        require_int("d_model", self.d_model, least=self.heads)
        if self.d_model % self.heads:
            raise InputError(
                "d_model",
                expected=f"a multiple of the {self.heads} heads",
                found=str(self.d_model),
                remedy="change one of the two",
            )
        require_flag("biases", self.biases)
        require_choice("optimizer", self.optimizer, OPTIMIZERS)
        require_choice("precision", self.precision, ("float32", "bfloat16"))
        for name in ("learning_rate", "sgd_learning_rate", "muon_learning_rate", "max_grad_norm"):
            require_number(name, getattr(self, name), positive=True)
        for name in ("momentum", "beta2"):
            require_number(name, getattr(self, name), below=1.0)
        require_share("floor", self.floor)

    def network(self, vocabulary: int) -> GPT:
        """The network of this size, with weights from the global random state."""
        return GPT(
            vocabulary=vocabulary,
            layers=self.layers,
            d_model=self.d_model,
            heads=self.heads,
            d_feedforward=self.d_feedforward,
            context=self.context,
            biases=self.biases,
        )


class LanguageTask(SampledTask):
    """Next-token prediction on a fixed set of examples.

    Args:
        config: the settings.
        examples: tokens of the training examples [n, context + 1], int16, `PADDING` where there is none.
        vocabulary: number of tokens.
        seed: seed of weights and batches.
        weight_decay: decay of all parameters but the norms'.
        device: where to train.
        schedule: factor of the learning rate by step; warm-up and cosine by default.
    """

    def __init__(
        self,
        config: LanguageConfig,
        examples: Tensor,
        *,
        vocabulary: int,
        seed: int,
        weight_decay: float,
        device: str,
        schedule: Callable[[int], float] | None = None,
    ) -> None:
        # Initial weights depend on the seed alone, and making them leaves the caller's random state as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = config.network(vocabulary).to(device)
        rates = Rates(
            adamw=config.learning_rate,
            sgd=config.sgd_learning_rate,
            muon=config.muon_learning_rate,
            beta2=config.beta2,
            momentum=config.momentum,
            weight_decay=weight_decay,
        )
        super().__init__(
            model,
            make_optimizer(config.optimizer, model, trunk=model.trunk(), rates=rates),
            train_size=len(examples),
            batch_size=config.batch_size,
            max_grad_norm=config.max_grad_norm,
            seed=seed,
            schedule=schedule or warmup_and_cosine(config.warmup, config.schedule_steps, floor=config.floor),
        )
        self.groups: Mapping[str, Sequence[str]] = model.groups()
        self.examples = examples.to(device)
        self._mixed = config.precision == "bfloat16"

    def layers(self) -> Sequence[nn.Module]:
        """The blocks."""
        return tuple(cast(GPT, self.model).blocks)

    def queries_and_keys(self) -> Sequence[tuple[Tensor, int, int]]:
        """The weights of queries and keys, in the blocks' order."""
        return cast(GPT, self.model).queries_and_keys()

    def batch(self, rows: Tensor) -> Batch:
        """The training examples with these indices: all tokens but the last, and the token after each."""
        return inputs_and_targets(self.examples[rows.to(self.examples.device)])

    def batch_loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of the tokens that are scored."""
        losses, scored = self.token_losses(batch)
        return losses.sum() / scored.sum().clamp(min=1)

    def token_losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy of every token [n, length], float32 and 0 where none is scored, and which are scored."""
        logits, scored = self.logits(batch.inputs), batch.targets >= 0
        losses = functional.cross_entropy(
            logits.flatten(0, 1), batch.targets.flatten(), ignore_index=PADDING, reduction="none"
        )
        return losses.view_as(batch.targets), scored

    def logits(self, inputs: Tensor) -> Tensor:
        """The network's logits [n, length, vocabulary], float32, computed at the configured precision."""
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self._mixed):
            return self.model(inputs).float()

    @torch.no_grad()
    def mean_loss(self, examples: Tensor) -> float:
        """Mean cross-entropy over all scored tokens of examples [n, context + 1]."""
        total, count = 0.0, 0
        for part in examples.split(self._batch_size * 4):
            losses, scored = self.token_losses(inputs_and_targets(part))
            total, count = total + losses.double().sum().item(), count + int(scored.sum())
        return total / count


def inputs_and_targets(tokens: Tensor) -> Batch:
    """Inputs and targets [n, length - 1], int64, of examples [n, length]; padding is `END` in the inputs."""
    tokens = tokens.long()
    return Batch(torch.where(tokens < 0, END, tokens)[:, :-1], tokens[:, 1:])


def cut(texts: Iterable[str], chance: Chance, *, windows: int, length: int) -> list[list[int]]:
    """Windows of texts, each text with its end mark, at random places; whole texts where they are shorter.

    Args:
        texts: the texts.
        chance: where the draws come from.
        windows: how many windows of each text.
        length: tokens of a window at most.
    """
    rows: list[list[int]] = []
    for text in texts:
        tokens = [*encode(text), END]
        starts = [chance.between(0, max(0, len(tokens) - length)) for _ in range(windows)]
        rows += [tokens[start : start + length] for start in starts]
    return rows


def padded(rows: Sequence[Sequence[int]], *, length: int) -> Tensor:
    """Rows of tokens as int16 [n, length], with `PADDING` behind the shorter ones."""
    return torch.tensor([[*row, *[PADDING] * (length - len(row))] for row in rows], dtype=torch.int16)


def corpus(name: str, *, seed: int, part: str, count: int) -> list[str]:
    """Texts of a corpus.

    Args:
        name: "stories", "notes", or "text:" and a folder of .txt files.
        seed: seed of generated corpora.
        part: "train" or "validation", which share no text.
        count: how many texts.

    Raises:
        InputError: where the folder is missing or has too little text.
    """
    if name == "stories":
        return [story(seed, index, part=part).text for index in range(count)]
    if name == "notes":
        return [note(seed, index, part=part) for index in range(count)]
    held_out = part == "validation"
    passages = _passages(Path(name.removeprefix(FOLDER)))
    own = [text for index, text in enumerate(passages) if (index % _HELD_OUT == 0) == held_out]
    if len(own) < count:
        raise InputError(
            f"corpus {name}",
            expected=f"at least {count} passages for {part}",
            found=str(len(own)),
            remedy="lower the number of texts, or fetch texts with `spectral-edge data corpus`",
        )
    # Evenly over the whole corpus, whatever its files are.
    return [own[index * len(own) // count] for index in range(count)]


def require_corpus(field: str, name: object) -> None:
    """Raise `InputError` unless `name` is a generated corpus or names a folder; whether it is there is asked later."""
    if not str(name).startswith(FOLDER) or name == FOLDER:
        require_choice(field, str(name), ("stories", "notes", f"{FOLDER}FOLDER"))


def _passages(folder: Path) -> list[str]:
    """The text files of a folder, in the order of their names, cut at line ends into passages of a thousand signs."""
    passages: list[str] = []
    for path in sorted(folder.rglob("*.txt")):
        lines: list[str] = []
        size = 0
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            lines.append(line)
            size += len(line) + 1
            if size >= _PASSAGE:
                passages.append("\n".join(lines))
                lines, size = [], 0
        if size:
            passages.append("\n".join(lines))
    return passages
