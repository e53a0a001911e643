"""Decay and gradient parts, the commutator of two batches and ablations, each against what it must equal."""

import copy
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

import spectral_edge as se
from spectral_edge import modes
from spectral_edge.errors import InputError, Outcome
from spectral_edge.evaluate.lifecycle import lifecycle
from spectral_edge.modes.ablation import ablate
from spectral_edge.modes.commutator import commutator_defect, commutator_defect_pub
from spectral_edge.modes.lifecycle import DecayAccumulator, decay_trapezoid
from spectral_edge.modes.trial import Arm, run_arms

WINDOW = 4


def vector(named):
    return np.concatenate([piece.detach().double().numpy().ravel() for piece in named.values()])


def network(dtype=torch.float64):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)
    x, y = torch.randn(64, 5, dtype=dtype), torch.randint(3, (64,))
    return model, x, y


def run(make, steps, every, *, dtype=torch.float64, between=lambda model, optimizer, step: None):
    """A watched run with the decay of every step kept by hand."""
    model, x, y = network(dtype)
    optimizer = make(model)
    monitor = se.Monitor(model, optimizer, window=WINDOW, every=every)
    accumulator = DecayAccumulator(monitor, model, optimizer)
    parameters = modes.named(model)
    by_hand = {name: torch.zeros_like(p) for name, p in parameters.items()}
    parts, expected, thetas = [], [], [vector(parameters)]
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        between(model, optimizer, step)
        for group in optimizer.param_groups:
            for name, p in parameters.items():
                if any(p is q for q in group["params"]) and p.grad is not None:
                    by_hand[name] -= group["lr"] * group["weight_decay"] * p.detach()
        optimizer.step()
        monitor.step()
        found = accumulator.observe()
        assert (found is None) == bool(step % every)
        if found is not None:
            parts.append([vector(piece) for piece in found])
            expected.append(vector(by_hand))
            by_hand = {name: torch.zeros_like(p) for name, p in parameters.items()}
            thetas.append(vector(parameters))
    return monitor, accumulator, np.array(parts), np.array(expected), np.array(thetas)


def adamw(model):
    """Two groups of different decay, as is usual."""
    weights = [p for p in model.parameters() if p.ndim == 2]
    biases = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": 0.8}, {"params": biases, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=5e-3)


# decay ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 5])
def test_decay_is_the_sum_over_steps(every):
    def schedule(model, optimizer, step):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 / (1 + 0.1 * step)
        if step in (3, 4):
            model[0].weight.grad = None  # passed over by the optimizer, and its decay with it

    _, _, parts, expected, thetas = run(adamw, 30, every, between=schedule)
    np.testing.assert_allclose(parts[:, 1], expected, atol=1e-16)
    np.testing.assert_allclose(parts.sum(axis=1), np.diff(thetas, axis=0), atol=1e-15)
    assert np.abs(expected).max() > 1e-3


def test_without_momentum_coupled_decay_is_a_part_too():
    """SGD's gradient part must then be -eta times the sum of the loss's gradients."""
    gradients = []

    def keep(model, optimizer, step):
        gradients.append(np.concatenate([p.grad.numpy().ravel() for p in model.parameters()]))

    def sgd(model):
        return torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=0.3)

    _, _, parts, _, _ = run(sgd, 20, 4, between=keep)
    expected = -0.05 * np.array(gradients).reshape(5, 4, -1).sum(axis=1)
    np.testing.assert_allclose(parts[:, 0], expected, atol=1e-15)


def test_narrow_parameters_are_summed_wide():
    model = nn.Linear(4, 4, bias=False).to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    monitor = se.Monitor(model, optimizer, window=2, every=100)
    with DecayAccumulator(monitor, model, optimizer) as accumulator:
        start = model.weight.detach().clone()
        for _ in range(3):
            model.weight.grad = torch.zeros_like(model.weight)
            optimizer.step()
        assert torch.equal(model.weight, start)  # 1 - 1e-4 rounds to 1, and three zero gradients move nothing
        torch.testing.assert_close(accumulator.total["weight"], -3e-4 * start.float())
    model.weight.grad = torch.zeros_like(model.weight)
    optimizer.step()
    torch.testing.assert_close(accumulator.total["weight"], -3e-4 * start.float())  # the hook is gone
    accumulator.forget()
    assert not accumulator.total


