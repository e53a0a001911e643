"""How far a network's attention matrices are from commuting, logged with every evaluation."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def attention_commutators(model: nn.Module) -> dict[str, float]:
    """Commutators of the attention matrices, mean over the blocks of `model` that are torch's own self-attention.

    `commutator_norm` is |[W_Q, W_K]|, a Frobenius norm, in squared parameter units; `commutator` is that over
    |W_Q| |W_K|, a pure number of at most sqrt(2) and near sqrt(2 / d) for independent normal entries. Both depend on
    the basis of the heads, which a network is free to choose: rotating queries and keys of a head alike changes them
    and nothing else. `commutator_circuits` does not: it is the normalised commutator of W_Q^T W_K and W_O W_V, of
    what attention compares and what it moves, all heads together.

    Source: notes of arXiv 2603.28964, which name a commutator of weight matrices and not which; ours beside it.

    Args:
        model: a network.

    Returns:
        The three by name; empty where no block has square matrices for queries, keys and values in one.
    """
    found = [_commutators(module) for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    known = [each for each in found if each is not None]
    if not known:
        return {}
    names = ("commutator_norm", "commutator", "commutator_circuits")
    return dict(zip(names, torch.stack(known).mean(dim=0).tolist(), strict=True))


def _commutators(attention: nn.MultiheadAttention) -> Tensor | None:
    """The three numbers of one block, float64."""
    stacked = dict(attention.named_parameters(recurse=False)).get("in_proj_weight")
    if stacked is None:
        return None
    queries, keys, values = stacked.chunk(3)
    plain = _norm(queries @ keys - keys @ queries)
    compared, moved = queries.T @ keys, attention.out_proj.weight @ values
    circuits = _norm(compared @ moved - moved @ compared)
    # Weights that have decayed to nothing commute.
    tiny = torch.finfo(torch.float64).tiny
    relative = plain / (_norm(queries) * _norm(keys)).clamp(min=tiny)
    return torch.stack([plain, relative, circuits / (_norm(compared) * _norm(moved)).clamp(min=tiny)])


def _norm(matrix: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrix.double())
