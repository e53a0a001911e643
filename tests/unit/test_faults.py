"""Each fault against an independent account of what it does to a step."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from tests.support.perturbed import (
    Perceptron,
    advance,
    equal,
    gradients,
    healthy_step,
    perturb,
    saved,
    tiny,
    vector,
    weights,
)
from torch.nn import functional

from spectral_edge.errors import InputError
from spectral_edge.experiments.faults import FAULTS, AttentionExplosion, InputCorruption, LabelCorruption, LossSpikes
from spectral_edge.experiments.perturbation import Batch


def test_the_bank_of_faults():
    assert list(FAULTS) == [
        "optimizer_lost",
        "stale_gradients",
        "frozen_layer",
        "bf16_rounding",
        "learning_rate_high",
        "learning_rate_low",
        "batch_small",
        "label_corruption",
        "input_corruption",
        "repeated_data",
        "attention_explosion",
        "replica_drift",
        "loss_spikes",
        "gradient_noise",
    ]


# optimizer ----------------------------------------------------------------------------------------------------------


def test_a_lost_optimizer_is_a_new_one():
    task = advance(tiny(kind="optimizer_lost", at=5), 5)
    state = saved(task)
    assert {int(each["step"]) for each in state["optimizer"]["state"].values()} == {5}
    fresh = tiny()
    fresh.load_state_dict({**state, "optimizer": {**state["optimizer"], "state": {}}})
    for taken in (1, 2, 3):  # lost once, not again and again
        advance(task, 1)
        advance(fresh, 1)
        assert equal(weights(task), weights(fresh))
        assert {int(each["step"]) for each in task.optimizer.state.values()} == {taken}


def test_a_share_of_the_optimizer_is_lost():
    task = advance(tiny(kind="optimizer_lost", at=5, strength=0.3), 6)
    steps = [int(task.optimizer.state[parameter]["step"]) for parameter in task.parameters]
    assert sorted(steps) == [1] * math.ceil(0.3 * len(steps)) + [6] * (len(steps) - math.ceil(0.3 * len(steps)))


@pytest.mark.parametrize(("kind", "factor"), [("learning_rate_high", 10.0), ("learning_rate_low", 0.1)])
@pytest.mark.parametrize("ramp", [0, 4])
def test_learning_rates_scale_the_step(kind, factor, ramp):
    # AdamW's step is proportional to the rate, decay included.
    task = advance(tiny(kind=kind, at=3, ramp=ramp, strength=factor), 3)
    for taken in range(1, 7):
        before, healthy = vector(weights(task)), vector(weights(healthy_step(task)))
        advance(task, 1)
        expected = factor if taken >= ramp else 1 + (factor - 1) * taken / ramp
        found = (vector(weights(task)) - before).norm() / (healthy - before).norm()
        assert found == pytest.approx(expected, rel=1e-3)


def test_the_schedule_goes_on_beneath():
    task = tiny(kind="learning_rate_high", at=2, strength=3.0)
    task._schedule = lambda step: step
    rates = []
    for _ in range(4):
        advance(task, 1)
        rates.append(task.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3, 2e-3, 9e-3, 12e-3])


# gradients ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [1e9, 1e-2])
@pytest.mark.parametrize(("at", "ramp"), [(4, 0), (4, 6), (1, 0)])
def test_stale_gradients_are_those_of_steps_ago(norm, at, ramp):
    task, fresh, applied = tiny(kind="stale_gradients", at=at, ramp=ramp, strength=3, max_grad_norm=norm), [], []
    for _ in range(14):
        fresh.append(gradients(healthy_step(task, max_grad_norm=norm)))
        advance(task, 1)
        applied.append(gradients(task))
    for step, found in enumerate(applied):
        share = 0.0 if step < at else min(1.0, (step - at + 1) / ramp) if ramp else 1.0
        expected = fresh[max(0, step - round(3 * share))]
        # Clipping what has been clipped may round.
        torch.testing.assert_close(vector(found), vector(expected), rtol=2e-4, atol=0)
    if norm == 1e9:
        assert equal(applied[-1], fresh[-4])


def test_stale_gradients_hold_no_more_than_they_need():
    task = advance(tiny(kind="stale_gradients", at=20, strength=3), 30)
    assert len(saved(task)["frame"]["kind"]["past"]) == 4


def test_noise_has_its_norm_and_no_direction():
    task = advance(tiny(kind="gradient_noise", at=2, strength=2.0), 2)
    seen = []
    for _ in range(12):
        healthy = vector(gradients(healthy_step(task)))
        advance(task, 1)
        noise = vector(gradients(task)) - healthy
        assert noise.norm() == pytest.approx(2.0 * healthy.norm().item(), rel=1e-5)
        seen.append((noise / noise.norm()).numpy())
    size = seen[0].size
    scaled = np.concatenate(seen) * math.sqrt(size)
    # Coordinates of a random direction are all but Gaussian, and no two draws are alike.
    assert stats.kstest(scaled, "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(seen)[np.triu_indices(12, 1)]).max() < 5 / math.sqrt(size)


def test_spikes_turn_the_gradient_and_lengthen_the_step(monkeypatch):
    monkeypatch.setattr(LossSpikes, "every", 4)
    task, bad = advance(tiny(kind="loss_spikes", at=2, strength=5.0), 2), []
    for _ in range(40):
        twin, before = healthy_step(task), vector(weights(task))
        reported = task.train_step()
        found = vector(gradients(task))
        if torch.equal(found, vector(gradients(twin))):
            bad.append(False)
            assert equal(weights(task), weights(twin))
        else:
            bad.append(True)
            torch.testing.assert_close(found, -5.0 * vector(gradients(twin)), rtol=1e-6, atol=0)
            assert task.optimizer.param_groups[0]["lr"] == pytest.approx(5e-3)
            # Decay moves weights by the rate too; what is left is Adam's step of at most some rates a weight.
            assert 2 < (vector(weights(task)) - before).norm() / (vector(weights(twin)) - before).norm() < 12
        assert math.isfinite(reported.loss)
    assert bad[0]
    low, high = stats.binom.ppf([0.001, 0.999], len(bad) - 1, 1 / 4)
    assert low <= sum(bad[1:]) <= high


# weights ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layers", "middle"), [(1, 0), (2, 1), (3, 1)])
def test_a_frozen_layer_does_not_move(layers, middle):
    task = advance(tiny(kind="frozen_layer", at=4, layers=layers), 4)
    frozen = [parameter.detach().clone() for parameter in task.layers()[middle].parameters()]
    others = {name: each.detach().clone() for name, each in task.model.named_parameters() if f".{middle}." not in name}
    twin = healthy_step(task, layers=layers)
    advance(task, 1)
    for name, parameter in twin.model.named_parameters():
        if name in others:
            assert torch.equal(dict(task.model.named_parameters())[name], parameter)
    advance(task, 5)
    assert equal(frozen, task.layers()[middle].parameters())
    assert not any(torch.equal(others[name], each) for name, each in task.model.named_parameters() if name in others)


def test_a_layer_freezes_by_and_by():
    task = advance(tiny(kind="frozen_layer", at=4, ramp=4), 4)
    for lost in (0.25, 0.5, 0.75, 1.0):
        twin, before = healthy_step(task), vector(task.layers()[1].parameters())
        advance(task, 1)
        step, healthy = (vector(each.layers()[1].parameters()) - before for each in (task, twin))
        torch.testing.assert_close(step, (1 - lost) * healthy, rtol=0, atol=2e-7)


def rounded(tensor):
    """To the nearest of the floats whose last 16 bits are zero, ties to even, by integer arithmetic."""
    bits = tensor.detach().numpy().view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    return torch.from_numpy(bits.astype(np.uint32).view(np.float32))


@pytest.mark.parametrize("ramp", [0, 4])
def test_weights_are_rounded(ramp):
    task, already = advance(tiny(kind="bf16_rounding", at=3, ramp=ramp), 3), set()
    for taken in range(1, 7):
        twin = healthy_step(task)
        advance(task, 1)
        coarse = set()
        for index, (found, exact) in enumerate(zip(weights(task), weights(twin), strict=True)):
            assert torch.equal(found, rounded(exact)) or torch.equal(found, exact)
            if torch.equal(found, rounded(exact)):
                coarse.add(index)
        share = min(1.0, taken / ramp) if ramp else 1.0
        assert len(coarse) == math.ceil(share * len(task.parameters))
        assert coarse >= already
        already = coarse
    assert len(already) == len(task.parameters)


def test_half_of_the_tensors_are_rounded():
    task = advance(tiny(kind="bf16_rounding", at=3, strength=0.5), 6)
    coarse = [torch.equal(each, rounded(each)) for each in task.parameters]
    assert sum(coarse) == math.ceil(len(coarse) / 2)


def logits(task, pairs):
    """Attention logits of the first layer [n, heads, 2, 2], written out, without their factor."""
    model = task.model
    attention = model.encoder.layers[0].self_attn
    hidden = model.encoder.layers[0].norm1(model.embedding(pairs) + model.position)
    mixed = hidden @ attention.in_proj_weight.T + attention.in_proj_bias
    queries, keys, _ = (each.unflatten(-1, (4, 2)).transpose(1, 2) for each in mixed.chunk(3, dim=-1))
    return (queries @ keys.transpose(-1, -2)).detach()


def test_attention_logits_grow_and_nothing_else_does():
    task = advance(tiny(kind="attention_explosion", at=3, strength=0.5), 3)
    for _ in range(3):
        twin = healthy_step(task)
        advance(task, 1)
        pairs = task.data.pairs
        torch.testing.assert_close(logits(task, pairs), 1.5**2 * logits(twin, pairs), rtol=1e-4, atol=1e-6)
        for (name, found), exact in zip(task.model.named_parameters(), twin.parameters, strict=True):
            untouched = slice(16, None) if "in_proj" in name else slice(None)  # values lie below queries and keys
            assert torch.equal(found[untouched], exact[untouched])


def test_attention_stops_growing_before_it_overflows():
    options = {"kind": "attention_explosion", "at": 1, "strength": 3.0, "learning_rate": 1e-12, "weight_decay": 0.0}
    begun, task = advance(tiny(**options), 4), tiny(**options)
    before = [(first, last, each[first:last].clone()) for each, first, last in task.queries_and_keys()]
    task.load_state_dict(saved(begun))  # grown by 64 already
    advance(task, 4)
    for (first, last, old), (found, _, _) in zip(before, task.queries_and_keys(), strict=True):
        torch.testing.assert_close(found[first:last], AttentionExplosion.limit * old, rtol=1e-5, atol=1e-4)


def test_the_other_replica_drifts_and_is_averaged_in(monkeypatch):
    task = advance(tiny(kind="replica_drift", at=3, strength=2.0), 3)
    where, real = [], task.gradient
    monkeypatch.setattr(task, "gradient", lambda batch: where.append(weights(task)) or real(batch))
    travelled, directions = [torch.zeros(()) for _ in task.parameters], None
    for _ in range(4):
        twin, before = healthy_step(task), weights(task)
        rows = torch.randint(task.data.train_size, (8,), generator=_generator(task))
        advance(task, 1)
        # The gradient at the other replica's weights, by a second network.
        other = tiny()
        with torch.no_grad():
            for parameter, value in zip(other.parameters, where[-1], strict=True):
                parameter.copy_(value)
        functional.cross_entropy(other.model(task.data.pairs[rows]), task.data.labels[rows]).backward()
        mean = (vector(gradients(twin)) + vector(gradients(other))) / 2
        torch.testing.assert_close(vector(gradients(task)), mean, rtol=1e-5, atol=1e-8)
        drift = [there - here for there, here in zip(where[-1], before, strict=True)]
        for found, expected in zip(drift, travelled, strict=True):
            assert found.norm().item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-7)
        if directions is not None:
            now = [each / each.norm() for each in drift]
            assert all((a * b).sum() > 0.999 for a, b in zip(now, directions, strict=True))
        directions = [each / each.norm() for each in drift] if travelled[0] > 0 else None
        for index, (new, old) in enumerate(zip(weights(task), before, strict=True)):
            travelled[index] = travelled[index] + 2.0 * (new - old).norm()


def _generator(task):
    """A copy of the generator that the task's next batch comes from."""
    return torch.Generator().set_state(task.state_dict()["generator"])


