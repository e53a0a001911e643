"""The reading of a run up to its transition, against closed forms and a slow twin on stored updates."""

from dataclasses import asdict, fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import spectral_edge as se
from spectral_edge.evaluate.transition import AtTransition, at_transition
from spectral_edge.measure import DECLINED

SIZE = 48


def recorded(updates, *, every=1, horizon=20, ladder=0, restart=None):
    """The trace of a run whose parameters take these updates, one a step."""
    weights = {"a.w": torch.zeros(SIZE // 3, dtype=torch.float64), "b.w": torch.zeros(2 * SIZE // 3).double()}
    monitor = se.Monitor(weights, window=3, horizon=horizon, every=every, ladder=ladder, engine="exact")
    for step, value in enumerate(np.cumsum(updates, axis=0), start=1):
        weights["a.w"].copy_(torch.from_numpy(value[: SIZE // 3]))
        weights["b.w"].copy_(torch.from_numpy(value[SIZE // 3 :]))
        if step == restart:
            weights["a.w"][0] = torch.nan
        monitor.step()
    return monitor.trace


def perpendicular(norms):
    """Updates that are all perpendicular: the eigenvalues of a window are its squared norms."""
    updates = np.zeros((len(norms), SIZE))
    updates[np.arange(len(norms)), np.arange(len(norms))] = norms
    return updates


def shrinking(seed=0, count=40):
    """Updates of a slow drift and noise that both die down."""
    rng = np.random.default_rng(seed)
    drift = rng.standard_normal(SIZE)
    scale = np.exp(-np.arange(count) / 12)[:, None]
    return scale * (rng.standard_normal((count, SIZE)) + 0.4 * drift)


def slow(updates, step, *, window, stride=1, growing=False):
    """The same numbers from stored updates by dense SVD, window by window; one update a step, aligned to the newest."""

    def spectra(width, ends):
        for end in ends:
            rows = updates[end - width * stride : end].reshape(width, stride, -1).sum(axis=1)
            yield end, np.linalg.svd(rows, compute_uv=False) ** 2, rows

    def g23(lam):
        return lam[1] - lam[2] if len(lam) > 2 else lam[1]

    ends = [end for end in range(len(updates) % stride, len(updates) + 1, stride) if end >= window * stride]
    full = list(spectra(window, ends))
    before = [item for item in full if item[0] <= step]
    partial = []
    if growing:
        for width in range(2, window):
            firsts = [end for end in range(len(updates) % stride, window * stride, stride) if end // stride == width]
            partial += list(spectra(width, firsts))
    last = before[-1]

    def fold(values):
        return max(values[:-1]) / values[-1]

    def ratios(lam):
        sigma = np.sqrt(lam)
        return sigma[:-1] / sigma[1:]

    def weighted(lam):
        sigma = np.sqrt(lam)
        return int(np.argmax(sigma[:-1] / sigma.sum() * ratios(lam))) + 1

    def coherence(rows):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        cosines = unit @ unit.T
        return (cosines.sum() - len(rows)) / (len(rows) * (len(rows) - 1))

    series = [g23(lam) for _, lam, _ in before]
    early = max(range(len(series) - 1), key=series.__getitem__)
    coherences = [coherence(rows) for _, _, rows in before]
    settled = [*series[:-1], float(np.median(series[-window:]))]
    return {
        "read_at": last[0],
        "windows": len(before),
        "early_step": before[early][0],
        "g23": fold(series),
        "g23_growing": fold([g23(lam) for _, lam, _ in partial] + series),
        "g23_normalized": fold([g23(lam) / lam.sum() for _, lam, _ in before]),
        "gram_trace": fold([lam.sum() for _, lam, _ in before]),
        "g23_settled": fold(settled),
        "g23_to_end": fold([g23(lam) for _, lam, _ in full]),
        "g23_to_end_growing": fold([g23(lam) for _, lam, _ in [*partial, *full]]),
        "as_low": next(end for (end, _, _), value in zip(before, series, strict=True) if value <= series[-1]),
        "increases": sum(b > a for a, b in zip(series[early:], series[early + 1 :], strict=False)),
        "ratio_before": np.mean([ratios(lam)[weighted(lam) - 1] for _, lam, _ in before[:-1]]),
        "ratio": ratios(last[1])[weighted(last[1]) - 1],
        "k_star_raw": int(np.argmax(ratios(last[1]))) + 1,
        "k_star_weighted": weighted(last[1]),
        "k_star_restricted": int(np.argmax(ratios(last[1])[: window // 2])) + 1,
        "k_star_last": weighted(full[-1][1]),
        "weighted_one": np.mean([weighted(lam) == 1 for _, lam, _ in before]),
        "coherence": coherences[-1],
        "coherence_lowest": min(coherences),
        "coherence_turn": before[int(np.argmin(coherences))][0],
    }


def measured(found):
    """The same names from the record."""
    plain = {name: getattr(found, name) for name in (f.name for f in fields(found))}
    folds = {name: value.fold for name, value in plain.items() if hasattr(value, "fold")}
    return {**plain, **folds, "early_step": found.g23.peak_step}


@pytest.mark.parametrize(("window", "stride"), [(3, 1), (5, 1), (5, 2), (4, 2)])
@pytest.mark.parametrize("step", [23, 30])
def test_every_number_is_that_of_dense_svds(window, stride, step):
    updates = shrinking(window + stride)
    found = measured(at_transition(recorded(updates), step, window=window, stride=stride))
    expected = slow(updates, step, window=window, stride=stride, growing=True)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)


def test_strides_beyond_the_horizon_are_read_from_a_ladder():
    updates = shrinking(3)
    found = measured(at_transition(recorded(updates, horizon=6, ladder=2), 32, window=3, stride=4))
    assert found["g23"] == pytest.approx(slow(updates, 32, window=3, stride=4)["g23"], rel=1e-9)


def test_a_group_is_read_on_its_own():
    updates = shrinking(1)
    trace = recorded(updates)
    part = np.pad(updates[:, : SIZE // 3], ((0, 0), (0, 2 * SIZE // 3)))
    alone = measured(at_transition(trace, 25, window=4, group="a"))
    assert alone["g23"] == pytest.approx(slow(part, 25, window=4)["g23"], rel=1e-9)
    assert alone["g23"] != pytest.approx(at_transition(trace, 25, window=4).g23.fold, rel=1e-3)


def test_closed_form_of_perpendicular_updates():
    norms = np.array([1.0, 2.0, 3.0, 9.0, 8.0, 6.0, 5.0, 3.0, 2.5, 2.0, 1.9, 4.0])
    found = at_transition(recorded(perpendicular(norms)), 10, window=3)
    # Windows end at 3 .. 10; the second and third largest squares of each, by hand.
    g23 = [4 - 1, 9 - 4, 64 - 9, 64 - 36, 36 - 25, 25 - 9, 9 - 6.25, 6.25 - 4]
    assert found.g23.peak_step == 5
    assert found.g23.fold == pytest.approx(55 / 2.25)
    assert found.declined
    assert found.as_low == 10
    assert at_transition(recorded(perpendicular(norms)), 8, window=3).as_low == 3  # 3 is less than the 16 at step 8
    assert found.increases == 1  # from 11 to 16, on the way from 55
    assert found.monotone
    assert found.g23_growing.peak == pytest.approx(max(g23))  # the growing window of 2 has 1, the square of its second
    assert found.g23_settled.value == pytest.approx(np.median([16, 2.75, 2.25]))
    assert found.gram_trace.fold == pytest.approx((81 + 64 + 36) / (9 + 6.25 + 4))
    assert found.g23_to_end.value == pytest.approx(4 - 1.9**2)
    assert found.ratio == pytest.approx(3 / 2.5)
    assert (found.k_star_weighted, found.k_star_raw, found.k_star_restricted) == (1, 2, 1)
    assert found.coherence == pytest.approx(0.0, abs=1e-12)


def test_growing_windows_raise_the_peak_where_a_run_starts_with_large_updates():
    norms = np.array([9.0, 8.0, 1.0, 1.0, 0.9, 0.8, 0.7, 0.5])
    found = at_transition(recorded(perpendicular(norms)), 8, window=4)
    assert found.g23.peak == pytest.approx(64 - 1)
    assert found.g23_growing.peak == pytest.approx(64)  # two updates: the published substitute is the second eigenvalue
    assert found.g23_growing.peak_step == 2
    assert found.g23_growing.value == found.g23.value


def test_what_is_read_is_a_full_window_also_after_a_restart():
    norms = np.array([5.0, 4.0, 3.0, 2.0, 1.5, 1.2, 1.1, 1.0, 0.9, 0.8])
    with pytest.warns(se.SpectralEdgeWarning, match="not finite"):
        trace = recorded(perpendicular(norms), restart=7)
    found = at_transition(trace, 9, window=3)
    assert found.read_at == 6
    assert found.g23_growing.step == 6
    assert found.g23_to_end_growing.step == int(trace.edge(3).step[-1])


def test_a_gap_that_rises_is_no_decline():
    found = at_transition(recorded(perpendicular(np.linspace(1, 5, 12))), 12, window=3)
    assert found.g23.fold < 1
    assert not found.declined
    assert found.increases == 1


def test_too_few_windows_leave_declines_undefined():
    trace = recorded(shrinking())
    early = at_transition(trace, 9, window=10)
    assert (early.windows, early.read_at, early.g23, early.g23_growing, early.ratio) == (0, None, None, None, None)
    assert early.declined is None
    assert early.monotone is None
    assert early.as_low is None
    assert early.k_star_last is not None  # the run's end is known
    first = at_transition(trace, 10, window=10)
    assert first.windows == 1
    assert first.g23 is None
    assert first.ratio_before is None
    assert first.ratio is not None
    assert at_transition(trace, 20, window=10).g23_settled is not None
    assert at_transition(trace, 19, window=10).g23_settled is None  # the median would span every window there is
    assert at_transition(trace, 9, window=10).g23_to_end is not None


def test_steps_between_observations_read_the_window_before():
    updates = shrinking(5)
    trace = recorded(updates, every=2)
    between, on = (at_transition(trace, step, window=3) for step in (21, 20))
    assert between.read_at == on.read_at == 20
    assert {**asdict(between), "step": 20} == asdict(on)


@pytest.mark.parametrize("step", [0, 41, 1_000])
def test_a_step_that_was_not_reached_is_refused(step):
    with pytest.raises(se.InputError, match="step that the run reached"):
        at_transition(recorded(shrinking()), step)


def test_a_window_without_a_third_value_is_refused():
    with pytest.raises(se.InputError, match="at least 3 updates"):
        at_transition(recorded(shrinking()), 20, window=2)


def test_what_is_outside_the_band_is_counted_among_windows_that_have_one():
    rng = np.random.default_rng(2)
    # Noise, then one direction that takes over: the largest ratio leaves the band in the second half.
    updates = rng.standard_normal((40, SIZE)) * 0.1
    updates[20:, 0] += 3.0
    trace = recorded(updates)
    early, late = (at_transition(trace, step).outside for step in (20, 40))
    series = trace.edge(10)
    clear = [bool(np.isfinite(k)) for k in series["k_star_clear"]]
    assert early == pytest.approx(np.mean(clear[:11]))
    assert late == pytest.approx(np.mean(clear))
    assert late > early + 0.3


class Given:
    """A trace whose columns are given: what is asked of them is exactly what is used."""

    def __init__(self, g23, coherence):
        count = len(g23)
        self.steps = np.arange(1, count + 1)
        self.columns = {
            "step": self.steps,
            "g23": np.array(g23, dtype=float),
            "g23_normalized": np.array(g23, dtype=float) / 7,
            "gram_trace": np.full(count, 7.0),
            "gap_ratio": np.full(count, 1.5),
            "coherence": np.array(coherence, dtype=float),
            **{f"k_star_{name}": np.full(count, np.nan) for name in ("raw", "weighted", "restricted", "clear")},
            "band_max": np.full(count, np.nan),
        }

    def edge(self, window=None, *, stride=1, group=None, k_star="raw", partial=False):
        assert k_star == "weighted"
        return self.columns


def test_undefined_values_are_none_and_do_not_hide_the_defined():
    found = at_transition(Given([np.nan, 8, np.nan, 2], [np.nan, 0.3, -0.1, np.nan]), 4)
    assert found.g23.fold == 4
    assert found.coherence is None
    assert found.as_low == 4
    assert (found.coherence_lowest, found.coherence_turn) == (-0.1, 3)
    assert (found.k_star_raw, found.k_star_weighted, found.weighted_one, found.outside) == (None, None, None, None)
    assert at_transition(Given([3, 8, 4, np.nan], [np.nan] * 4), 4).g23 is None
    assert at_transition(Given([3, 8, 4, 0], [0.0] * 4), 4).g23 is None


positive = st.lists(st.floats(0.01, 100), min_size=3, max_size=30)


@given(positive, st.floats(0.1, 10))
def test_units_of_the_parameters_cancel_from_every_decline(values, unit):
    here = at_transition(Given(values, values), len(values), window=3)
    there = at_transition(Given([unit * v for v in values], values), len(values), window=3)
    assert there.g23.fold == pytest.approx(here.g23.fold)
    assert there.g23_to_end.fold == pytest.approx(here.g23_to_end.fold)
    assert there.increases == here.increases or np.min(np.abs(np.diff(values))) < 1e-9


@given(positive, st.data())
def test_the_fold_of_a_longer_record_is_that_of_its_beginning(values, data):
    """What comes after the step changes the end of the run and nothing else."""
    step = data.draw(st.integers(2, len(values)))
    whole, cut = (at_transition(Given(v, v), step, window=3) for v in (values, values[:step]))
    later = ("g23_to_end", "g23_to_end_growing", "k_star_last")
    assert {k: v for k, v in asdict(whole).items() if k not in later} == {
        k: v for k, v in asdict(cut).items() if k not in later
    }
    assert whole.declined == (max(values[: step - 1]) / values[step - 1] > DECLINED)


def test_the_record_is_frozen():
    found = at_transition(recorded(shrinking()), 20)
    assert isinstance(found, AtTransition)
    with pytest.raises(AttributeError):
        found.step = 3
