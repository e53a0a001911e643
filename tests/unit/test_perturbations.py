"""What every perturbation promises, and each intervention against an independent account of what it does."""

import numpy as np
import pytest
import torch
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

from spectral_edge.errors import InputError
from spectral_edge.experiments import configure, run
from spectral_edge.experiments.interventions import INTERVENTIONS, Kicks
from spectral_edge.experiments.kinds import KINDS
from spectral_edge.experiments.perturbation import Frame, Perturbation, flat, flat_gradient, pieces

NOTHING = {
    "optimizer_lost": 0.0,
    "stale_gradients": 0.0,
    "frozen_layer": 0.0,
    "bf16_rounding": 0.0,
    "learning_rate_high": 1.0,
    "learning_rate_low": 1.0,
    "batch_small": 1.0,
    "label_corruption": 0.0,
    "input_corruption": 0.0,
    "repeated_data": 0.0,
    "attention_explosion": 0.0,
    "replica_drift": 0.0,
    "gradient_noise": 0.0,
    "weight_decay": 1.0,
    "suppress_orthogonal": 0.0,
    "suppress_random": 0.0,
    "suppress_norm_matched": 0.0,
    "kicks": 0.0,
}
"""Strengths at which a kind does nothing."""


@pytest.fixture(scope="module")
def healthy():
    """State of the unperturbed run after 5 and after 7 steps."""
    task = tiny()
    return {5: saved(advance(task, 5)), 7: saved(advance(task, 2))}


def assert_same(one, two):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    else:
        assert one == two


# every kind ---------------------------------------------------------------------------------------------------------


def test_the_interventions():
    assert list(INTERVENTIONS) == [
        "weight_decay",
        "suppress_orthogonal",
        "suppress_random",
        "suppress_norm_matched",
        "kicks",
    ]
    assert set(KINDS) - set(NOTHING) == {"sham", "loss_spikes"}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_happens_before_it_begins(kind, healthy):
    state = saved(advance(tiny(kind=kind, at=5), 5))
    assert not state.pop("frame")["begun"]
    assert_same(state, healthy[5])


@pytest.mark.parametrize("kind", KINDS)
def test_all_but_the_sham_change_the_run(kind, healthy):
    # A fifth of eight labels may be none, or change to what they were.
    strength = 1.0 if kind == "label_corruption" else None
    state = saved(advance(tiny(kind=kind, at=5, strength=strength), 7))
    assert state.pop("frame")["begun"]
    same = all(torch.equal(each, healthy[7]["model"][name]) for name, each in state["model"].items())
    assert same == (kind == "sham")


@pytest.mark.parametrize(("kind", "strength"), NOTHING.items())
def test_without_strength_nothing_happens(kind, strength, healthy):
    state = saved(advance(tiny(kind=kind, at=5, strength=strength), 7))
    assert_same(state["model"], healthy[7]["model"])


@pytest.mark.parametrize("kind", KINDS)
def test_batches_and_global_randomness_stay_the_twins(kind, healthy):
    torch.manual_seed(8)
    before = torch.get_rng_state()
    task, drawn = tiny(kind=kind, at=3, ramp=2), []
    draw = task.draw
    task.draw = lambda: drawn.append(draw()) or drawn[-1]
    advance(task, 7)
    generator = torch.Generator().manual_seed(3)
    assert equal(drawn, [torch.randint(task.data.train_size, (8,), generator=generator) for _ in range(7)])
    assert torch.equal(saved(task)["generator"], healthy[7]["generator"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_at_any_step_it_is_the_same_run(kind, monkeypatch):
    monkeypatch.setattr(Kicks, "every", 3)
    whole, states = tiny(kind=kind, at=3, ramp=3), {}
    for killed in (1, 3, 4, 6):  # before, at, inside the ramp, after
        states[killed] = saved(advance(whole, killed - whole.step))
    end = saved(advance(whole, 2))
    for killed, state in states.items():
        resumed = tiny(kind=kind, at=3, ramp=3)
        resumed.load_state_dict(state)
        assert_same(saved(advance(resumed, 8 - killed)), end)


@pytest.mark.parametrize("kind", ["stale_gradients", "suppress_orthogonal"])
def test_resumed_by_the_runner_it_is_the_same_run(kind, tmp_path):
    options = {"p": 7, "d_model": 8, "d_feedforward": 8, "batch_size": 8, "steps": 12, "window": 3, "horizon": 6}
    cadence = {"observe_every": 2, "eval_every": 4, "checkpoint_every": 50}
    config = configure("arithmetic", **options, **cadence, perturbation=kind, perturb_at=5, perturb_ramp=3)

    def kill(progress):
        if progress.step in (4, 7):
            raise KeyboardInterrupt

    whole = run(config, tmp_path / "whole")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "parts", on_progress=kill)
    parts = run(config, tmp_path / "parts")
    assert (parts.perturbed, whole.perturbed) == (5, 5)
    assert parts.metrics == whole.metrics
    ends = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["task"] for name in ("whole", "parts")]
    assert_same(*ends)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_is(kind):
    acting = KINDS[kind]
    acting.check(acting.usual)
    assert acting.about
    assert kind == "sham" or "strength: " in acting.about


