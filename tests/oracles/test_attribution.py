"""The change of a loss by mode: identities, orders of the quadratures, and live runs against brute force.

Acceptance test 7 of the theory file stands here.
"""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import spectral_edge as se
from spectral_edge import modes
from spectral_edge.errors import InputError, Outcome, TraceError
from spectral_edge.evaluate.lifecycle import lifecycle
from spectral_edge.evaluate.loss import RULES, decompose, forecast, published
from spectral_edge.measure import attribution, spectrum
from spectral_edge.modes.loss_path import LossPath

seeds = st.integers(0, 2**31)
widths = st.integers(2, 8)


def window(seed, width, parameters=30):
    rng = np.random.default_rng(seed)
    return rng, rng.standard_normal((width, parameters)) * rng.lognormal(0, 1, (width, 1))


# the identities -------------------------------------------------------------------------------------------------------


@given(seeds, widths)
def test_parts_are_those_along_the_singular_vectors(seed, width):
    rng, x = window(seed, width)
    g, later = rng.standard_normal((2, x.shape[1]))
    _, sigma, right = np.linalg.svd(x, full_matrices=False)
    found = spectrum((x @ x.T)[None])
    products = (x @ g)[None]
    scale = np.linalg.norm(g) * np.linalg.norm(x)
    for row in (-1, 0):
        terms = attribution.mode_terms(found, products, row=row)[0]
        np.testing.assert_allclose(terms, (right @ g) * (right @ x[row]), atol=1e-9 * scale)
        assert abs(terms.sum() - g @ x[row]) < 1e-12 * scale
        steps = attribution.mode_steps(found, row=row)[0]
        np.testing.assert_allclose(np.abs(steps), np.abs(right @ x[row]), atol=1e-8 * sigma[0])
    along = attribution.mode_gradients(found, products)[0]
    np.testing.assert_allclose(np.abs(along), np.abs(right @ g), atol=1e-7 * np.linalg.norm(g))
    following = (x @ later)[None]
    outside = attribution.span_terms(found, products, following)[0]
    np.testing.assert_allclose(outside, (right @ g) * (right @ later), atol=1e-7 * scale)
    projected = right.T @ (right @ later)
    assert attribution.total(outside[None])[0] == pytest.approx(g @ projected, abs=1e-8 * scale)
    captured = attribution.captured_fraction(found, following, np.array([later @ later]))[0]
    assert captured == pytest.approx(projected @ projected / (later @ later), abs=1e-8)
    drift = attribution.drift_terms(found, products)[0]
    np.testing.assert_allclose(drift, (right @ g) * (right @ x.mean(axis=0)), atol=1e-9 * scale)


@given(seeds, widths)
def test_any_basis_that_contains_the_update_satisfies_the_identity(seed, width):
    """Why the sum's agreement says nothing of modes: random axes of the same span sum to the same."""
    rng, x = window(seed, width)
    g = rng.standard_normal(x.shape[1])
    basis = np.linalg.qr(x.T @ rng.standard_normal((width, width)))[0].T
    ours = attribution.mode_terms(spectrum((x @ x.T)[None]), (x @ g)[None])
    assert ((basis @ g) * (basis @ x[-1])).sum() == pytest.approx(ours.sum(), abs=1e-8 * np.linalg.norm(x))


def test_modes_below_the_rank_floor_are_dropped():
    _, x = window(0, 4)
    x[3] = x[0] - 2 * x[1]
    g = np.ones(x.shape[1])
    found = spectrum((x @ x.T)[None])
    products = (x @ g)[None]
    terms = attribution.mode_terms(found, products)
    assert np.isnan(terms[0]).tolist() == [False, False, False, True]
    assert attribution.total(terms)[0] == pytest.approx(g @ x[3], rel=1e-9)
    assert np.isnan(attribution.mode_gradients(found, products)[0, 3])
    still = spectrum(np.zeros((1, 4, 4)))
    assert np.isnan(attribution.total(attribution.mode_terms(still, products)))[0]
    assert np.isnan(attribution.captured_fraction(still, products, np.ones(1)))[0]
    assert np.isnan(attribution.captured_fraction(found, 0 * products, np.zeros(1)))[0]


