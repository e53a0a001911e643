"""The meter of observation's share of the time, and what exceeding a budget does."""

import pytest
import torch

import spectral_edge as se
from spectral_edge import meter
from spectral_edge.errors import Outcome


class Clock:
    """Time that passes as it is told to."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(meter, "time", clock)
    return clock


def watched(clock, monkeypatch, **options):
    """A monitor whose observations take 1 s each."""
    weights = {"w": torch.zeros(20)}
    monitor = se.Monitor(weights, window=2, engine="exact", **options)
    push = monitor._recorder.ring.push

    def slow(*arguments):
        clock.now += 1.0
        return push(*arguments)

    monkeypatch.setattr(monitor._recorder.ring, "push", slow)
    return weights, monitor


def steps(clock, weights, monitor, count):
    """Training steps of 9 s."""
    for _ in range(count):
        clock.now += 9.0
        weights["w"] += torch.randn(20)
        monitor.step()


def test_the_meter_reads_the_share_of_observation(clock, monkeypatch):
    weights, monitor = watched(clock, monkeypatch, every=1)
    steps(clock, weights, monitor, 5)
    assert monitor.overhead is None  # the first observations compile and fill caches
    steps(clock, weights, monitor, 400)
    assert monitor.overhead == pytest.approx(0.1, rel=0.02)


def test_a_budget_that_is_kept_says_nothing(clock, monkeypatch):
    weights, monitor = watched(clock, monkeypatch, every=10, budget=0.02)
    steps(clock, weights, monitor, 400)
    assert not monitor.trace.notes


def test_exceeding_a_budget_warns_once(clock, monkeypatch):
    weights, monitor = watched(clock, monkeypatch, every=1, budget=0.05)
    with pytest.warns(se.SpectralEdgeWarning, match=r"1\d\.\d\d% of the time, more than its budget of 5.00%") as caught:
        steps(clock, weights, monitor, 100)
    assert len(caught) == 1
    assert len(monitor.trace.segments) == 1


def test_stretching_opens_a_new_segment_and_keeps_the_budget(clock, monkeypatch, tmp_path):
    options = {"every": 1, "budget": 0.05, "budget_action": "stretch", "out": tmp_path / "run"}
    weights, monitor = watched(clock, monkeypatch, **options)
    with pytest.warns(se.SpectralEdgeWarning, match="every 3 steps"):
        steps(clock, weights, monitor, 600)
    assert monitor.overhead < 0.05
    trace = se.open_trace(tmp_path / "run")
    assert [segment.metadata["monitor"]["every"] for segment in trace.segments] == [1, 3]
    assert Outcome.STRETCHED in [note.outcome for note in trace.notes]
    boundary = len(trace.segments[0].rows)
    # Nothing is differenced across: the first row after it knows no earlier one.
    assert torch.isnan(torch.from_numpy(trace.lag_rows()[boundary, 1:])).all()
    assert set(trace.steps[boundary + 1 :] - trace.steps[boundary:-1]) == {3}
    state = monitor.state_dict()
    weights, other = watched(clock, monkeypatch, **options)
    other.load_state_dict(state)
    assert other._schedule.interval == 3


@pytest.mark.parametrize(("name", "value"), [("budget", 2), ("budget", 0), ("budget_action", "stop")])
def test_wrong_budgets_are_refused(name, value):
    with pytest.raises(se.InputError, match=name):
        se.Monitor({"w": torch.zeros(3)}, **{name: value})