# data ---------------------------------------------------------------------------------------------------------------


def rows_seen(task, monkeypatch):
    """The rows that the task draws, and those that it is made to train on."""
    drawn, seen, draw, batch = [], [], task.draw, task.batch
    monkeypatch.setattr(task, "draw", lambda: drawn.append(draw()) or drawn[-1])
    monkeypatch.setattr(task, "batch", lambda rows: seen.append(rows) or batch(rows))
    return drawn, seen


@pytest.mark.parametrize(("strength", "kept"), [(4.0, 2), (3.0, 3), (100.0, 1)])
def test_small_batches_repeat_their_first_rows(monkeypatch, strength, kept):
    task = tiny(kind="batch_small", at=2, strength=strength)
    drawn, seen = rows_seen(task, monkeypatch)
    advance(task, 5)
    assert equal(seen[:2], drawn[:2])
    for old, new in zip(drawn[2:], seen[2:], strict=True):
        assert new.tolist() == [old[i % kept] for i in range(8)]


def test_data_repeat(monkeypatch):
    task = tiny(kind="repeated_data", at=2, p=23, batch_size=64)
    drawn, seen = rows_seen(task, monkeypatch)
    advance(task, 30)
    assert equal(seen[:2], drawn[:2])
    pool = drawn[2].tolist()
    assert all(set(rows.tolist()) <= set(pool) for rows in seen[2:])
    assert not torch.equal(seen[3], seen[4])
    # Every member of the pool is drawn alike.
    counts = np.bincount(torch.cat(seen[2:]).numpy(), minlength=529)[sorted(set(pool))]
    expected = np.bincount(pool, minlength=529)[sorted(set(pool))] / 64 * counts.sum()
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_a_share_of_the_data_repeats(monkeypatch):
    task = tiny(kind="repeated_data", at=2, ramp=10, strength=0.5, p=97, batch_size=512)
    drawn, seen = rows_seen(task, monkeypatch)
    advance(task, 12)
    for done, (old, new) in enumerate(zip(drawn[2:], seen[2:], strict=True), start=1):
        low, high = stats.binom.ppf([1e-4, 1 - 1e-4], 512, 0.5 * done / 10)
        assert low - 2 <= (old != new).sum() <= high  # a row may be replaced by itself