def test_shares_are_signed_and_sums_leave_dropped_modes_out():
    terms = np.array([[3.0, -2.0, np.nan], [np.nan] * 3, [1.0, -1.0, np.nan]])
    shares = attribution.signed_shares(terms)
    assert shares[0, :2].tolist() == [3.0, -2.0]
    assert np.isnan(shares[1:]).all()
    assert attribution.total(terms, 1)[0] == 3.0
    alpha = np.array([[0.5, 1.0, np.nan], [1.0] * 3, [np.nan, 1.0, 1.0]])
    found = attribution.discounted(terms, alpha)
    assert found[0] == -0.5
    assert np.isnan(found[1:]).all()
    assert np.isnan(attribution.residual(np.zeros(1), np.ones(1)))[0]
    assert attribution.residual(np.array([-2.0]), np.array([-1.5]))[0] == 0.25


def test_shares_of_gradient_and_decay():
    g, w = np.array([3.0, 1.0, 1.0, 0.0]), np.array([4.0, -1.0, 0.0, 2.0])
    np.testing.assert_allclose(attribution.gradient_share(g, w), [9 / 25, 0.5, np.nan, 0.0])
    np.testing.assert_allclose(attribution.net_share(g, w), [3 / 7, np.nan, np.nan, 0.0])


def test_gauss_needs_two_points():
    with pytest.raises(InputError, match="GAUSS_NODES"):
        attribution.gauss_products([np.ones((1, 2))])


# orders of the quadratures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "order", "largest"), [("first", 2, 0.02), ("second", 3, 0.02), ("trapezoid", 3, 0.02), ("gauss", 5, 0.04)]
)
def test_orders_along_the_chord(rule, order, largest):
    """On an analytic loss the error falls as |d|^order, measured between steps that differ by a factor of two."""
    rng = np.random.default_rng(5)
    mix, theta, direction = rng.standard_normal((12, 12)) / 3, rng.standard_normal(12), rng.standard_normal(12)

    def loss(at):
        return np.exp(np.sin(mix @ at)).sum()

    def gradient(at):
        inner = mix @ at
        return mix.T @ (np.cos(inner) * np.exp(np.sin(inner)))

    def hessian(at, by):
        inner = mix @ at
        return mix.T @ ((np.cos(inner) ** 2 - np.sin(inner)) * np.exp(np.sin(inner)) * (mix @ by))

    errors = []
    for size in (largest, largest / 2, largest / 4):
        x = rng.standard_normal((4, 12))
        x[-1] = d = size * direction
        points = [x @ gradient(theta + node * d) for node in attribution.GAUSS_NODES]
        start, end = (x @ gradient(theta))[None], (x @ gradient(theta + d))[None]
        products = {
            "first": start,
            "second": start + 0.5 * (x @ hessian(theta, d))[None],
            "trapezoid": attribution.trapezoid_products(start, end),
            "gauss": attribution.gauss_products([points[0][None], points[1][None]]),
        }[rule]
        terms = attribution.mode_terms(spectrum((x @ x.T)[None]), products)
        errors.append(abs(attribution.total(terms)[0] - (loss(theta + d) - loss(theta))))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, order, atol=0.25)


# live runs ------------------------------------------------------------------------------------------------------------

WINDOW = 5


