"""Interventions on updates, trials of several arms, and the judgement of paired differences."""

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.nn import functional

import spectral_edge as se
from spectral_edge import modes
from spectral_edge.errors import Outcome
from spectral_edge.experiments import Batch, SampledTask
from spectral_edge.modes.contrast import maximality, paired, seeds_needed
from spectral_edge.modes.interventions import ARMS, Intervention, random_direction, row_space_direction
from spectral_edge.modes.trial import Arm, run_arms

SIZES = {"a": (7, 5), "b": (11,)}


def flat(vector):
    return np.concatenate([tensor.detach().double().numpy().ravel() for tensor in vector.values()])


def altered(update, directions, *, dtype=torch.float64, start=0.0, **options):
    """What an intervention makes of one update [46] along directions [K, 46], and its record."""

    def vector(values):
        a, b = np.split(np.asarray(values), [35])
        return {"a": torch.tensor(a.reshape(7, 5)), "b": torch.tensor(b)}

    parameters = {name: torch.full(size, start, dtype=dtype) for name, size in SIZES.items()}
    with Intervention(parameters, [vector(v) for v in directions], **options) as intervention:
        for name, piece in vector(update).items():
            parameters[name].add_(piece.to(dtype))
        act = intervention.step()
    return flat(parameters) - start, act


def orthonormal(seed, count=3):
    rng = np.random.default_rng(seed)
    return rng, np.linalg.qr(rng.standard_normal((46, count)))[0].T


# one update ---------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000))
def test_components_are_removed_scaled_and_turned(seed):
    rng, v = orthonormal(seed)
    update = rng.standard_normal(46) * 10.0 ** rng.uniform(-6, 3)
    c = v @ update
    # Directions need not be unit vectors.
    scaled = v * rng.uniform(0.1, 10, size=(3, 1))
    removed, act = altered(update, scaled, arm="remove", mode=2)
    np.testing.assert_allclose(removed, update - c[1] * v[1], atol=1e-12 * abs(update).max())
    assert act.component == pytest.approx(c[1])
    assert act.removed_energy == pytest.approx(c[1] ** 2, rel=1e-6)
    assert act.displacement == pytest.approx(abs(c[1]))
    assert act.cosine == pytest.approx(np.sqrt(1 - c[1] ** 2 / (update @ update)))
    for arm, factor in (("shrink", 0.3), ("amplify", 4.0)):
        found, act = altered(update, scaled, arm=arm, factor=factor)
        np.testing.assert_allclose(v @ found, [factor * c[0], c[1], c[2]], rtol=1e-9, atol=1e-12 * abs(c).max())
    turned, act = altered(update, scaled, arm="rotate", onto=3)
    np.testing.assert_allclose(v @ turned, [-c[2], c[1], c[0]], rtol=1e-9, atol=1e-12 * abs(c).max())
    assert act.norm_after == pytest.approx(act.norm_before, rel=1e-12)


@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 0.999))
def test_budgets_are_met_exactly_by_every_arm(seed, share):
    """Energy to 1e-6, which is the promise; displacement of a tilt equals that of removing a component."""
    rng, v = orthonormal(seed)
    update = rng.standard_normal(46)
    square = update @ update
    for arm in ("remove", "shrink_all", "tilt"):
        found, act = altered(update, v, arm=arm, budget=[share])
        assert act.outcome == Outcome.OK
        assert found @ found == pytest.approx((1 - share) * square, rel=1e-6, abs=1e-9)
        assert act.removed_share == pytest.approx(share, abs=1e-9)
        # The budget that the third direction sets on this very update.
        own = (v[2] @ update) ** 2
        found, _ = altered(update, v, arm=arm, budget=3)
        assert found @ found == pytest.approx(square - own, rel=1e-6)
    found, act = altered(update, v, arm="tilt", budget=[share])
    assert act.displacement**2 == pytest.approx(share * square, rel=1e-6, abs=1e-9)
    # What moves lies in the plane of the update and the direction.
    plane = np.linalg.qr(np.stack([update, v[0]], axis=1))[0]
    np.testing.assert_allclose(found - plane @ (plane.T @ found), 0, atol=1e-9)