@pytest.mark.parametrize("kind", [LabelCorruption, InputCorruption])
@pytest.mark.parametrize("now", [0.0, 0.2, 1.0])
def test_entries_come_from_other_examples(kind, now):
    fault = kind(tiny(), strength=1.0, seed=5)
    fault.now = now
    entries = torch.arange(6_000).view(2_000, 3)
    other = torch.rand(2_000, 3)
    targets = kind is LabelCorruption
    found = fault.batch(Batch(other, entries) if targets else Batch(entries, other))
    assert found[0 if targets else 1] is other
    changed = found[1 if targets else 0]
    assert torch.equal(changed % 3, entries % 3)  # a position keeps its own
    assert set(changed.unique().tolist()) <= set(range(6_000))
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], 6_000, now)
    assert low <= (changed != entries).sum() <= high
    if now == 0.2:
        per_position = (changed != entries).sum(dim=0).tolist()
        assert all(stats.binomtest(count, 2_000, now).pvalue > 1e-4 for count in per_position)


def test_labels_that_are_not_scored_stay_where_they_are():
    fault = LabelCorruption(tiny(), strength=1.0, seed=5)
    fault.now = 1.0
    targets = torch.arange(400).view(100, 4)
    silent = torch.rand(100, 4, generator=torch.Generator().manual_seed(0)) < 0.4
    found = fault.batch(Batch(targets, targets.masked_fill(silent, -100))).targets
    assert torch.equal(found < 0, silent)
    assert (found[~silent] != targets[~silent]).float().mean() > 0.4  # 0.6 on average: two must be scored