def run(make, steps, every, *, dtype=torch.float64, out=None, gauss=True, skip=(), **options):
    """A small classifier with every gradient's twin kept, so that a trace can be judged by brute force."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 4)).to(dtype)
    data = torch.Generator().manual_seed(1)
    x, y = torch.randn(96, 6, generator=data, dtype=dtype), torch.randint(4, (96,), generator=data)
    held_x, held_y = torch.randn(64, 6, generator=data, dtype=dtype), torch.randint(4, (64,), generator=data)
    optimizer = make(model.parameters())
    options = {"window": WINDOW, "every": every, **options}
    monitor = se.Monitor(model, optimizer, out=out, **options)
    batch = torch.arange(96)

    def train():
        return nn.functional.cross_entropy(model(x[batch]), y[batch])

    def validation():
        return nn.functional.cross_entropy(model(held_x), held_y)

    paths = [
        LossPath(monitor, model, train, name="train", gauss=False),
        LossPath(monitor, model, validation, name="validation", gauss=gauss, curvature=gauss),
    ]
    flat = {"theta": [], "gradient": [], "loss": [], "step": []}
    parameters = modes.named(model)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        train().backward()
        optimizer.step()
        monitor.step()
        batch = torch.randperm(96, generator=data)[:24]  # of the next update, at whose start it is probed
        if monitor.observed:
            flat["step"].append(step)
            flat["theta"].append(vector(parameters))
            flat["gradient"].append(vector(modes.gradient(validation, parameters)))
            flat["loss"].append(float(validation().detach()))
            if step not in skip:
                for path in paths:
                    path.observe()
    return monitor, paths, {key: np.array(value) for key, value in flat.items()}


def vector(named):
    return np.concatenate([piece.detach().double().numpy().ravel() for piece in named.values()])


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.5)


def test_acceptance_7():
    """In-window modes sum to <grad L_val, d>; -eta sum_j G_j^train G_j^val does so for plain SGD only."""
    for make, holds in ((sgd, True), (adamw, False)):
        monitor, _, twin = run(make, 16, 1)
        series = decompose(monitor.trace, name="validation", rule="first")
        at = np.searchsorted(twin["step"], series.step)
        expected = (twin["gradient"][at - 1] * (twin["theta"][at] - twin["theta"][at - 1])).sum(axis=1)
        np.testing.assert_allclose(attribution.total(series.modes), expected, rtol=0, atol=1e-10)
        assert np.abs(series.remainder).max() < 1e-10
        said = published(monitor.trace)
        assert len(said.step) > 8
        error = np.abs(said.modes_unweighted_pub.sum(axis=1) - attribution.total(said.modes))
        if holds:
            assert error.max() < 1e-10
        else:
            assert error.min() > 1e-5
            assert np.median(error / np.abs(attribution.total(said.modes))) > 0.8
        weighted = np.abs(said.modes_pub.sum(axis=1) - attribution.total(said.modes))
        assert np.median(weighted) > 0.01 * np.median(np.abs(attribution.total(said.modes)))


@pytest.mark.parametrize("make", [sgd, adamw])
def test_a_trace_against_brute_force(make):
    """Every mode's part of the trapezoid, from stored gradients, updates and a dense SVD."""
    monitor, _, twin = run(make, 40, 3)
    series = decompose(monitor.trace, name="validation", rule="trapezoid")
    updates = np.diff(twin["theta"], axis=0)
    assert len(series.step) >= 5
    for n, step in enumerate(series.step):
        end = int(np.flatnonzero(twin["step"] == step)[0])
        if end < WINDOW:
            continue  # the twin does not know the parameters before the first observation
        x = updates[end - WINDOW : end]
        right = np.linalg.svd(x, full_matrices=False)[2]
        mean = 0.5 * (twin["gradient"][end - 1] + twin["gradient"][end])
        np.testing.assert_allclose(series.modes[n], (right @ mean) * (right @ x[-1]), atol=1e-9)
        assert series.change[n] == pytest.approx(twin["loss"][end] - twin["loss"][end - 1], abs=1e-15)


def test_residuals_order_as_the_rules_do():
    monitor, paths, _ = run(adamw, 120, 5)
    median = {rule: np.median(decompose(monitor.trace, name="validation", rule=rule).residual) for rule in RULES}
    assert median["gauss"] < 0.1 * median["trapezoid"]
    assert median["trapezoid"] < 0.1 * median["first"]
    assert median["second"] < median["first"]
    assert median["gauss"] < 1e-3
    series = decompose(monitor.trace, name="validation")
    assert (series.rounding < 1e-9).all()
    observations = 120 // 5
    assert paths[1].cost.gradients == 3 * observations
    assert paths[1].cost.hvps == observations
    assert paths[0].cost.gradients == observations
    assert paths[1].cost.seconds > 0