def test_a_budget_beyond_the_component_shrinks_the_rest():
    rng, v = orthonormal(0)
    update = rng.standard_normal(46)
    rest = update - (v[0] @ update) * v[0]
    found, _ = altered(update, v, arm="remove", budget=[0.9])
    np.testing.assert_allclose(found / np.linalg.norm(found), rest / np.linalg.norm(rest), atol=1e-12)
    # Below it, only part of the component goes.
    little = 0.5 * (v[0] @ update) ** 2 / (update @ update)
    found, _ = altered(update, v, arm="remove", budget=[little])
    np.testing.assert_allclose(found - (v[0] @ found) * v[0], rest, atol=1e-12)
    assert (v[0] @ found) / (v[0] @ update) == pytest.approx(np.sqrt(0.5))


@pytest.mark.parametrize(
    "options", [{"arm": "remove"}, {"arm": "tilt", "budget": [0.4]}, {"arm": "remove", "budget": [0.6]}]
)
def test_restored_norms(options):
    rng, v = orthonormal(3)
    update = rng.standard_normal(46)
    plain, _ = altered(update, v, **options)
    found, act = altered(update, v, **options, restore_norm=True)
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(update), rel=1e-12)
    assert found @ plain == pytest.approx(np.linalg.norm(found) * np.linalg.norm(plain))
    assert act.removed_share == pytest.approx(0, abs=1e-12)


def test_float32_parameters_meet_the_budget_as_far_as_they_can():
    """Rounding of a parameter near 1 is 6e-8 a coordinate; the record says what was applied, not what was wanted."""
    rng, v = orthonormal(4)
    update = 1e-3 * rng.standard_normal(46)
    found, act = altered(update, v, dtype=torch.float32, start=1.0, arm="remove")
    applied = found
    assert act.norm_after == pytest.approx(np.linalg.norm(applied), rel=1e-6)
    assert abs(v[0] @ applied) < 1e-6


def test_what_cannot_be_altered_is_left_as_it_is_with_a_reason():
    _, v = orthonormal(5)
    for update, options, outcome in (
        (np.full(46, np.nan), {}, Outcome.NON_FINITE),
        (np.full(46, np.inf), {}, Outcome.NON_FINITE),
        (np.zeros(46), {}, Outcome.SKIPPED),
        (v[0], {"restore_norm": True, "budget": [1.0]}, Outcome.ZERO_UPDATES),
        (v[0] + v[1], {"budget": []}, Outcome.NOT_RECORDED),
        (v[0] + v[1], {"budget": [np.nan]}, Outcome.NON_FINITE),
    ):
        found, act = altered(update, v, **options)
        np.testing.assert_array_equal(found, update)
        assert act.outcome == outcome
        assert math.isnan(act.removed_share)
    # An update along the direction itself is removed whole.
    found, act = altered(v[0], v)
    assert np.linalg.norm(found) < 1e-12
    assert act.removed_share == pytest.approx(1)
    found, act = altered(v[0], v, budget=[0.25])
    assert np.linalg.norm(found) == pytest.approx(np.sqrt(0.75))


def test_a_run_goes_on_where_altering_fails():
    parameters = {"a": torch.zeros(3)}
    with Intervention(parameters, [{"a": torch.ones(3)}]) as intervention:
        parameters["a"].add_(1.0)
        intervention._directions[0]["a"] = torch.ones(2)  # something that cannot be multiplied
        assert intervention.step().outcome == Outcome.FAILED
        torch.testing.assert_close(parameters["a"], torch.ones(3))
    with pytest.raises(se.InputError, match="inside the context"):
        intervention.step()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"arm": "delete"}, "none | sham"),
        ({"mode": 4}, "1 to 3"),
        ({"factor": 0.5}, "shrink or amplify"),
        ({"arm": "shrink", "factor": 1.5}, "0 to 1"),
        ({"arm": "amplify", "factor": math.inf}, "1 to inf"),
        ({"arm": "rotate"}, "for rotate only"),
        ({"onto": 2}, "for rotate only"),
        ({"arm": "rotate", "onto": 1}, "other than that"),
        ({"arm": "shrink", "budget": [0.1]}, "one of the arms"),
        ({"arm": "tilt"}, "shares, or the position"),
        ({"budget": 2.0}, "a whole number, or a share"),
        ({"budget": "all"}, "a whole number, or a share"),
        ({"mode": "first"}, "1 to 3"),
        ({"budget": [1.5]}, "0 to 1"),
        ({"arm": "shrink_all", "restore_norm": True}, "changes the update's direction"),
    ],
)
def test_arguments_that_cannot_be_used(options, words):
    _, v = orthonormal(6)
    with pytest.raises(se.InputError) as caught:
        altered(np.ones(46), v, **options)
    assert words in str(caught.value)