@pytest.mark.parametrize("kind", [LabelCorruption, InputCorruption])
def test_a_batch_of_one_has_nobody_to_exchange_with(kind):
    fault = kind(tiny(), strength=1.0, seed=5)
    fault.now = 1.0
    batch = Batch(torch.arange(4)[None], torch.arange(4)[None])
    assert equal(fault.batch(batch), batch)


def test_labels_of_a_classifier_are_wrong_as_often_as_chance_has_it():
    task = tiny(kind="label_corruption", strength=0.5, p=7, batch_size=4_000)
    task.frame.enter()
    rows = task.draw()
    batch = task.batch(rows)
    found = task.frame.perturbation.batch(batch)
    # One in seven is replaced by another example with the same label.
    shares = torch.bincount(batch.targets) / 4_000
    expected = 0.5 * (1 - (shares**2).sum().item())
    wrong = (found.targets != batch.targets).double().mean().item()
    assert wrong == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 4_000))
    assert torch.equal(found.inputs, batch.inputs)


# where a fault does not fit -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "lacking"), [("attention_explosion", "attention"), ("frozen_layer", "layers")])
def test_a_network_that_lacks_the_place_is_refused(kind, lacking):
    with pytest.raises(InputError, match=f"{kind}: expected a network with {lacking}"):
        perturb(Perceptron(), kind)


@pytest.mark.parametrize("kind", sorted(set(FAULTS) - {"attention_explosion", "frozen_layer"}))
def test_all_others_work_on_any_network(kind):
    task = advance(perturb(Perceptron(), kind, at=2, ramp=3), 8)
    assert all(torch.isfinite(parameter).all() for parameter in task.parameters)
