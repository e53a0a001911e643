"""Forecasts of the gap: exact where they must be, blind to what comes later, and what is missing is named."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import spectral_edge as se
from spectral_edge.evaluate.gap_change import BASELINES, FORMS, compare, gap_change
from spectral_edge.evaluate.scoring import score
from spectral_edge.theory.gap_flow import gap_rate_pub

LAG_ROWS_ONLY = ("matrix_flow_observed", *BASELINES)


def quadratic_run(steps=130, *, noise=0.0, window=5, seed=0, horizon=None, curvature=(0.9, 0.3, 0.05, 0.02), log=True):
    """Gradient descent on a quadratic, probed at every step; curvatures are logged along the modes."""
    torch.manual_seed(seed)
    h = torch.tensor(curvature, dtype=torch.float64)
    weight = torch.nn.Parameter(torch.tensor([3.0, -2.0, 4.0, 1.0], dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.05)
    monitor = se.Monitor({"weight": weight}, optimizer, window=window, every=1, horizon=horizon)
    for _ in range(steps):
        weight.grad = h * weight.detach() + noise * torch.randn(4, dtype=torch.float64)
        optimizer.step()
        reading = monitor.step()
        monitor.probe(gradient={"weight": h * weight.detach()})
        if log and reading is not None:
            found = monitor.modes()
            values = [float(v["weight"] @ (h * v["weight"])) for v in found.directions]
            monitor.log(**{f"curvature_{j + 1}": value for j, value in enumerate(values)})
            monitor.log(**{f"relaxation_{j + 1}": 0.05 * value for j, value in enumerate(values)})
    return monitor.trace


class Altered:
    """A trace with some of its parts replaced."""

    def __init__(self, trace, **parts):
        self._trace, self._parts = trace, parts

    def __getattr__(self, name):
        return self._parts[name] if name in self._parts else getattr(self._trace, name)


def from_updates(updates, *, window=5, horizon=10, relaxation=None, every=1):
    """What a trace of these updates [T, P] would hold; relaxation is by mode."""
    gram = updates @ updates.T
    count = len(updates)
    rows = np.array([[gram[t, t - lag] if t >= lag else np.nan for lag in range(horizon)] for t in range(count)])
    steps = every * np.arange(1, count + 1)
    rates = {f"relaxation_{j + 1}": (steps, np.full(count, rate)) for j, rate in enumerate(relaxation or ())}
    return SimpleNamespace(
        steps=steps,
        window=window,
        horizon=horizon,
        metric_names=tuple(rates),
        metrics=rates.__getitem__,
        probe_names=(),
        lag_rows=lambda group=None: rows,
        row_metadata=lambda name: np.full(count, np.nan),
    )


def total(found, form):
    return np.sum(list(found.forecasts.terms[form].values()), axis=0)


def sigma_of(updates):
    return np.linalg.svd(updates, compute_uv=False)


def test_what_is_forecast_is_the_change_of_the_gap_at_the_place_of_the_older_window():
    updates = np.random.default_rng(0).standard_normal((40, 30)) * np.linspace(3, 1, 40)[:, None]
    found = gap_change(from_updates(updates))
    assert found.step.tolist() == [5, 10, 15, 20, 25, 30, 35]
    for n, end in enumerate(found.step):
        older, newer = sigma_of(updates[end - 5 : end]), sigma_of(updates[end : end + 5])
        k = int(np.argmax(older[:-1] / older[1:])) + 1
        assert found.position[n] == k
        assert found.gap[n] == pytest.approx(older[k - 1] - older[k], rel=1e-9)
        assert found.forecasts.measured[n] == pytest.approx(newer[k - 1] - newer[k] - found.gap[n], rel=1e-9)
        assert found.forecasts.scale[n] == pytest.approx(np.sqrt((older**2).sum()), rel=1e-9)


@pytest.mark.parametrize(("ahead", "horizon"), [(2, None), (5, None), (7, 20)])
def test_the_flow_given_the_drive_is_exact_where_the_modes_span_what_comes(ahead, horizon):
    found = gap_change(quadratic_run(horizon=horizon), ahead=ahead)
    assert found.missing == ()
    # Four coordinates and modes of five rows: all that comes lies in their span until a mode sinks below the floor.
    described = total(found, "matrix_flow_given_drive")
    np.testing.assert_allclose(described[:4], found.forecasts.measured[:4], rtol=1e-5, atol=1e-8)


def test_strided_rows():
    found = gap_change(quadratic_run(horizon=40, steps=300), stride=4, ahead=2)
    assert set(np.diff(found.step)) == {8}
    described = total(found, "matrix_flow_given_drive")
    np.testing.assert_allclose(described[:3], found.forecasts.measured[:3], rtol=1e-5, atol=1e-8)


def test_the_published_terms_by_hand():
    trace = quadratic_run()
    # The largest difference is the first one here: far above rounding, unlike the largest ratio of a decaying run.
    found = gap_change(trace, ahead=3, k_star="abs")
    terms = found.forecasts.terms
    n, k, step = 2, found.position[2], found.step[2]
    assert k == 1
    at = list(trace.steps).index(step)
    lags = trace.lag_rows()[: at + 1]
    gram = np.array([[lags[at - min(4 - i, 4 - j), abs(i - j)] for j in range(5)] for i in range(5)])
    value, vector = np.linalg.eigh(gram)
    pair = [-k, -k - 1]
    d = np.sqrt(value[pair])
    probe = next(row for row in trace.probes("gradient") if row.step == step).lags[0, :5][::-1]
    g = vector[:, pair].T @ probe / d
    h = np.array([dict(zip(*trace.metrics(f"curvature_{j}"), strict=True))[step] for j in (k, k + 1)])
    rate, times = 0.05, 3
    expected = {
        "curvature_asymmetry": -rate * (h[0] - h[1]) * d.mean(),
        "damping": -rate * h.mean() * (d[0] - d[1]),
        "driving_pub": rate * 5 * (g[0] ** 2 / d[0] - g[1] ** 2 / d[1]),
    }
    for name, by_hand in expected.items():
        assert terms["published"][name][n] == pytest.approx(times * by_hand, rel=1e-7)
    ratio = terms["published"]["driving_pub"] / terms["consistent"]["driving_consistent"]
    np.testing.assert_allclose(ratio[np.isfinite(ratio)], 2 / rate)

    solved = gap_change(trace, ahead=3, k_star="abs", integrate=True)
    state, small = d.copy(), 2000
    for _ in range(times * small):  # Euler on the squares, an independent way to the same solution
        state = np.sqrt(state**2 + (-2 * rate * h * state**2 + 2 * rate * 5 * g**2) / small)
    assert total(solved, "published")[n] == pytest.approx(state[0] - state[1] - (d[0] - d[1]), rel=1e-3)
    # Over a time that is short the two are the same.
    whole = sum(expected.values())
    assert gap_rate_pub(d, rate=rate, curvature=h, window=5, source=g**2) == pytest.approx(whole, rel=1e-7)


def test_the_clock_is_that_of_the_steps_that_passed():
    trace = quadratic_run()
    found = gap_change(trace, ahead=3)
    # The same record with five steps for each: what belongs to a step is found under its new number.
    renamed = Altered(
        trace,
        steps=5 * trace.steps,
        segments=tuple(Altered(s, rows={"step": 5 * np.asarray(s.rows["step"])}) for s in trace.segments),
        probes=lambda name: [Altered(row, step=5 * row.step) for row in trace.probes(name)],
        metrics=lambda name: (5 * trace.metrics(name)[0], trace.metrics(name)[1]),
    )
    faster = gap_change(renamed, ahead=3)
    for name, values in found.forecasts.terms["published"].items():
        np.testing.assert_allclose(faster.forecasts.terms["published"][name], 5 * values)


@pytest.mark.parametrize("integrate", [False, True])
def test_no_forecast_knows_what_comes_later(integrate):
    trace = quadratic_run(noise=0.2)
    found = gap_change(trace, integrate=integrate)
    n = 12
    cut = list(trace.steps).index(found.step[n])
    rows = trace.lag_rows().copy()
    rows[cut + 1 :] *= 7 * np.linspace(1, 3, len(rows) - cut - 1)[:, None]
    later = found.step[n]

    def shuffled(name):
        at, values = trace.metrics(name)
        return at, np.where(at > later, 13 * values, values)

    settings = {"rate": trace.row_metadata("learning_rate"), "decay": trace.row_metadata("weight_decay")}
    for values in settings.values():
        values[cut + 1 :] = 0.4
    other = gap_change(
        Altered(
            trace,
            lag_rows=lambda group=None: rows,
            metrics=shuffled,
            probes=lambda name: [
                row if row.step <= later else Altered(row, lags=-3 * row.lags) for row in trace.probes(name)
            ],
            row_metadata=lambda name: settings["rate" if name == "learning_rate" else "decay"],
        ),
        integrate=integrate,
    )
    for known in ("level", "scale"):
        values, same = getattr(found.forecasts, known), getattr(other.forecasts, known)
        np.testing.assert_array_equal(same[: n + 1], values[: n + 1])
    assert other.forecasts.measured[n] != pytest.approx(found.forecasts.measured[n])
    for form in (*FORMS[:-1], *BASELINES):
        np.testing.assert_array_equal(total(other, form)[: n + 1], total(found, form)[: n + 1], err_msg=form)
        assert not np.array_equal(total(other, form)[n + 1 :], total(found, form)[n + 1 :]), form
    assert not np.array_equal(total(other, FORMS[-1])[: n + 1], total(found, FORMS[-1])[: n + 1])


def test_one_drive_that_relaxes_is_forecast_exactly():
    kept = 0.8 ** np.arange(40)[:, None]
    updates = kept * np.array([[2.0, 1.0, -1.0]])
    found = gap_change(from_updates(updates, relaxation=[-np.log(0.8) / 3], every=3), k_star="abs")
    # One direction: every convention that needs a second singular value is undefined, so a second one is planted.
    assert len(found.step) == 0
    updates = np.concatenate([updates, 0.01 * np.cos(np.arange(40) * np.pi / 2)[:, None] * kept], axis=1)
    found = gap_change(from_updates(updates, relaxation=[-np.log(0.8) / 3] * 5, every=3))
    assert (found.position == 1).all()
    np.testing.assert_allclose(total(found, "matrix_flow"), found.forecasts.measured, rtol=2e-2)
    np.testing.assert_allclose(total(found, "size"), found.forecasts.measured, rtol=2e-2)
    np.testing.assert_allclose(total(found, "last_change")[1:], found.forecasts.measured[1:], rtol=2e-2)
    assert total(found, "last_change")[0] == 0


def test_drive_and_noise_are_told_apart():
    """Of a steady drive and noise the flow forecasts the singular values that the next window has on average."""
    draw = np.random.default_rng(0)
    for strength in (0.0, 1.0, 3.0):
        updates = draw.standard_normal((2000, 1500)) / np.sqrt(1500)
        updates[:, 0] += strength
        found = gap_change(from_updates(updates, relaxation=[0.0] * 5))
        first = found.position == 1
        gap = (found.gap + total(found, "matrix_flow"))[first]
        # In the limit of many dimensions; pure noise has no gap then. Without the correction for the noise in the
        # fitted drive it would get sqrt(2) - 1.
        assert gap.mean() == pytest.approx(np.sqrt(5 * strength**2 + 1) - 1, rel=0.03, abs=0.05)
        later = (found.gap + found.forecasts.measured)[first]
        assert gap.mean() == pytest.approx(later.mean(), rel=0.03, abs=0.12)


def test_what_momentum_and_preconditioning_do_is_in_the_measured_rates():
    """The matrix flow takes rates from the record, the published form learning rate and curvature."""
    trace = quadratic_run()

    def faster(name):
        at, values = trace.metrics(name)
        return at, 10 * values if name.startswith("relaxation") else values

    found, other = gap_change(trace), gap_change(Altered(trace, metrics=faster))
    assert not np.allclose(total(found, "matrix_flow"), total(other, "matrix_flow"))
    for form in ("published", "consistent", *LAG_ROWS_ONLY):
        np.testing.assert_array_equal(total(found, form), total(other, form))


def test_curvature_of_other_modes_is_not_used():
    trace = quadratic_run(horizon=20)
    for options in ({"window": 4}, {"stride": 2}):
        found = gap_change(trace, **options)
        assert any("window of 5 single updates" in words for words in found.missing)
        assert np.isnan(total(found, "published")).all()
        assert np.isnan(total(found, "matrix_flow")).all()
        assert np.isfinite(total(found, "matrix_flow_observed")).all()


def test_nothing_is_forecast_across_a_hole():
    updates = np.random.default_rng(1).standard_normal((60, 8))
    trace = from_updates(updates)
    whole = gap_change(trace)
    rows = trace.lag_rows()
    for t in range(30, 40):  # as after a restart between rows 29 and 30: nothing is known of older updates
        rows[t, t - 29 :] = np.nan
    found = gap_change(trace)
    assert set(whole.step) - set(found.step) == {30}
    assert set(found.step) < set(whole.step)


def test_what_is_not_recorded_is_named_and_its_terms_are_undefined():
    found = gap_change(quadratic_run(log=False, horizon=5))
    assert any("curvature_1" in words and "at the steps" in words for words in found.missing)
    assert np.isnan(found.forecasts.terms["published"]["damping"]).all()
    assert np.isfinite(found.forecasts.terms["published"]["driving_pub"]).any()
    assert np.isnan(found.forecasts.terms["matrix_flow"]["driving"]).all()
    for form in LAG_ROWS_ONLY:
        assert np.isfinite(total(found, form)).all()
    # The horizon of one window does not hold the products of old rows with those that come.
    assert np.isnan(found.forecasts.terms["matrix_flow_given_drive"]["driving"]).all()
    with pytest.raises(se.InputError, match="in each half"):
        score([found.forecasts], "published")
    with pytest.raises(se.InputError, match="at least two windows"):
        gap_change(quadratic_run(log=False), window=5, ahead=100)
    with pytest.raises(se.InputError, match="k_star"):
        gap_change(quadratic_run(log=False), k_star="largest")
    bare = gap_change(from_updates(np.random.default_rng(0).standard_normal((60, 8))))
    for words in ("probe 'gradient'", "learning rate", "weight decay", "relaxation_1"):
        assert any(words in sentence for sentence in bare.missing), words


def test_one_call_compares_all_forms_on_the_same_forecasts():
    runs = [gap_change(quadratic_run(noise=0.3, steps=200, seed=seed)) for seed in range(2)]
    compared = compare(runs)
    assert tuple(compared.scores) == FORMS
    assert compared.left_out == compared.missing == ()
    assert len({found.forecasts for found in compared.scores.values()}) == 1
    assert compared.scores["published"].r2 < compared.scores["consistent"].r2
    for found in compared.scores.values():
        assert set(found.rivals) == {"no change", "AR(1)", *BASELINES}
    lines = str(compared).splitlines()
    assert len(lines) == 1 + len(FORMS) + 4

    less = compare([gap_change(quadratic_run(noise=0.3, steps=200, log=False))])
    assert set(less.left_out) == {"published", "consistent", "matrix_flow"}
    assert "not scored: published" in str(less)
    assert "curvature_1" in str(less)