def test_directions_that_cannot_be_used():
    parameters = {"a": torch.zeros(3)}
    for direction in (
        {"b": torch.ones(3)},
        {"a": torch.ones(4)},
        {"a": torch.zeros(3)},
        {"a": torch.full((3,), 1e999)},
    ):
        with pytest.raises(se.InputError, match="direction"):
            Intervention(parameters, [direction])
    with pytest.raises(se.InputError, match="parameters"):
        Intervention({}, [])
    with pytest.raises(se.InputError, match="parameters"):
        Intervention([torch.zeros(3)], [{"a": torch.ones(3)}])
    with pytest.raises(se.InputError, match=r"or \[direction\]"):
        Intervention(parameters, {"a": torch.ones(3)})


def test_a_budget_may_be_any_whole_number():
    rng, v = orthonormal(8)
    update = rng.standard_normal(46)
    expected, _ = altered(update, v, arm="tilt", budget=2)
    for budget in (np.int64(2), np.int32(2)):
        found, _ = altered(update, v, arm="tilt", budget=budget)
        np.testing.assert_array_equal(found, expected)


def test_models_and_modes_are_taken_as_they_are():
    states = []
    for hand in (lambda task, found: (task.model, found), lambda task, f: (modes.named(task.model), f.directions)):
        task = Regression()
        model, directions = hand(task, watched(task))
        with Intervention(model, directions, mode=2) as intervention:
            for _ in range(5):
                task.train_step()
                intervention.step()
        states.append(modes.named(task.model))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_random_directions():
    generator = torch.Generator().manual_seed(0)
    like = {"a": torch.zeros(200, 50)}
    direction = flat(random_direction(like, generator))
    assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-12)
    assert abs(direction.mean()) < 4 / 10_000  # four standard errors
    _, v = orthonormal(7)
    span = modes.Modes(1, np.ones(3), np.eye(3), np.eye(3), 3, tuple({"a": torch.tensor(row)} for row in v))
    inside = flat(row_space_direction(span, generator))
    assert np.linalg.norm(v @ inside) == pytest.approx(1, abs=1e-12)
    other = flat(row_space_direction(span, generator))
    assert abs(inside @ other) < 1


# whole runs ---------------------------------------------------------------------------------------------------------


