"""Commutators of attention weights: against NumPy, known cases, and the symmetries that they have or lack."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import block_diag
from torch import nn

from spectral_edge.experiments.attention import attention_commutators

WIDTH, HEADS = 12, 3


def attention(seed: int) -> nn.MultiheadAttention:
    torch.manual_seed(seed)
    block = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).double()
    nn.init.normal_(block.in_proj_weight)
    return block


def rotation(width: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(width, width, dtype=torch.float64))[0]


def test_it_is_what_numpy_says_and_the_mean_over_blocks():
    blocks = [attention(seed) for seed in range(3)]
    expected = []
    for block in blocks:
        q, k, v = np.split(block.in_proj_weight.detach().numpy(), 3)
        a, b = q.T @ k, block.out_proj.weight.detach().numpy() @ v
        norm = np.linalg.norm
        plain = norm(q @ k - k @ q)
        expected.append([plain, plain / norm(q) / norm(k), norm(a @ b - b @ a) / norm(a) / norm(b)])
    found = attention_commutators(nn.ModuleList(blocks))
    assert list(found) == ["commutator_norm", "commutator", "commutator_circuits"]
    np.testing.assert_allclose(list(found.values()), np.mean(expected, axis=0), rtol=1e-12)


def test_matrices_that_commute_have_none():
    block = attention(0)
    with torch.no_grad():
        block.in_proj_weight[WIDTH : 2 * WIDTH] = 3 * block.in_proj_weight[:WIDTH]
    assert attention_commutators(block)["commutator"] == pytest.approx(0.0, abs=1e-14)
    with torch.no_grad():
        block.in_proj_weight.zero_()
    assert set(attention_commutators(block).values()) == {0.0}


def test_the_bound_of_boettcher_and_wenzel_is_reached_and_never_passed():
    block = attention(0)
    with torch.no_grad():
        block.in_proj_weight.zero_()
        block.in_proj_weight[0, 1] = block.in_proj_weight[WIDTH + 1, 0] = 1.0
    assert attention_commutators(block)["commutator"] == pytest.approx(math.sqrt(2))
    assert all(attention_commutators(attention(seed))["commutator"] <= math.sqrt(2) for seed in range(20))


def test_independent_normal_matrices_are_near_the_root_of_two_over_their_width():
    torch.manual_seed(0)
    block = nn.MultiheadAttention(256, 4)
    nn.init.normal_(block.in_proj_weight)
    assert attention_commutators(block)["commutator"] == pytest.approx(math.sqrt(2 / 256), rel=0.05)


def test_another_basis_of_a_head_changes_the_plain_one_and_not_that_of_circuits():
    block, turned = attention(1), attention(1)
    change = torch.tensor(block_diag(*(rotation(WIDTH // HEADS).numpy() for _ in range(HEADS))))
    with torch.no_grad():
        for part in (slice(WIDTH), slice(WIDTH, 2 * WIDTH)):
            turned.in_proj_weight[part] = change @ block.in_proj_weight[part]
        for one in (block, turned):
            one.in_proj_bias.zero_()
    tokens = torch.randn(2, 5, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(turned(tokens, tokens, tokens)[0], block(tokens, tokens, tokens)[0])
    before, after = attention_commutators(block), attention_commutators(turned)
    assert after["commutator_circuits"] == pytest.approx(before["commutator_circuits"], rel=1e-9)
    assert abs(after["commutator"] / before["commutator"] - 1) > 1e-3


def test_models_without_such_blocks_log_nothing():
    assert attention_commutators(nn.Linear(3, 3)) == {}
    assert attention_commutators(nn.MultiheadAttention(8, 2, kdim=4, vdim=4)) == {}