def test_trapezoid_is_exact_on_a_straight_path():
    generator = torch.Generator().manual_seed(0)
    start = {"x": torch.randn(50, generator=generator, dtype=torch.float64)}
    one = {"x": 0.1 * torch.randn(50, generator=generator, dtype=torch.float64)}
    for steps in (1, 2, 7):
        exact = sum(-0.01 * (start["x"] + k * one["x"]) for k in range(steps))
        end, update = {"x": start["x"] + steps * one["x"]}, {"x": steps * one["x"], "y": torch.ones(2)}
        found = decay_trapezoid(end, update, {"x": 0.01 * steps}, steps=steps)
        torch.testing.assert_close(found["x"], exact, rtol=1e-13, atol=1e-15)
        assert not found["y"].any()


def test_trapezoid_error_falls_with_the_square_of_the_interval():
    """Along a circle the chord's ends miss the mean by (angle)^2 / 12."""
    errors = []
    for angle in (0.4, 0.2, 0.1):
        steps = 64
        at = torch.linspace(0, angle, steps + 1, dtype=torch.float64)
        path = torch.stack([at.cos(), at.sin()])
        exact = -path[:, :-1].sum(dim=1)
        update = {"x": path[:, -1] - path[:, 0]}
        found = decay_trapezoid({"x": path[:, -1]}, update, {"x": float(steps)}, steps=steps)["x"]
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[0] == pytest.approx(0.4**2 / 12, rel=0.05)
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 2, atol=0.02)


def test_trapezoid_error_is_recorded():
    monitor, _, parts, _, thetas = run(adamw, 25, 5)
    steps, errors = monitor.trace.metrics("lifecycle/trapezoid_error")
    assert steps.tolist() == [5, 10, 15, 20, 25]
    model, _, _ = network()
    decays = np.concatenate([np.full(p.numel(), float(p.ndim == 2)) for p in model.parameters()])
    update = np.diff(thetas, axis=0)
    rough = -5 * 5e-3 * 0.8 * decays * (thetas[1:] - 0.6 * update)
    expected = np.linalg.norm(rough - parts[:, 1], axis=1) / np.linalg.norm(parts[:, 1], axis=1)
    np.testing.assert_allclose(errors, expected, rtol=1e-9)
    assert (errors < 0.02).all()


def test_shares_by_mode_against_brute_force():
    monitor, _, parts, _, thetas = run(adamw, 40, 2)
    series = lifecycle(monitor.trace)
    updates = np.diff(thetas, axis=0)
    assert len(series.step) == 20 - WINDOW + 1
    for n, step in enumerate(series.step):
        end = step // 2
        right = np.linalg.svd(updates[end - WINDOW : end], full_matrices=False)[2]
        gradient, decay = right @ parts[end - 1, 0], right @ parts[end - 1, 1]
        np.testing.assert_allclose(np.abs(series.gradient[n]), np.abs(gradient), atol=1e-8)
        np.testing.assert_allclose(series.share[n], gradient**2 / (gradient**2 + decay**2), atol=1e-5)
        np.testing.assert_allclose(series.net[n, 0], gradient[0] / (gradient + decay)[0], rtol=1e-6)
        assert series.alignment[n, 0] == np.sign(gradient[0] * decay[0])
    whole = (parts[:, 0] * parts[:, 1]).sum(axis=1) / np.prod(np.linalg.norm(parts, axis=2), axis=1)
    np.testing.assert_allclose(series.cosine, whole[WINDOW - 1 :], atol=1e-12)
    first = lifecycle(monitor.trace, 2, group="0")
    np.testing.assert_allclose(
        first.decay_energy + lifecycle(monitor.trace, 2, group="2").decay_energy,
        lifecycle(monitor.trace, 2).decay_energy,
    )


