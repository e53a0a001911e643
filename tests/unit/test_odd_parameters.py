"""Parameters that lie oddly in memory, share names, shrink or lose their memory: right numbers or a named refusal."""

import numpy as np
import pytest
import torch
from torch import nn

import spectral_edge as se
from spectral_edge.errors import Outcome

ENGINES = [
    {"engine": "exact"},
    {"engine": "sketch", "cells": 4096},
    {"engine": "sketch", "cells": 4096, "backend": "torch"},
]
IDS = ["exact", "sketch", "sketch by torch"]


@pytest.mark.filterwarnings("ignore:.*half-precision")
@pytest.mark.parametrize("options", ENGINES, ids=IDS)
def test_strided_views_and_mixed_dtypes(options):
    buffer = torch.zeros(400)
    weights = {
        "strided": buffer[::2],
        "turned": torch.zeros(7, 11).T,
        "half": torch.zeros(60, dtype=torch.float16),
        "wide": torch.zeros(30, dtype=torch.float64),
        "empty": torch.zeros(0),
    }
    monitor = se.Monitor(weights, window=3, every=1, **options)
    generator = torch.Generator().manual_seed(0)
    rows = []
    for step in range(1, 9):
        still = step in (4, 5)
        row = []
        for tensor in weights.values():
            before = tensor.double().clone()
            if not still:
                tensor += torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
            row.append((tensor.double() - before).flatten())
        if not still:
            rows.append(torch.cat(row).numpy())
        monitor.step()
    assert monitor.trace.steps.tolist() == [1, 2, 3, 6, 7, 8]
    assert monitor.trace.row_metadata("moved_fraction").min() > 0.95
    truth = [rows[-1] @ rows[-1 - lag] for lag in range(3)]
    np.testing.assert_allclose(monitor.trace.lag_rows()[-1, :3], truth, rtol=1e-3)


@pytest.mark.parametrize("options", ENGINES, ids=IDS)
def test_large_strided_views(options):
    buffer = torch.zeros(2_000_000)
    monitor = se.Monitor({"w": buffer[::2]}, window=2, every=1, **options)
    for _ in range(3):
        buffer += 1.0
        monitor.step()
    np.testing.assert_allclose(monitor.trace.lag_rows()[-1, 0], 1e6, rtol=0.1)


@pytest.mark.filterwarnings("ignore:.*an update was missed")
@pytest.mark.parametrize("options", ENGINES, ids=IDS)
def test_memory_that_was_freed_is_refused_and_training_goes_on(options):
    weights = {"w": torch.zeros(500), "v": torch.zeros(10)}
    monitor = se.Monitor(weights, window=2, every=1, **options)
    weights["w"] += 1
    monitor.step()
    size = weights["w"].untyped_storage().nbytes()
    weights["w"].untyped_storage().resize_(0)
    with pytest.warns(se.SpectralEdgeWarning, match="memory was freed"):
        assert monitor.step() is None
    weights["w"].untyped_storage().resize_(size)
    weights["w"].zero_()
    for _ in range(4):
        weights["w"] += 1
        reading = monitor.step()
    assert reading is not None


def test_a_tensor_that_shrinks_in_place_is_seen():
    weights = {"w": torch.zeros(10)}
    monitor = se.Monitor(weights, window=2, every=1)
    weights["w"] += 1
    monitor.step()
    weights["w"].data = weights["w"].data[:5]
    with pytest.warns(se.SpectralEdgeWarning, match="is now of"):
        monitor.step()
    assert Outcome.PARAMETERS_CHANGED in [note.outcome for note in monitor.trace.notes]


def test_names_that_collide_without_their_prefix_are_kept_apart():
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Sequential(nn.Linear(3, 2, bias=False))
            self.add_module("0", nn.Linear(3, 2, bias=False))

    model = Wrapper()
    monitor = se.Monitor(model, window=2, every=1)
    with torch.no_grad():
        for p in model.parameters():
            p += 1.0
    monitor.step()
    np.testing.assert_allclose(monitor.trace.lag_rows()[0, 0], 12.0, rtol=1e-6)
    whole = torch.zeros(10)

    class Twice:
        def named_tensors(self):
            return [("w", se.Shard(whole[:5], (10,), 0)), ("w", se.Shard(whole[5:], (10,), 5))]

    with pytest.raises(se.InputError, match="each name once"):
        se.Monitor(Twice())