@pytest.mark.parametrize(
    ("kind", "strength"),
    [
        ("frozen_layer", 1.5),
        ("bf16_rounding", 2.0),
        ("learning_rate_high", 0.5),
        ("learning_rate_low", 3.0),
        ("batch_small", 0.5),
        ("label_corruption", 1.01),
        ("repeated_data", -0.1),
        ("suppress_random", 2.0),
        ("kicks", float("nan")),
    ],
)
def test_strengths_without_a_meaning_are_refused_at_once(kind, strength):
    with pytest.raises(InputError, match=r"strength: expected .* number"):
        configure("arithmetic", perturbation=kind, perturb_at=5, strength=strength)
    with pytest.raises(InputError, match="strength: expected a number of at least"):
        tiny(kind=kind, strength=strength)


# the frame ----------------------------------------------------------------------------------------------------------


class Witness(Perturbation):
    """Notes what it is asked."""

    def __init__(self, task, **options):
        super().__init__(task, **options)
        self.notes = []

    def start(self):
        self.notes.append("start")

    def before(self):
        self.notes.append(("before", round(self.share, 6), round(self.now, 6), self.begun))

    def watch(self):
        self.notes.append("watch")

    def after(self):
        self.notes.append("after")


@pytest.mark.parametrize(("ramp", "shares"), [(0, [1.0, 1.0, 1.0]), (1, [1.0, 1.0, 1.0]), (2, [0.5, 1.0, 1.0])])
def test_a_frame_asks_in_order_and_ramps(ramp, shares):
    task = tiny()
    witness = Witness(task, strength=4.0, seed=0)
    task.frame = Frame(witness, at=2, ramp=ramp)
    advance(task, 5)
    acts = [note for share in shares for note in (("before", share, 4.0 * share, True), "after")]
    assert witness.notes == ["watch", "watch", "start", *acts]


def test_flat_vectors_and_back():
    like = [torch.zeros(2, 3), torch.zeros(()), torch.zeros(4, dtype=torch.bfloat16)]
    values = torch.arange(11.0)
    back = pieces(values, like)
    assert [(each.shape, each.dtype) for each in back] == [(each.shape, each.dtype) for each in like]
    assert torch.equal(flat(back), values)
    copy = flat(back[:1])
    copy += 1
    assert torch.equal(values, torch.arange(11.0))
    parameters = [torch.nn.Parameter(each) for each in like]
    parameters[1].grad = torch.tensor(3.0)
    assert torch.equal(flat_gradient(parameters), torch.tensor([0.0] * 6 + [3.0] + [0.0] * 4))


# weight decay -------------------------------------------------------------------------------------------------------