def test_margins_by_group_and_any_window_from_a_file(tmp_path):
    monitor, _, _ = run(adamw, 40, 2, out=tmp_path / "run")
    live = decompose(monitor.trace, name="validation", by_group=["0", "2", "4"])
    monitor.close()
    trace = se.open_trace(tmp_path / "run")
    read = decompose(trace, name="validation", by_group=["0", "2", "4"])
    np.testing.assert_array_equal(live.modes, read.modes)
    np.testing.assert_allclose(sum(read.groups.values()), read.modes, atol=1e-12)
    own = [decompose(trace, name="validation", group=name) for name in ("0", "2", "4")]
    np.testing.assert_allclose(sum(series.integral for series in own), read.integral, atol=1e-12)
    np.testing.assert_allclose([attribution.total(s.modes) for s in own], [s.integral for s in own], atol=1e-10)
    wide = decompose(trace, 8, name="validation")
    later = np.isin(read.step, wide.step)
    assert wide.modes.shape[1] == 8
    np.testing.assert_allclose(attribution.total(wide.modes), attribution.total(read.modes[later]), atol=1e-10)
    np.testing.assert_allclose(read.shares.sum(axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(read.summed()[-1], np.nansum(read.change), rtol=1e-3)


def test_the_forecast_against_brute_force():
    monitor, _, twin = run(adamw, 60, 2)
    found = forecast(monitor.trace, name="validation")
    updates = np.diff(twin["theta"], axis=0)
    assert np.isfinite(found.alpha).all(axis=1).sum() >= 10
    for n, step in enumerate(found.step):
        end = int(np.flatnonzero(twin["step"] == step)[0])
        if end < WINDOW:
            continue
        x, d, g = updates[end - WINDOW : end], updates[end], twin["gradient"][end]
        right = np.linalg.svd(x, full_matrices=False)[2]
        np.testing.assert_allclose(found.modes[n], (right @ g) * (right @ d), atol=1e-8)
        np.testing.assert_allclose(found.drift[n], (right @ g) * (right @ x.mean(axis=0)), atol=1e-10)
        assert found.first_order[n] == pytest.approx(g @ d, abs=1e-12)
        assert found.captured[n] == pytest.approx((right @ d) @ (right @ d) / (d @ d), abs=1e-7)
        assert found.change[n] == pytest.approx(twin["loss"][end + 1] - twin["loss"][end], abs=1e-15)
    assert ((found.captured > 0) & (found.captured <= 1)).all()
    known = np.isfinite(found.discounted)
    expected = (found.alpha * found.modes).sum(axis=1)
    np.testing.assert_allclose(found.discounted[known], expected[known])
    np.testing.assert_allclose(found.drift_discounted[known], (found.alpha * found.drift).sum(axis=1)[known])


def test_watching_a_part_keeps_the_whole_chord():
    """The unwatched parameters move along too, so the watched part of the integral does not depend on the watch."""
    whole, _, _ = run(adamw, 40, 4)
    part, _, _ = run(adamw, 40, 4, select="2.*")
    expected = decompose(whole.trace, name="validation", group="2")
    for rule in ("gauss", "trapezoid", "second"):
        found = decompose(part.trace, name="validation", rule=rule)
        assert found.integral == pytest.approx(
            decompose(whole.trace, name="validation", rule=rule, group="2").integral, rel=1e-9
        )
    assert len(found.step) == len(expected.step)


def test_nothing_is_disturbed_and_missing_probes_leave_updates_out():
    _, _, watched = run(adamw, 30, 1)
    bare, _, twin = run(adamw, 30, 1, skip=(9, 20))
    np.testing.assert_array_equal(watched["theta"], twin["theta"])
    assert not {9, 10, 20, 21} & set(decompose(bare.trace, name="validation", rule="trapezoid").step.tolist())
    assert 22 in decompose(bare.trace, name="validation", rule="trapezoid").step


def test_a_restart_leaves_its_update_out():
    monitor, _, _ = run(sgd, 12, 1, gauss=False)
    model = nn.Linear(2, 1)
    weights = modes.named(model)
    watch = se.Monitor(model, None, window=2, every=1)
    path = LossPath(watch, model, lambda: (weights["weight"] ** 2).sum(), gauss=False)
    for step in range(1, 12):
        with torch.no_grad():
            weights["weight"].add_(0.1 * step)
            if step == 6:
                weights["weight"].fill_(float("nan"))
            if step == 7:
                weights["weight"].fill_(1.0)
        with pytest.warns() if step == 6 else torch.no_grad():
            watch.step()
        path.observe()
    steps = decompose(watch.trace, rule="trapezoid").step.tolist()
    assert steps
    assert not {6, 7, 8} & set(steps)
    assert len(decompose(monitor.trace, name="validation", rule="trapezoid").step) == 12 - WINDOW + 1


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda t: decompose(t, name="validation", rule="simpson"), InputError, "trapezoid"),
        (lambda t: decompose(t, name="train"), TraceError, r"train/gauss_1.*gauss=True.*trapezoid"),
        (lambda t: decompose(t, name="train", rule="second"), TraceError, "curvature=True"),
        (lambda t: decompose(t, name="test"), TraceError, "the path 'test'.*LossPath"),
        (lambda t: forecast(t, name="test"), TraceError, "the path 'test'.*LossPath"),
        (lifecycle, TraceError, "record with a DecayAccumulator"),
        (lambda t: decompose(t, 1, name="train", rule="first"), InputError, "2 to 10"),
        (lambda t: decompose(t, name="train", rule="first", group="none"), TraceError, "none recorded"),
        (lambda t: forecast(t, 10, name="train"), InputError, "below the horizon"),
    ],
)
def test_what_cannot_be_decomposed_is_said(call, kind, words):
    monitor, _, _ = run(sgd, 12, 1, gauss=False)
    with pytest.raises(kind, match=words):
        call(monitor.trace)


