"""Arithmetic's extras: labels at random, a temperature of the loss, and a cap on the norm in place of decay."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.support.encoder import arrays, encode, layer_norm
from torch import nn

from spectral_edge.errors import InputError
from spectral_edge.experiments import configure
from spectral_edge.experiments.families.arithmetic import ArithmeticConfig, arithmetic_data


def tiny(**options):
    return configure("arithmetic", p=7, d_model=8, d_feedforward=12, batch_size=8, **options).task


def built(weight_decay=0.0, **options):
    return tiny(**options).build(seed=3, weight_decay=weight_decay, device="cpu")


def norm(task):
    return np.sqrt(sum((p.detach().double() ** 2).sum().item() for p in task.model.parameters()))


def test_logits_are_those_of_a_second_implementation():
    task = built(heads=2)
    for parameter in task.model.parameters():  # neither zero biases nor unit norms
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(parameter.numel()))
    w = arrays(task.model)
    found = task.logits().double().numpy()
    for row in (0, 20, 48):
        tokens = w["embedding.weight"][task.data.pairs[row].numpy()] + w["position"]
        hidden = encode(w, tokens, heads=2, layers=2, causal=False)[0]
        expected = w["head.weight"] @ layer_norm(hidden, w["norm.weight"], w["norm.bias"]) + w["head.bias"]
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)


def test_random_labels_are_the_same_results_at_other_pairs():
    true, shuffled = (arithmetic_data(ArithmeticConfig(random_labels=it), seed=42) for it in (False, True))
    assert torch.equal(true.pairs, shuffled.pairs)
    assert true.train_size == shuffled.train_size
    assert Counter(true.labels.tolist()) == Counter(shuffled.labels.tolist())
    # A shuffled label is right by chance: once in 97, with a standard deviation of 0.1 %.
    assert (true.labels == shuffled.labels).double().mean().item() == pytest.approx(1 / 97, abs=0.005)
    again = arithmetic_data(ArithmeticConfig(random_labels=True), seed=42)
    assert torch.equal(again.labels, shuffled.labels)
    assert not torch.equal(arithmetic_data(ArithmeticConfig(random_labels=True), seed=43).labels, shuffled.labels)


def test_temperature_divides_the_logits_of_the_loss_and_nothing_else():
    cold, warm = built(), built(temperature=4.0)
    batch = cold.batch(torch.arange(20))
    logits = cold.model(batch.inputs).double()
    expected = -(torch.softmax(logits / 4.0, dim=1)[torch.arange(20), batch.targets]).log().mean()
    assert warm.batch_loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)
    assert warm.batch_loss(batch).item() != pytest.approx(cold.batch_loss(batch).item(), rel=1e-3)
    assert warm.evaluate() == cold.evaluate()


def test_a_norm_above_the_cap_is_shrunk_and_directions_stay():
    capped, free = built(norm_cap=0.5), built()
    start = norm(capped)
    capped.train_step()
    free.train_step()
    factor = 0.5 * start / norm(free)
    assert factor < 0.6
    for one, other in zip(capped.model.parameters(), free.model.parameters(), strict=True):
        torch.testing.assert_close(one, other * factor, rtol=1e-5, atol=1e-7)
    for _ in range(5):
        capped.train_step()
        assert norm(capped) <= 0.5 * start * (1 + 1e-5)


def test_a_cap_that_is_not_reached_changes_nothing():
    capped, free = built(norm_cap=100.0), built()
    for _ in range(3):
        capped.train_step()
        free.train_step()
    for one, other in zip(capped.model.parameters(), free.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_cap_of_a_task_that_goes_on_is_that_of_its_start():
    whole, part = built(norm_cap=0.5), built(norm_cap=0.5)
    for _ in range(3):
        part.train_step()
    resumed = built(norm_cap=0.5)
    resumed.load_state_dict(part.state_dict())
    for _ in range(3):
        resumed.train_step()
    for _ in range(6):
        whole.train_step()
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("option", [{"temperature": 0.0}, {"temperature": -1.0}, {"norm_cap": -0.1}])
def test_extras_that_make_no_sense_are_refused(option):
    with pytest.raises(InputError):
        tiny(**option)


def test_the_control_of_a_capped_run_keeps_its_cap():
    config = configure("arithmetic", norm_cap=0.35)
    assert config.control() == replace(config, weight_decay=0.0)
    assert config.control().task.norm_cap == 0.35
