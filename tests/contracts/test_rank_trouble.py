"""What one rank meets alone is told to all of them: nothing waits for ever, nothing aborts, training goes on."""

import warnings

import numpy as np
import pytest
import torch
from tests.support.ranks import results

import spectral_edge as se
from spectral_edge import meter
from spectral_edge.errors import Outcome

OPTIONS = {"window": 2, "every": 1, "horizon": 4, "engine": "exact"}


def train(monitor, weights, steps, *, act=None, **arguments):
    """Random steps; `act(step)` comes before the observation. Which had readings, and what was said."""
    generator = torch.Generator().manual_seed(3)
    full, said = [], []
    for step in range(1, steps + 1):
        for tensor in weights.values():
            tensor += torch.randn(tensor.shape, generator=generator)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if act is not None:
                act(step)
            given = {name: value for name, (at, value) in arguments.items() if at == step}
            full.append(monitor.step(**given) is not None)
        said += [(step, str(w.message)) for w in caught]
    return full, said


def wrong_argument(rank, size, name, value):
    weights = {"a": torch.zeros(5), "b": torch.zeros(3)}
    monitor = se.Monitor(weights, **OPTIONS)
    arguments = {name: (4, value)} if rank == 1 else {}
    if name == "grad_norm":
        arguments["max_grad_norm"] = (4, 1.0)
    return train(monitor, weights, 9, **arguments)


@pytest.mark.parametrize(("name", "value"), [("clip_factor", "a"), ("loss", torch.zeros(2))])
def test_a_wrong_argument_on_one_rank(name, value):
    (full, said), (theirs, others) = results(2, wrong_argument, name, value)
    assert full == theirs
    assert full[-1]
    assert any(step == 4 for step, _ in others)
    assert all(step >= 4 for step, _ in said)


def wrong_probe(rank, size):
    weights = {"a": torch.zeros(5), "b": torch.zeros(3)}
    monitor = se.Monitor(weights, **OPTIONS)
    said = []
    for step in range(1, 8):
        for tensor in weights.values():
            tensor += step
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            reading = monitor.step()
            if step == 3:
                monitor.probe(v={"a": torch.ones(4 if rank else 5), "b": torch.ones(3)})
        said += [str(w.message) for w in caught]
    return reading is not None, said


def test_a_wrong_probe_on_one_rank():
    for rank, (full, said) in enumerate(results(2, wrong_probe)):
        assert full
        assert ("shaped as the watched ones" if rank else "the same vectors on every rank") in said[0]


def change_and_failure(rank, size):
    weights = {"a": torch.zeros(5)}

    class Source:
        broken = False

        def named_tensors(self):
            if self.broken:
                raise OSError("no such shard")
            return list(weights.items())

    source = Source()
    monitor = se.Monitor(source, **OPTIONS)

    def act(step):
        source.broken = rank == 1 and step == 4
        if step == 4:
            weights["b"] = torch.zeros(3)

    return train(monitor, weights, 12, act=act)


def test_a_parameter_appears_while_another_rank_fails():
    (full, _), (theirs, _) = results(2, change_and_failure)
    assert full == theirs
    assert full[-1]


def stretches(rank, size):
    clock = type("Clock", (), {"now": 0.0, "perf_counter": lambda self: self.now})()
    meter.time = clock
    weights = {"a": torch.zeros(5)}
    monitor = se.Monitor(weights, **OPTIONS, budget=0.05, budget_action="stretch")
    push = monitor._recorder.ring.push

    def slow(*arguments):
        clock.now += 1.0 if rank == 0 else 0.001  # ranks measure differently, and one of them fails once
        return push(*arguments)

    monitor._recorder.ring.push = slow

    def act(step):
        clock.now += 9.0

    train(monitor, weights, 60, act=act, **({"clip_factor": (3, "a")} if rank == 1 else {}))
    return monitor._schedule.interval


def test_all_ranks_stretch_when_the_first_does():
    first, second = results(2, stretches)
    assert first == second > 1


def other_order(rank, size):
    weights = {"a": torch.zeros(50)}
    kinds = [{"engine": "exact", "window": 2}, {"engine": "exact", "window": 3}]
    try:
        for options in kinds if rank == 0 else kinds[::-1]:
            se.Monitor(weights, **options)
    except se.InputError as error:
        return str(error)
    return ""


def test_monitors_in_another_order_are_told_apart():
    for message in results(2, other_order):
        assert "on rank 1" in message
        assert "same order on every rank" in message


def subgroups(rank, size):
    import torch.distributed as dist

    pair = dist.new_group([0, 1])
    weights = {"a": torch.zeros(5)}
    if rank < 2:
        train(se.Monitor(weights, **OPTIONS, process_group=pair), weights, 3)
    monitor = se.Monitor(weights, **OPTIONS)
    # Labels such as tokens seen, whose squares no longer fit a float64.
    full = [monitor.step(step=step * 300_000_007) is not None or weights["a"].add_(1.0) is None for step in range(1, 5)]
    return full, [note.outcome for note in monitor.trace.notes] if rank == 0 else []


@pytest.mark.slow
def test_subgroups_and_large_step_numbers():
    for _, outcomes in results(3, subgroups):
        assert Outcome.FAILED not in outcomes


def loads(rank, size, states):
    monitor = se.Monitor({"a": torch.zeros(9), "b": torch.zeros(4)}, **OPTIONS)
    try:
        monitor.load_state_dict(states[0] if rank == 0 else {"version": 2, "recorder": {}})
    except se.InputError as error:
        return str(error)
    return ""


def saves(rank, size):
    weights = {"a": torch.zeros(9), "b": torch.zeros(4)}
    monitor = se.Monitor(weights, **OPTIONS)
    train(monitor, weights, 5)
    return monitor.state_dict()


@pytest.mark.slow
def test_a_state_that_one_rank_cannot_load():
    first, second = results(2, loads, results(2, saves))
    assert "rank 1" in first
    assert "damaged" in second


def stages(rank, size, swap, states):
    """A pipeline of two stages, which after a resume lie on the other ranks."""
    owned = ["a", "b"][rank ^ swap]
    weights = {owned: torch.zeros(5 if owned == "a" else 7)}
    monitor = se.Monitor(weights, **OPTIONS)
    generator = torch.Generator().manual_seed(9)
    begun = 0
    if states is not None:
        begun = states[0]["step"]
        monitor.load_state_dict(states)
    reading = None
    for step in range(1, 11):
        moves = {"a": torch.randn(5, generator=generator), "b": torch.randn(7, generator=generator)}
        weights[owned] += moves[owned]
        if step > begun and (states is not None or step <= (5 if swap is False else 10)):
            reading = monitor.step()
    return monitor.state_dict(), None if reading is None else reading.sigma


@pytest.mark.slow
def test_stages_that_changed_places():
    truth = results(2, stages, 1, None)[0][1]
    states = [state for state, _ in results(2, stages, False, None)]
    assert states[0]["step"] == 5
    for swap in (0, 1):
        np.testing.assert_allclose(results(2, stages, swap, states)[0][1], truth, rtol=1e-12)