def test_without_decay_shares_are_undefined():
    monitor, _, _, _, _ = run(lambda m: torch.optim.AdamW(m.parameters(), lr=5e-3, weight_decay=0.0), 12, 1)
    series = lifecycle(monitor.trace)
    assert len(series.step)
    for column in (series.share, series.net, series.alignment, series.cosine):
        assert np.isnan(column).all()
    assert np.isnan(monitor.trace.metrics("lifecycle/trapezoid_error")[1]).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.RMSprop(p, weight_decay=0.1),
    ],
)
def test_mixed_decay_has_no_part(make):
    model = nn.Linear(2, 2)
    optimizer = make(model.parameters())
    monitor = se.Monitor(model, optimizer)
    with pytest.raises(InputError, match="decoupled weight decay"):
        DecayAccumulator(monitor, model, optimizer)
    DecayAccumulator(monitor, model, optimizer, decoupled=True).close()


class Decaying:
    """A run whose true decay since the last snapshot is kept by hand, from the parameters before each step."""

    RATE, DECAY, EVERY = 1e-2, 0.3, 4

    def __init__(self, *, fused=False, frozen=(), scaled=False, every=EVERY):
        self.model, self.x, self.y = network(torch.float32 if scaled else torch.float64)
        for index in frozen:
            self.model[index].requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.RATE, weight_decay=self.DECAY, fused=fused)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10) if scaled else None
        self.monitor = se.Monitor(self.model, self.optimizer, window=WINDOW, every=every)
        self.accumulator = DecayAccumulator(self.monitor, self.model, self.optimizer)
        self.truth = self.nothing()
        self.found = []

    def nothing(self):
        return {name: torch.zeros_like(p, requires_grad=False) for name, p in self.model.named_parameters()}

    def loss(self):
        return nn.functional.cross_entropy(self.model(self.x), self.y)

    def backward(self):
        self.optimizer.zero_grad()
        loss = self.loss()
        (self.scaler.scale(loss) if self.scaler else loss).backward()
        return loss

    def train_step(self, take=None):
        """One step of the optimizer, by `take` or as usual; the decay of what moved goes to the truth."""
        before = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        if take is None:
            self.backward()
            self.optimizer.step()
        else:
            take()
        for name, p in self.model.named_parameters():
            if not torch.equal(p, before[name]):
                self.truth[name] -= self.RATE * self.DECAY * before[name]

    def steps(self, count, **given):
        for _ in range(count):
            self.step(**given)

    def step(self, take=None, **given):
        """A step, watched; whether its update was split, with the truth."""
        self.train_step(take)
        self.monitor.step(**given)
        return self.observe()

    def observe(self):
        parts = self.accumulator.observe()
        if parts is not None:
            truth, decay = vector({name: self.truth[name] for name in parts[1]}), vector(parts[1])
            np.testing.assert_allclose(decay, truth, atol=1e-7 * np.abs(truth).max())
            self.found.append(self.monitor.trace.steps[-1])
        if self.monitor.elapsed == 0:
            self.truth = self.nothing()
        return parts is not None

    def evaluate(self):
        return {"test_loss": self.loss().item()}

    def state_dict(self):
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_scaler_skips_have_no_decay(fused):
    run = Decaying(fused=fused, scaled=True)

    def take(overflow):
        run.backward()
        if overflow:
            run.model[0].weight.grad[0, 0] = torch.inf
        run.scaler.step(run.optimizer)
        run.scaler.update()

    for step in range(1, 13):
        run.step(lambda step=step: take(step in (2, 3, 7)))
    assert run.found == [4, 8, 12]


