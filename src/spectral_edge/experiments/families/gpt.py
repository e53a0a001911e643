"""A small GPT: the decoder of the language families.

Source: arXiv 2603.15678 and 2603.28964, with the sizes that reproduce their parameter counts: pre-norm blocks, GELU,
LayerNorm with biases, linear maps without, learned positions, tied embedding, no dropout, every weight drawn from
N(0, 0.02) with no scaling by depth.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional

STANDARD_DEVIATION = 0.02


class Attention(nn.Module):
    """Causal self-attention with one weight each for queries, keys, values and output.

    They are kept apart because Muon makes each orthogonal on its own, as its recipe does.

    Args:
        d_model: width.
        heads: attention heads.
        biases: whether the four maps have biases.
    """

    def __init__(self, d_model: int, heads: int, *, biases: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(d_model, d_model, bias=biases)
        self.key = nn.Linear(d_model, d_model, bias=biases)
        self.value = nn.Linear(d_model, d_model, bias=biases)
        self.output = nn.Linear(d_model, d_model, bias=biases)

    def forward(self, hidden: Tensor) -> Tensor:
        """The heads' outputs, mixed; hidden is [n, length, d_model], and so is the result."""
        n, length, width = hidden.shape
        query, key, value = (
            part(hidden).view(n, length, self.heads, width // self.heads).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(mixed.transpose(1, 2).reshape(n, length, width))


class FeedForward(nn.Module):
    """Two linear maps with a GELU between.

    Args:
        d_model: width.
        d_feedforward: inner width.
        biases: whether the maps have biases.
    """

    def __init__(self, d_model: int, d_feedforward: int, *, biases: bool) -> None:
        super().__init__()
        self.widen = nn.Linear(d_model, d_feedforward, bias=biases)
        self.narrow = nn.Linear(d_feedforward, d_model, bias=biases)

    def forward(self, hidden: Tensor) -> Tensor:
        """The maps applied along the last dimension."""
        return self.narrow(functional.gelu(self.widen(hidden)))


class Block(nn.Module):
    """Attention and feed-forward part, each behind a norm and beside a residual path.

    Args:
        d_model: width.
        heads: attention heads.
        d_feedforward: inner width of the feed-forward part.
        biases: whether linear maps have biases.
    """

    def __init__(self, d_model: int, heads: int, d_feedforward: int, *, biases: bool) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = Attention(d_model, heads, biases=biases)
        self.feedforward_norm = nn.LayerNorm(d_model)
        self.feedforward = FeedForward(d_model, d_feedforward, biases=biases)

    def forward(self, hidden: Tensor) -> Tensor:
        """The block's output [n, length, d_model]."""
        hidden = hidden + self.attention(self.attention_norm(hidden))
        return hidden + self.feedforward(self.feedforward_norm(hidden))


class GPT(nn.Module):
    """The whole network; its head is its embedding.

    Args:
        vocabulary: number of tokens.
        layers: blocks.
        d_model: width.
        heads: attention heads, a divisor of the width.
        d_feedforward: inner width of the feed-forward parts.
        context: positions.
        biases: whether linear maps have biases.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        layers: int,
        d_model: int,
        heads: int,
        d_feedforward: int,
        context: int,
        biases: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.position = nn.Embedding(context, d_model)
        self.blocks = nn.ModuleList(Block(d_model, heads, d_feedforward, biases=biases) for _ in range(layers))
        self.norm = nn.LayerNorm(d_model)
        self.apply(_initialize)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [n, length, vocabulary] of the token after each of `tokens` [n, length] (int64)."""
        hidden = self.embedding(tokens) + self.position.weight[: tokens.shape[1]]
        for block in self.blocks:
            hidden = block(hidden)
        return functional.linear(self.norm(hidden), self.embedding.weight)

    def trunk(self) -> list[nn.Parameter]:
        """The two-dimensional weights of the blocks."""
        return [parameter for parameter in self.blocks.parameters() if parameter.ndim == 2]

    def queries_and_keys(self) -> list[tuple[Tensor, int, int]]:
        """The weights, and biases if there are any, that make queries and keys, all rows of each."""
        attentions = [module for module in self.modules() if isinstance(module, Attention)]
        parts = [part for own in attentions for part in (own.query, own.key)]
        return [(parameter, 0, part.out_features) for part in parts for parameter in part.parameters()]

    def groups(self) -> Mapping[str, Sequence[str]]:
        """Globs of parameter names by group: a group for each layer's attention and feed-forward part, and the rest.

        Attention and feed-forward groups together are the trunk, all groups together the whole model.
        """
        depth = range(len(self.blocks))
        return {
            **{f"attention_{layer}": (f"blocks.{layer}.attention.*",) for layer in depth},
            **{f"feedforward_{layer}": (f"blocks.{layer}.feedforward.*",) for layer in depth},
            "embedding": ("embedding.*", "position.*"),
            "norms": ("blocks.*_norm.*", "norm.*"),
        }


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=STANDARD_DEVIATION)
    if isinstance(module, nn.Linear) and module.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
        nn.init.zeros_(module.bias)