class Regression(SampledTask):
    """A small network with dropout, so that random numbers matter too."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.x = torch.randn(64, 5)
        self.y = self.x[:, :2].prod(dim=1, keepdim=True)
        model = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Dropout(0.1), nn.Linear(12, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1, fused=True)
        super().__init__(model, optimizer, train_size=48, batch_size=16, max_grad_norm=1.0, seed=seed)

    def batch(self, rows):
        return Batch(self.x[rows], self.y[rows])

    def batch_loss(self, batch):
        return functional.mse_loss(self.model(batch.inputs), batch.targets)

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        loss = functional.mse_loss(self.model(self.x[48:]), self.y[48:]).item()
        self.model.train()
        return {"test_loss": loss, "nothing": math.nan}


def watched(task, steps=40, window=6):
    monitor = se.Monitor(task.model, task.optimizer, window=window, every=5, engine="exact")
    for _ in range(steps):
        task.train_step()
        monitor.step()
    return monitor.modes()


def test_a_sham_is_bit_for_bit_no_intervention():
    states = []
    for arm in (None, "none", "sham"):
        task = Regression()
        found = watched(task)
        if arm is None:
            for _ in range(30):
                task.train_step()
        else:
            with Intervention(modes.named(task.model), found.directions, arm=arm, mode=1) as intervention:
                for _ in range(30):
                    task.train_step()
                    intervention.step()
            assert all(act.outcome == Outcome.OK and act.removed_share == 0 for act in intervention.acts)
            assert max(abs(act.component) for act in intervention.acts) > 0
        states.append({name: value.clone() for name, value in task.model.state_dict().items()})
    for other in states[1:]:
        assert all(torch.equal(value, states[0][name]) for name, value in other.items())


def test_arms_start_from_one_checkpoint_and_put_it_back():
    task = Regression()
    found = watched(task)
    generator = torch.Generator().manual_seed(1)
    directions = {f"v{j}": v for j, v in enumerate(found.directions[:3], start=1)}
    directions["random"] = random_direction(modes.named(task.model), generator)
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    random = torch.get_rng_state()
    arms = [
        Arm(name="none", kind="none"),
        Arm(name="v1", along="v1"),
        Arm(name="again", kind="none"),
        Arm(name="sham", kind="sham", along="v1"),
        Arm(name="v2 for v1", along="v2", budget="v1"),
        Arm(name="shrink for v1", kind="shrink_all", budget="v1"),
        Arm(name="random for v1", kind="tilt", along="random", budget="v1"),
        Arm(name="random", along="random"),
        Arm(name="turned", kind="rotate", along="v1", onto="v2"),
        Arm(name="kept norm", along="v1", restore_norm=True),
        Arm(name="own shrink", kind="shrink_all", along="v1"),
    ]
    results = run_arms(task, arms, directions, steps=25, evaluate_every=10)
    assert results["none"].outcome == results["again"].outcome == results["sham"].outcome
    assert results["none"].steps.tolist() == [10, 20, 25]
    assert results["v1"].outcome != results["none"].outcome
    shares = results["v1"].shares
    assert 0.001 < shares.mean() < 1
    for name in ("v2 for v1", "shrink for v1", "random for v1"):
        # float32 parameters round: the applied shares agree to what rounding leaves.
        np.testing.assert_allclose(results[name].shares, shares, atol=1e-5)
        assert not results[name].left_out
    assert results["kept norm"].removed_share == pytest.approx(0, abs=1e-5)
    assert results["turned"].removed_share == pytest.approx(0, abs=1e-5)
    assert results["random"].removed_share < 0.5 * results["v1"].removed_share
    assert set(results["v1"].metrics) == {"test_loss", "nothing"}
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    # The trial left no trace in what comes next either.
    fresh = Regression()
    watched(fresh)
    torch.set_rng_state(random)
    losses = [task.train_step().loss for _ in range(5)]
    torch.set_rng_state(random)
    assert losses == [fresh.train_step().loss for _ in range(5)]


def test_removing_a_direction_keeps_the_weights_from_moving_along_it():
    task = Regression()
    found = watched(task)
    parameters = modes.named(task.model)
    start = {name: tensor.detach().clone() for name, tensor in parameters.items()}
    with Intervention(parameters, found.directions, mode=2) as intervention:
        for _ in range(50):
            task.train_step()
            intervention.step()
    moved = modes.added(parameters, start, -1.0)
    assert modes.norm(moved) > 0.01
    assert abs(modes.dot(moved, found.directions[1])) < 1e-5 * modes.norm(moved)


class Noisy(Regression):
    """Regression whose forward pass counts in a buffer outside of the state, and draws from NumPy and Python too."""

    def __init__(self):
        super().__init__()
        self.model.register_buffer("passes", torch.zeros(1), persistent=False)

    def train_step(self):
        self.model.passes = self.model.passes + 1
        self.x = self.x * (1 + 1e-3 * (np.random.rand() + random.random()))  # noqa: NPY002
        return super().train_step()

    def evaluate(self):
        found = super().evaluate()
        self.model.eval()
        return found

    def state_dict(self):
        return {**super().state_dict(), "x": self.x}

    def load_state_dict(self, state):
        self.x = state["x"]
        super().load_state_dict({key: value for key, value in state.items() if key != "x"})


def test_a_trial_leaves_nothing_behind():
    task = Noisy()
    found = watched(task)
    task.model.train()
    before = {name: value.clone() for name, value in task.model.named_buffers()}
    gradients = [p.grad.clone() for p in task.model.parameters()]
    states = [random.getstate(), np.random.get_state()[1].tolist()]  # noqa: NPY002
    result = run_arms(
        task,
        [Arm(name="one", kind="none"), Arm(name="v1", along="v1"), Arm(name="again", kind="none")],
        {"v1": found.directions[0]},
        steps=4,
    )
    assert result["one"].outcome == result["again"].outcome != result["v1"].outcome
    assert all(torch.equal(value, before[name]) for name, value in task.model.named_buffers())
    assert all(torch.equal(p.grad, g) for p, g in zip(task.model.parameters(), gradients, strict=True))
    assert task.model.training
    assert states == [random.getstate(), np.random.get_state()[1].tolist()]  # noqa: NPY002


def test_something_that_is_no_run_is_said():
    with pytest.raises(se.InputError, match="train_step"):
        run_arms(nn.Linear(2, 2), [Arm(name="a", kind="none")], {}, steps=1)


@pytest.mark.parametrize(
    ("arms", "options", "words"),
    [
        ([Arm(name="a", along="v9")], {}, "'v9'"),
        ([Arm(name="a")], {}, "''"),
        ([Arm(name="a", along="v1"), Arm(name="a", along="v1")], {}, "a twice"),
        ([Arm(name="a", kind="shrink_all", budget="b"), Arm(name="b", along="v1")], {}, "put that arm before"),
        ([Arm(name="a", along="v1")], {"steps": 0}, "at least 1"),
        ([Arm(name="a", along="v1")], {"outcome": "accuracy"}, "test_loss"),
    ],
)
def test_trials_that_cannot_be_run(arms, options, words):
    task = Regression()
    direction = {name: torch.ones_like(tensor) for name, tensor in modes.named(task.model).items()}
    with pytest.raises(se.InputError) as caught:
        run_arms(task, arms, {"v1": direction}, **{"steps": 1, **options})
    assert words in str(caught.value)


def test_an_outcome_that_is_not_finite_is_undefined():
    task = Regression()
    result = run_arms(task, [Arm(name="none", kind="none")], {}, steps=1, outcome="nothing")
    assert math.isnan(result["none"].outcome)


def test_every_arm_has_words():
    assert set(ARMS) == {"none", "sham", "remove", "shrink", "amplify", "rotate", "shrink_all", "tilt"}


# judgement ----------------------------------------------------------------------------------------------------------


def test_paired_differences_against_scipy():
    values = np.random.default_rng(0).standard_normal(9) + 0.5
    found = paired([*values, np.nan, np.inf])
    test = stats.ttest_1samp(values, 0)
    interval = test.confidence_interval(0.95)
    assert (found.n, found.left_out) == (9, 2)
    assert found.p == pytest.approx(test.pvalue)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert paired([1.0, 1.0]).sign == 1
    assert paired([-1.0, -1.0]).sign == -1
    zero = paired([0.0, 0.0, 0.0])
    assert (zero.sign, zero.seeds, math.isnan(zero.p)) == (0, None, True)
    lonely = paired([3.0])
    assert (lonely.n, lonely.mean, lonely.sign, lonely.seeds) == (1, 3.0, 0, None)
    with pytest.raises(se.InputError, match="confidence"):
        paired([1.0, 2.0], confidence=95)


@pytest.mark.parametrize("effect", [0.15, 0.5, 1.0, 4.0, 200.0])
def test_seeds_needed_against_simulated_power(effect):
    rng = np.random.default_rng(int(100 * effect))
    n = seeds_needed(effect, 1.0, 0.05, 0.8)

    def power(size):
        draws = effect + rng.standard_normal((4000, size))
        return (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()

    error = 4 * np.sqrt(0.25 / 4000)
    assert power(n) > 0.8 - error
    assert n == 2 or power(n - 1) < 0.8 + error


def test_seeds_that_do_not_exist():
    assert seeds_needed(1e-3, 1.0, 0.05, 0.8) is None
    assert seeds_needed(0.0, 1.0, 0.05, 0.8) is None
    assert seeds_needed(math.nan, 1.0, 0.05, 0.8) is None
    assert seeds_needed(1.0, 0.0, 0.05, 0.8) == 2


def test_maximality_is_judged_from_both_sides():
    rng = np.random.default_rng(2)
    base = rng.standard_normal((12, 1))
    noise = 0.1 * rng.standard_normal((12, 3))
    edge = np.full(12, 2)
    supported = maximality(base + noise + [0.0, 1.0, 0.0], edge)
    assert supported.verdict == "supported"
    assert set(supported.rivals) == {1, 3}
    contradicted = maximality(base + noise + [1.0, 0.0, 0.0], edge)
    assert contradicted.verdict == "contradicted"
    assert contradicted.rivals[1].high < 0
    mixed = maximality(base + noise + [[1.0, 0.0, 0.0]], np.where(np.arange(12) < 6, 1, 2))
    assert mixed.verdict in ("contradicted", "inconclusive")
    assert {j: rival.n for j, rival in mixed.rivals.items()} == {1: 6, 2: 6, 3: 12}
    for outcomes, where in ((np.zeros((3, 1)), [1, 1, 1]), (np.zeros((3, 2)), [1, 1]), (np.zeros((3, 2)), [1, 1, 3])):
        with pytest.raises(se.InputError):
            maximality(outcomes, where)


def test_a_run_that_broke_off_is_the_greatest_harm():
    rng = np.random.default_rng(4)
    base = rng.standard_normal((8, 1)) + 0.01 * rng.standard_normal((8, 3))
    edge = np.ones(8, dtype=int)
    # A rival breaks six of eight runs, and is a little better in the others: no support for k*.
    worse = np.array([1.0, 0.0, 0.0])
    rival = base + worse
    rival[:6, 1] = np.nan
    judged = maximality(rival, edge)
    assert judged.verdict == "inconclusive"
    assert (judged.lead.left_out, judged.broken) == (6, 6)
    rival[:, 1] = np.inf
    assert maximality(rival, edge).verdict == "contradicted"
    # k* breaks all eight and nothing else breaks any.
    broken = base.copy()
    broken[:, 0] = np.nan
    assert maximality(broken, edge).verdict == "supported"
    broken[:3, 0] = base[:3, 0] - 1
    assert maximality(broken, edge).verdict == "inconclusive"
    # What breaks under every arm says nothing; the other seeds do, by their signs.
    both = base + worse
    both[0] = np.nan
    assert maximality(both, edge).verdict == "supported"
    both[:4] = np.nan
    assert maximality(both, edge).verdict == "inconclusive"


def test_arms_that_moved_by_different_distances_are_not_compared():
    rng = np.random.default_rng(5)
    outcomes = rng.standard_normal((8, 1)) + 0.1 * rng.standard_normal((8, 3)) + [0.0, 1.0, 0.0]
    edge = np.full(8, 2)
    alike = np.full((8, 3), 0.7) * (1 + 0.05 * rng.standard_normal((8, 3)))
    assert math.isnan(maximality(outcomes, edge).apart)
    judged = maximality(outcomes, edge, displacements=alike)
    assert judged.verdict == "supported"
    assert judged.apart < 0.1
    for factor in ([1.0, 1.0, 0.6], [1.3, 1.0, 1.0], [1.0, np.nan, 1.0]):
        judged = maximality(outcomes, edge, displacements=alike * factor)
        assert judged.verdict == "not comparable"
        assert not judged.apart < 0.2
    with pytest.raises(se.InputError, match=r"ArmResult\.displacement"):
        maximality(outcomes, edge, displacements=alike[:, :2])


def test_every_position_that_is_compared_takes_its_share_of_the_level():
    """Where k* varies each of P positions is a rival, where it does not P - 1 are."""
    rng = np.random.default_rng(6)
    shape = (2000, 8, 2)
    draws = rng.standard_normal((*shape[:2], 1)) + rng.standard_normal(shape)
    edges = rng.integers(1, 3, shape[:2])
    edges[:, 0], edges[:, 1] = 1, 2
    counted = np.mean([maximality(*each).verdict == "contradicted" for each in zip(draws, edges, strict=True)])
    assert counted < 0.025 + 4 * np.sqrt(0.025 * 0.975 / shape[0])


def test_maximality_of_equal_arms_is_rarely_decided():
    """Nominal 5 % over both positions, and less for support, since the lead is taken over the worst."""
    rng = np.random.default_rng(3)
    verdicts = [
        maximality(rng.standard_normal((8, 1)) + rng.standard_normal((8, 3)), rng.integers(1, 4, 8)).verdict
        for _ in range(600)
    ]
    error = 4 * np.sqrt(0.05 * 0.95 / 600)
    assert verdicts.count("supported") / 600 < 0.025 + error
    assert verdicts.count("contradicted") / 600 < 0.05 + error