@pytest.mark.parametrize("named_argument", [False, True])
def test_gradients_that_a_closure_makes(named_argument):
    """They do not exist yet when the hook runs, and one layer has none at all."""
    run = Decaying()

    def closure():
        loss = run.backward()
        run.model[2].bias.grad = None
        return loss

    def take():
        run.optimizer.zero_grad()
        run.optimizer.step(closure=closure) if named_argument else run.optimizer.step(closure)

    for _ in range(8):
        run.step(take)
    assert run.found == [4, 8]
    assert run.accumulator.outcome == Outcome.OK


def test_a_layer_that_is_thawed_later_decays_too():
    run = Decaying(frozen=(0,))
    for step in range(1, 25):
        if step == 13:
            run.model[0].requires_grad_(True)
        with pytest.warns(se.SpectralEdgeWarning, match="appeared") if step == 16 else nullcontext():
            run.step()
    assert run.found == [4, 8, 12, 20, 24]
    assert set(run.accumulator.observe() or {}) == set()
    row = run.monitor.trace.probes("lifecycle/decay")[-1]
    assert (row.square > 0).all()


def test_a_new_baseline_starts_a_new_total():
    """After a NaN, and where the run goes back without a word."""
    run = Decaying()
    for step in range(1, 33):
        if step == 12:  # nothing is observed at 12 and 16: the next finite snapshot is the baseline
            run.train_step()
            kept = run.model[0].weight.detach().clone()
            run.model[0].weight.data[0, 0] = torch.nan
            with pytest.warns(se.SpectralEdgeWarning, match="not finite"):
                run.monitor.step()
            run.observe()
            run.model[0].weight.data.copy_(kept)
            continue
        run.step()
    assert run.found == [4, 8, 20, 24, 28, 32]
    for label in range(10, 24):
        with pytest.warns(se.SpectralEdgeWarning, match="earlier checkpoint") if label == 13 else nullcontext():
            run.step(step=label)
    assert run.found[6:] == [17, 21]
    assert run.accumulator.outcome == Outcome.OK


