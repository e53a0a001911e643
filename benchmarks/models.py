"""GPT-shaped parameters and small GPTs in plain torch, with text for them to learn."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_NOISE_UP_TO = 600_000_000
"""Bytes of parameters up to which updates are noise; beyond, a second copy would crowd out what is measured."""
_SHIFTS = 4096


@dataclass(frozen=True)
class Shape:
    """Sizes of a GPT: blocks of 12 tensors, two embeddings and a last norm.

    Attributes:
        layers: number of blocks.
        width: of the residual stream.
        heads: of attention.
        vocabulary: number of tokens; the head is tied to the embedding.
        context: number of positions.
    """

    layers: int
    width: int
    heads: int
    vocabulary: int
    context: int

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name."""
        width = self.width
        found: dict[str, tuple[int, ...]] = {
            "wte.weight": (self.vocabulary, width),
            "wpe.weight": (self.context, width),
        }
        for layer in range(self.layers):
            found |= {
                f"h.{layer}.ln_1.weight": (width,),
                f"h.{layer}.ln_1.bias": (width,),
                f"h.{layer}.attn.c_attn.weight": (3 * width, width),
                f"h.{layer}.attn.c_attn.bias": (3 * width,),
                f"h.{layer}.attn.c_proj.weight": (width, width),
                f"h.{layer}.attn.c_proj.bias": (width,),
                f"h.{layer}.ln_2.weight": (width,),
                f"h.{layer}.ln_2.bias": (width,),
                f"h.{layer}.mlp.c_fc.weight": (4 * width, width),
                f"h.{layer}.mlp.c_fc.bias": (4 * width,),
                f"h.{layer}.mlp.c_proj.weight": (width, 4 * width),
                f"h.{layer}.mlp.c_proj.bias": (width,),
            }
        return found | {"ln_f.weight": (width,), "ln_f.bias": (width,)}

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(torch.Size(shape).numel() for shape in self.tensors().values())


SIZES: dict[str, Shape] = {
    "toy": Shape(layers=2, width=32, heads=2, vocabulary=64, context=32),
    "toy2": Shape(layers=2, width=64, heads=2, vocabulary=64, context=32),
    "0.4M": Shape(layers=2, width=128, heads=4, vocabulary=96, context=64),
    "5M": Shape(layers=6, width=256, heads=4, vocabulary=1024, context=256),
    "50M": Shape(layers=8, width=640, heads=10, vocabulary=16_384, context=512),
    "124M": Shape(layers=12, width=768, heads=12, vocabulary=50_257, context=1024),
    "1B": Shape(layers=24, width=1792, heads=28, vocabulary=40_960, context=1024),
}
"""Shapes by the name of their size; 124M is GPT-2 small."""


def parameters(shape: Shape, *, dtype: torch.dtype, device: str, seed: int) -> dict[str, Tensor]:
    """Normal values of the size of trained weights, by name."""
    generator = torch.Generator(device).manual_seed(seed)
    made: dict[str, Tensor] = {}
    for name, sizes in shape.tensors().items():
        made[name] = torch.empty(sizes, dtype=dtype, device=device).normal_(0, 0.02, generator=generator)
    return made


class Mover:
    """An update of all parameters in place, another one at each call.

    Each is a piece of one long run of noise that starts elsewhere each time, so that ten of them are independent. Where
    the noise would take as much memory as what is measured, a changing scalar is added instead.

    Args:
        tensors: the parameters.
        seed: of the noise.
        noise: whether to draw noise at all; by default where it fits.
    """

    def __init__(self, tensors: list[Tensor], *, seed: int, noise: bool | None = None) -> None:
        self._tensors = tensors
        self._calls = 0
        total = sum(tensor.numel() for tensor in tensors)
        one = tensors[0]
        if noise is None:
            noise = total * one.element_size() <= _NOISE_UP_TO
        self._noise: Tensor | None = None
        if noise:
            generator = torch.Generator(one.device).manual_seed(seed + 1)
            empty = torch.empty(total + _SHIFTS, dtype=one.dtype, device=one.device)
            scale = 1e-4 if one.element_size() > 2 else 2e-3  # half precision would round less away
            self._noise = empty.normal_(0, scale, generator=generator)

    def __call__(self) -> None:
        """Moves every parameter."""
        self._calls += 1
        if self._noise is None:
            torch._foreach_add_(self._tensors, (-1) ** self._calls * 1e-3 * (1 + self._calls % 7))
            return
        at = 397 * self._calls % _SHIFTS
        for tensor in self._tensors:
            tensor.view(-1).add_(self._noise[at : at + tensor.numel()])
            at += tensor.numel()


class _Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self._heads = shape.heads
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"c_attn": nn.Linear(width, 3 * width), "c_proj": nn.Linear(width, width)})
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, hidden: Tensor) -> Tensor:
        """The residual stream [batch, length, width] after this block."""
        batch, length, width = hidden.shape
        joined = self.attn["c_attn"](self.ln_1(hidden)).view(batch, length, 3, self._heads, width // self._heads)
        query, key, value = joined.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.attn["c_proj"](mixed.transpose(1, 2).reshape(batch, length, width))
        return hidden + self.mlp["c_proj"](functional.gelu(self.mlp["c_fc"](self.ln_2(hidden))))


class GPT(nn.Module):
    """A decoder with the tensors of its shape; the head is the token embedding.

    Args:
        shape: the sizes.
        seed: of the initial weights.
    """

    def __init__(self, shape: Shape, *, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.wte = nn.Embedding(shape.vocabulary, shape.width)
            self.wpe = nn.Embedding(shape.context, shape.width)
            self.h = nn.ModuleList(_Block(shape) for _ in range(shape.layers))
            self.ln_f = nn.LayerNorm(shape.width)
            for name, parameter in self.named_parameters():
                if parameter.ndim == 2:
                    nn.init.normal_(parameter, 0, 0.02 / (2 * shape.layers) ** 0.5 if "c_proj" in name else 0.02)

    def loss(self, tokens: Tensor) -> Tensor:
        """Mean cross-entropy of each next token; tokens [batch, length + 1]."""
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        hidden = self.wte(inputs) + self.wpe.weight[: inputs.shape[1]]
        for block in self.h:
            hidden = block(hidden)
        logits = functional.linear(self.ln_f(hidden), self.wte.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class MarkovText:
    """Endless text in which each token has eight likely successors: something to learn, made offline.

    Args:
        vocabulary: number of tokens.
        seed: of the successors and of the text.
    """

    def __init__(self, vocabulary: int, *, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._successors = torch.randint(vocabulary, (vocabulary, 8), generator=self._generator)
        self._vocabulary = vocabulary

    def batch(self, count: int, length: int) -> Tensor:
        """Tokens [count, length]; successor k of eight has probability 2^-(k+1), one token in 20 is any."""
        generator = self._generator
        tokens = torch.empty((count, length), dtype=torch.int64)
        tokens[:, 0] = torch.randint(self._vocabulary, (count,), generator=generator)
        weights = 0.5 ** torch.arange(1, 9, dtype=torch.float64)
        picks = torch.multinomial(weights, count * length, replacement=True, generator=generator).view(count, length)
        anything = torch.randint(self._vocabulary, (count, length), generator=generator)
        surprise = torch.rand((count, length), generator=generator) < 0.05
        for at in range(1, length):
            follows = self._successors[tokens[:, at - 1], picks[:, at]]
            tokens[:, at] = torch.where(surprise[:, at], anything[:, at], follows)
        return tokens