def test_weight_decay_is_changed_from_the_step_on():
    task = advance(tiny(kind="weight_decay", at=4, strength=0.25), 4)
    for _ in range(3):
        twin, before = healthy_step(task, weight_decay=1.0), vector(weights(task))
        rate, decay = twin.optimizer.param_groups[0]["lr"], twin.optimizer.param_groups[0]["weight_decay"]
        advance(task, 1)
        # AdamW's decay is a term of its own: the rest of the step is the same.
        expected = vector(weights(twin)) + rate * (decay - 0.25) * before
        torch.testing.assert_close(vector(weights(task)), expected, rtol=0, atol=2e-7)
        assert task.optimizer.param_groups[0]["weight_decay"] == 0.25


@pytest.mark.parametrize(("own", "new", "seen"), [(1.0, 0.0, [0.75, 0.5, 0.25, 0.0]), (0.0, 2.0, [0.5, 1.0, 1.5, 2.0])])
def test_weight_decay_goes_evenly_from_old_to_new(own, new, seen):
    task = advance(tiny(kind="weight_decay", at=2, ramp=4, strength=new, weight_decay=own), 2)
    found = []
    for _ in range(5):
        found.append(advance(task, 1).optimizer.param_groups[0]["weight_decay"])
    assert found == [*seen, new]


def test_parameters_that_are_spared_stay_spared():
    task = tiny()
    spared, rest = task.parameters[:3], task.parameters[3:]
    task.optimizer = torch.optim.AdamW([{"params": spared, "weight_decay": 0.0}, {"params": rest, "weight_decay": 0.1}])
    task._rates = [1e-3, 1e-3]
    advance(perturb(task, "weight_decay", at=1, strength=0.5), 3)
    assert [group["weight_decay"] for group in task.optimizer.param_groups] == [0.0, 0.5]


def test_an_optimizer_without_decay_is_refused():
    with pytest.raises(InputError, match="expected an optimizer with weight decay, got Rprop"):
        perturb(Perceptron(), "weight_decay")


# suppression --------------------------------------------------------------------------------------------------------

AT = 37


@pytest.fixture(scope="module")
def trajectory():
    """Parameters of the healthy run after 0 to 37 steps [38, P], float64, and its state then."""
    task = tiny()
    points = [vector(weights(task))]
    for _ in range(AT):
        points.append(vector(weights(advance(task, 1))))
    return torch.stack(points).numpy()


def suppressed(kind, *, strength, steps=1, at=AT):
    """Pairs of the gradient as it would have been and as it was applied, float64 [P], for steps from `at` on."""
    task, pairs = advance(tiny(kind=kind, at=at, strength=strength), at), []
    for _ in range(steps):
        raw = vector(gradients(healthy_step(task)))
        pairs.append((raw.numpy(), vector(gradients(advance(task, 1))).numpy()))
    return pairs


def projector(points, steps):
    """The projection on 16 principal directions of the displacements at some steps, about the origin."""
    _, _, directions = np.linalg.svd(points[steps] - points[0], full_matrices=False)
    return directions[:16].T @ directions[:16]


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_the_gradient_is_weakened_off_the_trajectory_only(trajectory, strength):
    # 32 snapshots were one too many for the memory: every second step is left.
    onto = projector(trajectory, range(2, AT, 2))
    for raw, found in suppressed("suppress_orthogonal", strength=strength, steps=3):
        inside, outside = onto @ raw, raw - onto @ raw
        assert np.linalg.norm(inside) > 0.05 * np.linalg.norm(raw)
        np.testing.assert_allclose(found, inside + (1 - strength) * outside, atol=2e-4 * np.linalg.norm(raw))


def test_suppression_is_exact_in_its_own_subspace():
    # What full suppression leaves lies in 16 dimensions, and half suppression is half of it and half of the gradient.
    whole = suppressed("suppress_orthogonal", strength=1.0, steps=20)
    sizes = np.linalg.svd(np.stack([found / np.linalg.norm(found) for _, found in whole]), compute_uv=False)
    assert sizes[15] > 1e-3 > 1e-5 > sizes[16]
    for raw, found in whole:
        assert abs(found @ (raw - found)) < 1e-5 * (raw @ raw)
    half = suppressed("suppress_orthogonal", strength=0.5)[0][1]
    np.testing.assert_allclose(half, (whole[0][0] + whole[0][1]) / 2, atol=1e-6 * np.abs(half).max())