def test_the_same_step_again_is_observed_once():
    """Gradient accumulation that calls everything for each micro-batch with the optimizer's step number."""
    run = Decaying(every=2)
    for micro in range(24):
        if micro % 4 == 3:
            run.step(step=micro // 4 + 1)
        elif micro > 4:
            run.monitor.step(step=micro // 4)
            assert not run.observe()
    assert run.found == [2, 4, 6]
    assert [row.step for row in run.monitor.trace.probes("lifecycle/decay")] == [2, 4, 6]


def test_a_resume_at_an_observation_needs_nothing():
    first, run = Decaying(), Decaying()
    first.steps(8)
    run.load_state_dict(copy.deepcopy(first.state_dict()))
    run.monitor.load_state_dict(first.monitor.state_dict())
    run.steps(8)
    assert run.found == [12, 16]


@pytest.mark.parametrize("restored", ["before the monitor", "after the monitor", "not"])
def test_a_resume_between_two_observations(restored, tmp_path):
    first = Decaying()
    first.steps(10)
    torch.save([first.state_dict(), first.monitor.state_dict(), first.accumulator.state_dict()], tmp_path / "c.pt")
    run, (state, monitor, accumulator) = Decaying(), torch.load(tmp_path / "c.pt", weights_only=True)
    run.load_state_dict(state)
    if restored == "before the monitor":
        run.accumulator.load_state_dict(accumulator)
    run.monitor.load_state_dict(monitor)
    if restored == "after the monitor":
        run.accumulator.load_state_dict(accumulator)
    run.truth = copy.deepcopy(first.truth)
    with pytest.warns(se.SpectralEdgeWarning, match="not known in full") if restored == "not" else nullcontext():
        run.steps(10)
    assert run.found == ([16, 20] if restored == "not" else [12, 16, 20])
    outcomes = [note.outcome for note in run.monitor.trace.notes if note.outcome != Outcome.RESUMED]
    assert outcomes == ([Outcome.NOT_RECORDED] if restored == "not" else [])


def test_going_back_to_a_checkpoint_in_the_same_process():
    run = Decaying()
    for _ in range(6):
        run.step()
    kept = copy.deepcopy((run.state_dict(), run.monitor.state_dict(), run.accumulator.state_dict(), run.truth))
    for _ in range(5):
        run.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", se.SpectralEdgeWarning)  # it branches, and says so
        run.load_state_dict(kept[0])
        run.monitor.load_state_dict(kept[1])
    run.accumulator.load_state_dict(kept[2])
    run.truth = kept[3]
    for _ in range(6):
        run.step()
    assert run.found == [4, 8, 8, 12]
    # Not restored it would hold decay of the way that was given up.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", se.SpectralEdgeWarning)
        run.load_state_dict(kept[0])
        run.monitor.load_state_dict(kept[1])
        for _ in range(2):
            run.step()
    assert run.found == [4, 8, 8, 12]
    assert run.accumulator.outcome == Outcome.NOT_RECORDED


def test_arms_of_a_trial_are_no_steps_of_the_run():
    run = Decaying()
    for _ in range(26):
        run.step()
    total, truth = run.accumulator.total, copy.deepcopy(run.truth)
    before = {name: piece.clone() for name, piece in total.items()}
    directions = {"v1": run.monitor.modes(1).directions[0]}
    run_arms(run, [Arm(name="none", kind="none"), Arm(name="v1", along="v1")], directions, steps=7)
    assert all(torch.equal(run.accumulator.total[name], before[name]) for name in before)
    run.truth = truth
    for _ in range(2):
        run.step()
    assert run.found[-1] == 28
    inside = []

    class Inside(Decaying):
        """A task that splits its own arms' updates."""

        def train_step(self, take=None):
            super().train_step(take)
            inside.append(vector(self.arm.total).any() if self.arm.total else False)

    task = Inside()
    task.arm = task.accumulator
    with modes.lifecycle.paused(task.model):
        task.train_step()
        task.arm = DecayAccumulator(task.monitor, task.model, task.optimizer)
        task.train_step()
    assert inside == [False, True]


def test_totals_that_began_late_or_were_missed_are_left_out():
    run = Decaying()
    run.accumulator.close()
    run.step()
    run.accumulator = DecayAccumulator(run.monitor, run.model, run.optimizer)  # one step late
    with pytest.warns(se.SpectralEdgeWarning, match="not known in full"):
        run.steps(7)
    assert run.found == [8]
    for step in range(9, 17):
        run.train_step()
        run.monitor.step()
        if step != 12:  # the caller forgets one
            run.observe()
        elif run.monitor.elapsed == 0:
            run.truth = run.nothing()
    assert run.found == [8, 16]
    assert not run.accumulator.observe()  # once for each
    run.train_step()
    run.accumulator.forget()
    with pytest.warns(se.SpectralEdgeWarning, match="not known in full"):
        run.steps(8)
    assert run.found == [8, 16, 24]
    for _ in range(3):
        run.step()
    run.train_step()
    run.monitor.step()
    run.train_step()  # too late: the parameters have moved on
    with pytest.warns(se.SpectralEdgeWarning, match="not known in full"):
        assert run.accumulator.observe() is None


def test_what_goes_wrong_does_not_end_the_run(monkeypatch):
    run = Decaying()
    for _ in range(4):
        run.step()
    with monkeypatch.context() as patch:
        patch.setattr(run.accumulator, "_decaying", lambda optimizer: 1 / 0)
        with pytest.warns(se.SpectralEdgeWarning, match="could not be counted"):
            run.step()
    with pytest.warns(se.SpectralEdgeWarning, match="not known in full"):
        run.steps(7)
    assert run.found == [4, 12]
    with monkeypatch.context() as patch:
        patch.setattr(run.monitor, "newest_update", lambda: 1 / 0)
        with pytest.warns(se.SpectralEdgeWarning, match="could not be found: division"):
            run.steps(4)
    run.steps(4)
    assert run.found == [4, 12, 20]
    assert run.accumulator.outcome == Outcome.OK


def test_monitors_that_keep_no_updates_are_refused():
    model, _, _ = network()
    optimizer = torch.optim.AdamW(model.parameters())
    sketched = se.Monitor(model, optimizer, engine="sketch", cells=4096, groups={"all": "*"})
    with pytest.raises(InputError, match='engine="exact"'):
        DecayAccumulator(sketched, model, optimizer)
    with pytest.raises(InputError, match="the same model"):
        DecayAccumulator(se.Monitor({"w": model[0].weight}, optimizer), model, optimizer)
    with pytest.raises(InputError, match="expected a"):
        DecayAccumulator(model, optimizer, se.Monitor(model, optimizer))


# commutator -----------------------------------------------------------------------------------------------------------


class Point(nn.Module):
    def __init__(self, values):
        super().__init__()
        self.theta = nn.Parameter(torch.as_tensor(values, dtype=torch.float64))


def quadratics(rng, size=6):
    """Two quadratic losses with their Hessians and centres."""
    point = Point(rng.standard_normal(size))
    made = []
    for _ in range(2):
        root, centre = rng.standard_normal((size, size)), rng.standard_normal(size)
        hessian = torch.from_numpy(root @ root.T / size)
        shift = torch.from_numpy(centre)
        made.append((hessian, shift, lambda h=hessian, c=shift: 0.5 * (point.theta - c) @ h @ (point.theta - c)))
    return point, made


def test_commutator_of_two_quadratics():
    """Their steps commute up to eta^2 (H_B g_A - H_A g_B) exactly, at any step size."""
    point, ((h_a, c_a, loss_a), (h_b, c_b, loss_b)) = quadratics(np.random.default_rng(0))
    theta = point.theta.detach()
    g_a, g_b = h_a @ (theta - c_a), h_b @ (theta - c_b)
    expected = float((h_b @ g_a - h_a @ g_b).norm())
    found = commutator_defect(point, [(loss_a, loss_b), (loss_a, loss_a)])
    assert found.defect[0] == pytest.approx(expected, rel=1e-12)
    assert found.defect[1] == 0.0  # a loss commutes with itself
    assert found.normalised[0] == pytest.approx(expected / float(g_a.norm() * g_b.norm()), rel=1e-12)
    assert found.median == pytest.approx(expected / 2)
    assert found.median_normalised == pytest.approx(found.normalised[0] / 2)
    assert (found.cost.gradients, found.cost.hvps) == (4, 4)
    for rate in (1e-3, 0.1):
        published = commutator_defect_pub(point, [(loss_a, loss_b)], learning_rate=rate)
        assert published[0] == pytest.approx(found.normalised[0], rel=1e-8)


def test_the_published_defect_converges_to_the_products():
    """By finite steps, in float64: the difference is of first order in the step."""
    model, x, y = network()
    parts = [torch.arange(0, 32), torch.arange(32, 64)]
    losses = [lambda part=part: nn.functional.cross_entropy(model(x[part]), y[part]) for part in parts]
    before = [p.detach().clone() for p in model.parameters()]
    exact = commutator_defect(model, [tuple(losses)]).normalised[0]
    errors = [
        abs(commutator_defect_pub(model, [tuple(losses)], learning_rate=rate)[0] / exact - 1)
        for rate in (0.04, 0.02, 0.01)
    ]
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 1, atol=0.15)
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_scales_of_the_defect():
    """Neither form is a pure number: losses times c and parameters times b move them by known powers."""
    rng = np.random.default_rng(3)
    point, ((_, _, loss_a), (_, _, loss_b)) = quadratics(rng)
    base = commutator_defect(point, [(loss_a, loss_b)])
    louder = commutator_defect(point, [(lambda: 5 * loss_a(), lambda: 5 * loss_b())])
    assert louder.defect[0] == pytest.approx(25 * base.defect[0])
    assert louder.normalised[0] == pytest.approx(base.normalised[0])
    rng = np.random.default_rng(3)
    wide, ((h_a, c_a, _), (h_b, c_b, _)) = quadratics(rng)
    with torch.no_grad():
        wide.theta.mul_(10)
    stretched = commutator_defect(
        wide,
        [
            (
                lambda: 0.5 * (wide.theta / 10 - c_a) @ h_a @ (wide.theta / 10 - c_a),
                lambda: 0.5 * (wide.theta / 10 - c_b) @ h_b @ (wide.theta / 10 - c_b),
            )
        ],
    )
    assert stretched.defect[0] == pytest.approx(base.defect[0] / 1e3)
    assert stretched.normalised[0] == pytest.approx(base.normalised[0] / 10)


def test_a_flat_batch_has_no_normalised_defect():
    point = Point([1.0, 2.0])
    flat = (lambda: (point.theta * 0).sum(), lambda: (point.theta**2).sum())
    found = commutator_defect(point, [flat])
    assert found.defect[0] == 0.0
    assert np.isnan(found.normalised[0])
    assert np.isnan(commutator_defect_pub(point, [flat])[0])
    for call in (commutator_defect, commutator_defect_pub):
        with pytest.raises(InputError, match="at least one pair"):
            call(point, [])


def test_batches_of_a_pair_see_one_dropout_mask():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 30), nn.Tanh(), nn.Dropout(0.5), nn.Linear(30, 3)).double()
    x, y = torch.randn(32, 5, dtype=torch.float64), torch.randint(3, (32,))
    losses = [
        lambda part=part: nn.functional.cross_entropy(model(x[part]), y[part]) for part in (slice(0, 16), slice(16, 32))
    ]
    same = commutator_defect(model, [(losses[0], losses[0])] * 3)
    np.testing.assert_allclose(same.normalised, 0, atol=1e-12)
    np.testing.assert_allclose(commutator_defect_pub(model, [(losses[0], losses[0])] * 3), 0, atol=1e-9)
    # Gradient and product belong to one function: small steps agree with the products, which masks of their own do not.
    torch.manual_seed(1)
    exact = commutator_defect(model, [tuple(losses)]).normalised
    torch.manual_seed(1)
    np.testing.assert_allclose(commutator_defect_pub(model, [tuple(losses)], learning_rate=1e-4), exact, rtol=1e-2)


