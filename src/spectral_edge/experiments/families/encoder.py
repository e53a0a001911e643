"""The encoder stack that the small tasks train, and what goes with it: checks, initial weights, optimizer, groups.

Source: arXiv 2602.16746 and 2602.16967, whose tasks share a pre-norm stack and AdamW on all parameters.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from spectral_edge.errors import InputError
from spectral_edge.experiments.config import require_int

M = TypeVar("M", bound=nn.Module)


def require_encoder(*, d_model: int, heads: int, d_feedforward: int, layers: int) -> None:
    """Raise `InputError` unless a stack can have these sizes."""
    for name, value in (("heads", heads), ("d_feedforward", d_feedforward), ("layers", layers)):
        require_int(name, value, least=1)
    require_int("d_model", d_model, least=heads)
    if d_model % heads:
        raise InputError(
            "d_model", expected=f"a multiple of the {heads} heads", found=str(d_model), remedy="change one of the two"
        )


def encoder_stack(*, d_model: int, heads: int, d_feedforward: int, layers: int) -> nn.TransformerEncoder:
    """A pre-norm stack with exact GELU, biases and no dropout; inputs are [n, tokens, d_model].

    The stock encoder clones the layer that it is given, so all layers start identical, as in the published runs.
    """
    layer = nn.TransformerEncoderLayer(
        d_model, heads, d_feedforward, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    # Nested tensors exist for padding that is masked out, of which there is none, and warn under norm_first.
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def encoder_groups(layers: int) -> dict[str, tuple[str, ...]]:
    """Parameter names of a stack called `encoder`, one group per layer and role.

    The published Gram matrices hold W_Q, W_K, W_V and W_O of all layers, without their biases:
    `trace.edge(group="attention_*")` adds them up.
    """
    depth = range(layers)
    return {
        **{f"attention_{layer}": _weights(layer, "self_attn.in_proj_", "self_attn.out_proj.") for layer in depth},
        **{f"feedforward_{layer}": _weights(layer, "linear1.", "linear2.") for layer in depth},
    }


def initialized(make: Callable[[], M], *, seed: int, device: str) -> M:
    """A module whose initial weights depend on the seed alone; the caller's random state stays as it was.

    Args:
        make: makes the module, on the CPU.
        seed: seed of the weights.
        device: where the module goes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().to(device)


def adamw(model: nn.Module, *, learning_rate: float, beta2: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays every parameter, embeddings, norms and biases included, as in the published runs."""
    return torch.optim.AdamW(
        model.parameters(),
        lr=learning_rate,
        betas=(0.9, beta2),
        eps=1e-8,
        weight_decay=weight_decay,
        fused=True,  # the same update in one pass over the parameters, a tenth of a step's time at cpu size
    )


def _weights(layer: int, *modules: str) -> tuple[str, ...]:
    return tuple(f"encoder.layers.{layer}.{module}weight" for module in modules)
