"""A second implementation of the pre-norm encoder, one token at a time in float64."""

import numpy as np
from scipy.special import erf


def arrays(model):
    """The model's parameters by name, in float64."""
    return {name: parameter.detach().double().numpy() for name, parameter in model.named_parameters()}


def layer_norm(x, weight, bias):
    centred = x - x.mean()
    return weight * centred / np.sqrt((centred**2).mean() + 1e-5) + bias


def encode(weights, rows, *, heads, layers, causal):
    """Hidden vectors [tokens, width] of the inputs [tokens, width], without the norm that follows the stack."""
    rows = [np.asarray(row) for row in rows]
    for layer in range(layers):
        w = {
            name.removeprefix(f"encoder.layers.{layer}."): value
            for name, value in weights.items()
            if name.startswith(f"encoder.layers.{layer}.")
        }
        projected = [
            w["self_attn.in_proj_weight"] @ layer_norm(row, w["norm1.weight"], w["norm1.bias"])
            + w["self_attn.in_proj_bias"]
            for row in rows
        ]
        queries, keys, values = (
            [part.reshape(heads, -1) for part in parts]
            for parts in zip(*(np.split(row, 3) for row in projected), strict=True)
        )
        attended = []
        for token, query in enumerate(queries):
            seen = range(token + 1) if causal else range(len(rows))
            mixed = []
            for head in range(heads):
                scores = np.array([query[head] @ keys[other][head] for other in seen]) / np.sqrt(len(query[head]))
                shares = np.exp(scores - scores.max())
                shares /= shares.sum()
                mixed.append(sum(share * values[other][head] for share, other in zip(shares, seen, strict=True)))
            attended.append(w["self_attn.out_proj.weight"] @ np.concatenate(mixed) + w["self_attn.out_proj.bias"])
        rows = [row + update for row, update in zip(rows, attended, strict=True)]
        for token, row in enumerate(rows):
            inner = w["linear1.weight"] @ layer_norm(row, w["norm2.weight"], w["norm2.bias"]) + w["linear1.bias"]
            inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
            rows[token] = row + w["linear2.weight"] @ inner + w["linear2.bias"]
    return np.array(rows)