def test_snapshots_are_even_and_bounded(trajectory):
    task, held = tiny(kind="suppress_orthogonal", at=200), []
    for step in range(1, 70):
        advance(task, 1)
        snapshots = task.frame.perturbation.state_dict()["snapshots"]
        held.append(len(snapshots) - 1)
        if step == AT:
            expected = torch.from_numpy(trajectory[0 : AT + 1 : 2])
            assert torch.equal(torch.stack(snapshots).double(), expected)
            resumed = tiny(kind="suppress_orthogonal", at=200)
            resumed.load_state_dict(saved(task))
            task = resumed
    assert held[:33] == [*range(1, 32), 16, 16]
    assert held[62:64] == [31, 16]
    assert max(held) == 31
    assert min(held[15:]) == 16


def test_few_steps_before_it_are_few_directions():
    raw, found = suppressed("suppress_orthogonal", strength=1.0, at=1)[0]
    task = tiny()
    before = vector(weights(task)).numpy()
    direction = vector(weights(advance(task, 1))).numpy() - before
    direction /= np.linalg.norm(direction)
    np.testing.assert_allclose(found, direction * (direction @ raw), atol=1e-5 * np.linalg.norm(raw))


def test_the_random_subspace_has_as_many_dimensions_and_another_place(trajectory):
    pairs = suppressed("suppress_random", strength=1.0, steps=20)
    kept = np.stack([found / np.linalg.norm(found) for _, found in pairs])
    sizes = np.linalg.svd(kept, compute_uv=False)
    assert sizes[15] > 1e-3 > 1e-5 > sizes[16]
    for raw, found in pairs:
        assert abs(found @ (raw - found)) < 1e-5 * (raw @ raw)
    _, _, basis = np.linalg.svd(kept, full_matrices=False)
    # Sixteen random directions in 1,079 dimensions hold 16/1079 of any other sixteen.
    overlap = np.linalg.norm(basis[:16] @ projector(trajectory, range(2, AT, 2))) ** 2 / 16
    assert overlap == pytest.approx(16 / 1079, abs=0.02)
    quarter = suppressed("suppress_random", strength=0.25)[0][1]
    np.testing.assert_allclose(quarter, 0.75 * pairs[0][0] + 0.25 * pairs[0][1], atol=1e-6)


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_the_norm_matched_control_shortens_and_does_not_turn(strength):
    (raw, found), (same, other) = (
        suppressed(kind, strength=strength)[0] for kind in ("suppress_norm_matched", "suppress_orthogonal")
    )
    np.testing.assert_array_equal(raw, same)
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(other), rel=1e-5)
    np.testing.assert_allclose(found / np.linalg.norm(found), raw / np.linalg.norm(raw), atol=1e-6)


# kicks --------------------------------------------------------------------------------------------------------------


def test_kicks_come_every_fifty_steps_and_have_their_length():
    task, lengths = tiny(kind="kicks", at=60, strength=7.0), []
    for _ in range(60):
        before = vector(weights(task))
        lengths.append((vector(weights(advance(task, 1))) - before).norm().item())
    usual = 0.0
    for count, length in enumerate(lengths, start=1):  # a mean over all, then one over about 50
        weight = 1 / count if count <= 50 else 1 / 50
        usual = (1 - weight) * usual + weight * length
    kicks = []
    for _ in range(52):
        expected = vector(weights(healthy_step(task)))
        kicks.append(vector(weights(advance(task, 1))) - expected)
    kicked = [index for index, kick in enumerate(kicks) if kick.norm() > 0]
    assert kicked == [0, 50]
    for index in kicked:
        assert kicks[index].norm().item() == pytest.approx(7.0 * usual, rel=1e-4)
    directions = torch.stack([kicks[index] / kicks[index].norm() for index in kicked])
    assert ((directions @ directions.T).fill_diagonal_(0).abs() < 5 / 1079**0.5).all()