@pytest.mark.parametrize(
    ("saved", "loaded", "match"),
    [
        ({"sketch_seed": 1}, {"sketch_seed": 2}, "seed"),
        ({}, {"groups": {"one": "a", "two": "b"}}, "groups"),
        ({}, {"cells": 32}, "cells"),
        ({}, {"engine": "exact"}, "engine"),
    ],
)
def test_a_state_of_another_sketch_is_refused(saved, loaded, match):
    base = {"engine": "sketch", "cells": 16, "window": 2, "every": 1}
    weights = {"a": torch.zeros(50), "b": torch.zeros(40)}
    state = se.Monitor(weights, **{**base, **saved}).state_dict()
    with pytest.raises(se.InputError, match=match):
        se.Monitor(weights, **{**base, **loaded}).load_state_dict(state)


@pytest.mark.parametrize("options", ENGINES, ids=IDS)
def test_a_state_of_other_shapes_is_refused_and_leaves_the_monitor_usable(options):
    state = se.Monitor({"w": torch.zeros(50)}, window=2, every=1, **options).state_dict()
    weights = {"w": torch.zeros(40)}
    monitor = se.Monitor(weights, window=2, every=1, **options)
    with pytest.raises(se.InputError, match="differing in w"):
        monitor.load_state_dict(state)
    for _ in range(3):
        weights["w"] += 1.0
        monitor.step()
    np.testing.assert_allclose(monitor.trace.lag_rows()[-1, 0], 40.0)
    for damaged in (3, [3], {"version": 2, "recorder": {}}):
        with pytest.raises(se.InputError, match="monitor state"):
            monitor.load_state_dict(damaged)


@pytest.mark.parametrize("width", [2, 3, 6])
def test_resuming_with_another_window(width):
    weights = {"w": torch.zeros(60)}

    def walk(monitor, steps):
        return [(weights["w"].add_(torch.randn(60)), monitor.step())[1] for _ in range(steps)]

    first = se.Monitor(weights, window=4, horizon=8, every=1)
    walk(first, 10)
    second = se.Monitor(weights, window=width, horizon=8, every=1)
    second.load_state_dict(first.state_dict())
    live = walk(second, 12)[-1]
    offline = second.trace.edge(window=width)
    np.testing.assert_array_equal(live.sigma, offline["sigma"][-1])


def test_a_resumed_stretch_is_recorded():
    weights = {"w": torch.zeros(20)}
    options = {"window": 2, "every": 1, "budget": 0.01, "budget_action": "stretch"}
    first = se.Monitor(weights, **options)
    first._observe_every(4)
    second = se.Monitor(weights, **options)
    second.load_state_dict(first.state_dict())
    assert second._schedule.interval == 4
    assert second.trace.metadata["monitor"]["every"] == 4


def test_a_first_step_that_a_scaler_skips_is_no_lost_state():
    model = nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    monitor = se.Monitor(model, optimizer, window=2, every=1)
    for _ in range(4):
        model(torch.randn(3, 4)).sum().backward()
        optimizer.step()
        monitor.step()
    again = se.Monitor(model, optimizer, window=2, every=1)
    again.load_state_dict(monitor.state_dict())
    again.step()  # the optimizer did not step
    assert Outcome.NOT_RESTORED not in [note.outcome for note in again.trace.notes]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("budget", "1%"),
        ("sketch_seed", -1),
        ("sketch_seed", "a"),
        ("select", 3),
        ("groups", {"a": 3}),
        ("ring_device", "cuda:9"),
        ("ring_dtype", torch.int8),
        ("metadata", {"a": object()}),
    ],
)
def test_options_that_cannot_be_are_refused(name, value):
    with pytest.raises(se.InputError):
        se.Monitor({"w": torch.zeros(5)}, window=2, **{name: value})