@pytest.mark.parametrize("pairs", [[lambda: 1], lambda: 1, [(lambda: 1,)], [(1, 2)]])
def test_what_is_no_pair_of_losses_is_said(pairs):
    for call in (commutator_defect, commutator_defect_pub):
        with pytest.raises(InputError, match=r"pair of losses|pass lambda"):
            call(Point([1.0]), pairs)


# ablation -------------------------------------------------------------------------------------------------------------


def test_every_arm_moves_where_it_says():
    torch.manual_seed(0)
    model = nn.Linear(20, 30)
    before = [p.detach().clone() for p in model.parameters()]
    direction = modes.random_like(modes.named(model), torch.Generator().manual_seed(1))
    seen = []

    def score():
        seen.append(vector(modes.named(model)))
        return 0.0

    found = ablate(model, direction, score, generator=torch.Generator().manual_seed(2), draws=3)
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    theta, v = seen[0], vector(direction)
    v /= np.linalg.norm(v)
    np.testing.assert_allclose(seen[1], theta - (v @ theta) * v, atol=1e-7)
    np.testing.assert_allclose(seen[2], theta * (1 - found.share), atol=1e-7)
    moved = np.linalg.norm(np.array(seen) - theta, axis=1)
    np.testing.assert_allclose(moved[[1, 2, 3, 5, 7]], found.displacement, rtol=1e-4)
    np.testing.assert_allclose(moved[[4, 6, 8]], found.unmatched_displacement, rtol=1e-3)
    for matched, without in zip(seen[3::2], seen[4::2], strict=True):
        noise = (matched - theta) / np.linalg.norm(matched - theta)
        assert abs(noise @ v) < 0.2  # 630 dimensions
        assert without @ noise == pytest.approx(0, abs=1e-6)
    assert found.cost.losses == 9
    assert found.share == pytest.approx(found.displacement / np.linalg.norm(theta))


