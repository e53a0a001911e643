"""The network of the SCAN family, how it is given commands and how it is made to speak.

Source: arXiv 2602.16967, with the padding and the initialisation that its results rest on.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from spectral_edge.experiments.families.scan_grammar import GRAMMARS, OUTPUTS, Example
from spectral_edge.experiments.perturbation import Batch

PAD, START, END = 0, 1, 2
"""Tokens of both vocabularies; words follow from 3 on."""

IGNORED = -100
"""Target of a place that is not scored."""


def encode(examples: Sequence[Example], *, grammar: str) -> Batch:
    """Examples as tokens.

    Args:
        examples: n commands and their actions.
        grammar: a name of `scan_grammar.GRAMMARS`.

    Returns:
        Inputs [n, source + target places] (int64): the command, padded, then the start mark and the actions, padded.
        Targets [n, target places] (int64): the actions and the end mark, then `IGNORED`.
    """
    shape = GRAMMARS[grammar]
    words = {word: 3 + number for number, word in enumerate(shape.words)}
    outputs = {action: 3 + number for number, action in enumerate(OUTPUTS)}
    inputs: list[list[int]] = []
    targets: list[list[int]] = []
    for example in examples:
        command = [words[word] for word in example.command.split()]
        actions = [outputs[action] for action in example.actions.split()]
        spare = shape.target_positions - 1 - len(actions)
        padded = command + [PAD] * (shape.source_positions - len(command))
        inputs.append([*padded, START, *actions, *[PAD] * spare])
        targets.append([*actions, END, *[IGNORED] * spare])
    return Batch(torch.tensor(inputs), torch.tensor(targets))


class ScanModel(nn.Module):
    """Pre-norm transformer encoder and decoder without dropout, embeddings and head untied.

    Padding of a command is masked where the encoder attends to it, but not where the decoder does, as in the published
    runs: what the decoder says depends on how far commands are padded, so all are padded alike.

    Args:
        grammar: a name of `scan_grammar.GRAMMARS`.
        width: of the hidden states.
        heads: attention heads.
        d_feedforward: width of the feed-forward part.
        layers: layers of the encoder, and as many of the decoder.
    """

    def __init__(self, grammar: str, *, width: int, heads: int, d_feedforward: int, layers: int) -> None:
        super().__init__()
        shape = GRAMMARS[grammar]
        self.source_positions, self.target_positions = shape.source_positions, shape.target_positions
        self.source = nn.Embedding(3 + len(shape.words), width)
        self.target = nn.Embedding(3 + len(OUTPUTS), width)
        # As large as the tokens: at the scale of the arithmetic family commands are learned by heart far later.
        self.source_position = nn.Parameter(torch.randn(shape.source_positions, width))
        self.target_position = nn.Parameter(torch.randn(shape.target_positions, width))
        encoding = nn.TransformerEncoderLayer(
            width, heads, d_feedforward, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        decoding = nn.TransformerDecoderLayer(
            width, heads, d_feedforward, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        # Nested tensors warn under norm_first.
        self.encoder = nn.TransformerEncoder(encoding, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoding, layers, norm=nn.LayerNorm(width))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 3 + len(OUTPUTS))
        # The stacks clone one layer; drawn anew, their weights differ from layer to layer.
        for part in (self.encoder, self.decoder, self.head):
            for parameter in part.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        causal = nn.Transformer.generate_square_subsequent_mask(shape.target_positions)
        self.register_buffer("causal", causal, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [n, target places, actions] after each token of the targets.

        Args:
            inputs: commands and what is said so far, as `encode` lays them out, int64; the latter may be shorter.
        """
        source, prefix = inputs[:, : self.source_positions], inputs[:, self.source_positions :]
        return self.decode(self.encode(source), prefix)

    def encode(self, source: Tensor) -> Tensor:
        """What the decoder attends to, [n, source places, width], of commands [n, source places] (int64)."""
        hidden = self.source(source) + self.source_position
        return self.encoder(hidden, src_key_padding_mask=source == PAD)

    def decode(self, memory: Tensor, prefix: Tensor) -> Tensor:
        """Logits [n, length, actions] of the encoder's output and of what is said so far [n, length] (int64)."""
        length = prefix.shape[1]
        hidden = self.target(prefix) + self.target_position[:length]
        causal = cast(Tensor, self.causal)[:length, :length]
        return self.head(self.norm(self.decoder(hidden, memory, tgt_mask=causal, tgt_is_causal=True)))


@torch.no_grad()
def decode_freely(model: ScanModel, source: Tensor) -> Tensor:
    """The actions that a model says to commands, the likeliest at each place, given only what it has said itself.

    Args:
        model: the network.
        source: commands, int64 [n, source places].

    Returns:
        Tokens, int64 [n, target places]: up to and with the end mark, then `PAD`.
    """
    places = model.target_positions
    said = torch.full((len(source), places + 1), PAD, device=source.device)
    said[:, 0] = START
    memory = model.encode(source)
    talking = torch.arange(len(source), device=source.device)
    for place in range(places):
        logits = model.decode(memory[talking], said[talking, : place + 1])
        token = logits[:, -1].argmax(dim=-1)
        said[talking, place + 1] = token
        talking = talking[token != END]
        if not len(talking):
            break
    return said[:, 1:]