def test_paths_that_cannot_be_walked_are_said_before_the_loop():
    model = nn.Linear(3, 2)
    sketched = se.Monitor(model, None, window=2, every=1, engine="sketch", cells=4096, groups={"all": "*"})
    exact = se.Monitor(model, None, window=2, every=2)

    def loss():
        return model(torch.ones(4, 3)).sum()

    for options in ({}, {"gauss": False, "curvature": True}):
        with pytest.raises(InputError, match="gauss=False"):
            LossPath(sketched, model, loss, **options)
    with pytest.raises(InputError, match="pass lambda"):
        LossPath(exact, model, loss())
    for swapped in ((model, exact, loss), (None, model, loss)):
        with pytest.raises(InputError, match="expected a"):
            LossPath(*swapped)
    other = se.Monitor({"w": model.weight, "b": model.bias}, None, window=2, every=1)
    with pytest.raises(InputError, match="the same model"):
        LossPath(other, model, loss)
    ends = LossPath(sketched, model, loss, gauss=False)
    with torch.no_grad():
        model.weight.add_(0.1)
    sketched.step()
    assert ends.observe() == pytest.approx(float(loss().detach()))
    exact.step()
    assert LossPath(exact, model, loss).observe() is None  # not an observation


@pytest.mark.parametrize("broken", [lambda m: m(torch.ones(4, 3)).sum(dim=1), lambda m: 1.0, lambda m: m.missing])
def test_a_loss_that_breaks_does_not_end_the_run(broken):
    """It is said once for as long as it lasts, noted, and recording goes on when the loss is whole again."""
    model = nn.Linear(3, 2)
    monitor = se.Monitor(model, None, window=2, every=1)
    at = {"step": 0}
    path = LossPath(
        monitor, model, lambda: broken(model) if at["step"] in (4, 5) else model(torch.ones(4, 3)).square().sum()
    )
    for step in range(1, 11):
        at["step"] = step
        with torch.no_grad():
            model.weight.add_(0.1 + 0.01 * step * torch.randn(2, 3))
        monitor.step()
        with pytest.warns(se.SpectralEdgeWarning, match="the path of 'loss'") if step == 4 else nullcontext():
            value = path.observe()
        assert (value is None) == (step in (4, 5))
        assert path.outcome == (Outcome.FAILED if step in (4, 5) else Outcome.OK)
    assert [note.outcome for note in monitor.trace.notes] == [Outcome.FAILED]
    assert decompose(monitor.trace).step.tolist() == [2, 3, 7, 8, 9, 10]