def test_effects_of_a_linear_and_a_quadratic_score():
    torch.manual_seed(0)
    model = nn.Linear(100, 100, bias=False).double()
    weight = model.weight
    direction = {"weight": weight.detach().clone() + 0.02 * torch.randn_like(weight)}
    start = weight.detach().clone()

    def distance():
        return float((weight.detach() - start).square().sum())

    found = ablate(model, direction, distance, generator=torch.Generator().manual_seed(9), draws=40)
    square = found.displacement**2
    np.testing.assert_allclose([found.removed, found.shrunk, *found.random], square, rtol=1e-9)
    assert found.ratio_matched == pytest.approx(1, rel=1e-9)  # an isotropic score knows no direction
    # Unmatched displacements are <r, theta>: their mean square is |theta|^2 / P, with relative error sqrt(2 / 40).
    expected = found.share**2 * weight.numel()
    assert found.ratio_pub == pytest.approx(expected, rel=4 * np.sqrt(2 / 40))
    assert found.ratio_pub > 1000


def test_every_score_sees_one_dropout_mask():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 30), nn.Tanh(), nn.Dropout(0.5), nn.Linear(30, 3)).double()
    x = torch.randn(16, 5, dtype=torch.float64)
    names = modes.named(model)
    theta = torch.cat([p.detach().flatten() for p in names.values()])
    # A direction without any share of the weights: nothing is moved, so nothing may change.
    direction = modes.random_like(names, torch.Generator().manual_seed(1))
    along = modes.dot(direction, names) / float(theta @ theta)
    direction = modes.added(direction, names, -along)
    found = ablate(model, direction, lambda: model(x).square().mean(), generator=torch.Generator().manual_seed(2))
    assert found.displacement < 1e-12
    np.testing.assert_allclose([found.removed, found.shrunk, *found.random], found.baseline, rtol=1e-9)


def test_an_effect_of_nothing_has_no_ratio():
    model = nn.Linear(3, 3)
    direction = {"weight": torch.ones(3, 3)}
    found = ablate(model, direction, lambda: 1.0, generator=torch.Generator().manual_seed(0))
    assert np.isnan(found.ratio_matched)
    assert np.isnan(found.ratio_pub)
    assert found.displacement == pytest.approx(abs(float(model.weight.sum().detach())) / 3, rel=1e-5)
    assert len(found.random) == 8


@pytest.mark.parametrize(
    ("direction", "draws", "words"),
    [
        ({"weight": torch.zeros(3, 3)}, 8, "got zero"),
        ({"other": torch.ones(3, 3)}, 8, "other names"),
        ({"weight": torch.ones(3, 3)}, 0, "at least 1"),
    ],
)
def test_what_cannot_be_removed_is_said(direction, draws, words):
    with pytest.raises(InputError, match=words):
        ablate(nn.Linear(3, 3), direction, lambda: 0.0, generator=torch.Generator(), draws=draws)


def test_what_is_no_direction_and_no_score_is_said():
    model, direction = nn.Linear(3, 3), {"weight": torch.ones(3, 3)}
    with pytest.raises(InputError, match=r"monitor\.modes\(\)\.directions"):
        ablate(model, [direction], lambda: 0.0, generator=torch.Generator())
    for score in (lambda: torch.ones(2), lambda: None, lambda: "low"):
        with pytest.raises(InputError, match="gives a number"):
            ablate(model, direction, score, generator=torch.Generator())