@pytest.mark.parametrize("thaw", [False, True])
def test_layers_that_are_frozen_or_thawed_on_the_way(thaw):
    """The chord is that of the parameters which train now; one update is left out, as the monitor starts anew."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    model[0].requires_grad_(not thaw)
    x, y = torch.randn(64, 5, dtype=torch.float64), torch.randint(3, (64,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    monitor = se.Monitor(model, optimizer, window=3, every=2)
    path = LossPath(monitor, model, lambda: nn.functional.cross_entropy(model(x), y))
    for step in range(1, 41):
        if step == 21:
            model[0].requires_grad_(thaw)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        with pytest.warns(se.SpectralEdgeWarning, match="parameters changed") if step == 22 else nullcontext():
            monitor.step()
        path.observe()
    assert path.outcome == Outcome.OK
    found = decompose(monitor.trace)
    assert {20, 28, 40} <= set(found.step.tolist())
    assert found.residual.max() < 1e-3


def test_parameters_that_begin_to_train_outside_of_the_watch():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    model[0].requires_grad_(False)
    x, y = torch.randn(64, 5, dtype=torch.float64), torch.randint(3, (64,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    monitor = se.Monitor(model, optimizer, window=3, every=1, select="2.*")
    path = LossPath(monitor, model, lambda: nn.functional.cross_entropy(model(x), y))
    for step in range(1, 21):
        if step == 11:
            model[0].requires_grad_(True)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        monitor.step()
        with pytest.warns(se.SpectralEdgeWarning, match="has no chord") if step == 11 else nullcontext():
            path.observe()
        assert path.outcome == (Outcome.PARAMETERS_CHANGED if step == 11 else Outcome.OK)
    assert decompose(monitor.trace).step.tolist() == [*range(3, 11), *range(12, 21)]
    assert 11 in decompose(monitor.trace, rule="trapezoid").step


def test_a_loss_with_dropout_is_one_function():
    """Every evaluation has the mask of the first; the run's own random numbers are not touched."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 30), nn.Tanh(), nn.Dropout(0.5), nn.Linear(30, 3)).double()
    x, y = torch.randn(64, 5, dtype=torch.float64), torch.randint(3, (64,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    monitor = se.Monitor(model, optimizer, window=3, every=2)
    path = LossPath(monitor, model, lambda: nn.functional.cross_entropy(model(x), y))
    for _ in range(24):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        monitor.step()
        before = torch.get_rng_state()
        path.observe()
        assert torch.equal(torch.get_rng_state(), before)
    assert decompose(monitor.trace).residual.max() < 1e-4


def test_curvature_of_fused_attention_does_not_end_the_run():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(8, 24, dtype=torch.float64) / 3)
    x = torch.randn(4, 1, 6, 8, dtype=torch.float64)
    model = nn.Module()
    model.weight = weight

    def loss():
        q, k, v = (x @ weight).chunk(3, dim=-1)
        return nn.functional.scaled_dot_product_attention(q, k, v).square().mean()

    optimizer = torch.optim.SGD([weight], lr=0.5)
    monitor = se.Monitor(model, optimizer, window=3, every=1)
    path = LossPath(monitor, model, loss, curvature=True)
    for _ in range(8):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        monitor.step()
        assert path.observe() is not None
    second, first = (decompose(monitor.trace, rule=rule).residual for rule in ("second", "first"))
    assert (second < 0.1 * first).all()


def test_whatever_is_no_trace_is_said():
    monitor, _, _ = run(sgd, 12, 1, gauss=False)
    for call in (decompose, forecast, published, lifecycle):
        with pytest.raises(InputError, match=r"pass monitor\.trace"):
            call(monitor)
    with pytest.raises(InputError, match="whole number"):
        decompose(monitor.trace, 2.5, name="train", rule="first")
