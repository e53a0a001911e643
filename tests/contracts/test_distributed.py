"""Sharded equals unsharded: every way of placing parameters on ranks gives the rows of one process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from tests.support.ranks import Failure, results, run_ranks
from torch import nn

import spectral_edge as se
from spectral_edge.errors import Outcome

EXAMPLE = Path(__file__).parents[2] / "examples" / "distributed.py"
STEPS = 9
OPTIONS = {"window": 3, "every": 1, "horizon": 6}
SKETCH = {"engine": "sketch", "cells": 48, "backend": "torch"}


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.LayerNorm(5), nn.Linear(5, 3))


def train(model, optimizer, rank=0, seed=1):
    """Losses, one step at a time; ranks see other data."""
    generator = torch.Generator().manual_seed(seed + 100 * rank)
    while True:
        x, y = torch.randn(8, 6, generator=generator), torch.randn(8, 3, generator=generator)
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def whole(model, *, gradient=False):
    """Every parameter in full, or its gradient, by name."""
    held = {name: p.grad if gradient else p for name, p in model.named_parameters()}
    return {name: (t.full_tensor() if hasattr(t, "full_tensor") else t).detach() for name, t in held.items()}


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-2)


class Gathered:
    """A source for the unsharded reference: gathers the parameters, which only a test may do."""

    def __init__(self, model):
        self.model = model

    def named_tensors(self):
        return [(name.removeprefix("module."), tensor.clone()) for name, tensor in whole(self.model).items()]


def compare(model, optimizer, rank, seed=None):
    """Lag rows of the sharded model and of the gathered one, exact and sketched, from the same training."""
    source = Gathered(model)
    ours = {"exact": se.Monitor(model, optimizer, engine="exact", ladder=1, **OPTIONS)}
    reference = {"exact": se.Monitor(source, optimizer, engine="exact", ladder=1, process_group=False, **OPTIONS)}
    ours["sketch"] = se.Monitor(model, optimizer, **SKETCH, **OPTIONS)
    reference["sketch"] = se.Monitor(source, optimizer, process_group=False, **SKETCH, **OPTIONS)
    readings = []
    losses = train(model, optimizer, rank if seed is None else seed)
    for _ in range(STEPS):
        loss = next(losses)
        readings.append([monitor.step(loss=loss) for monitor in ours.values()])
        for monitor in reference.values():
            monitor.step(loss=loss)
        gradients = {
            n: p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad for n, p in model.named_parameters()
        }
        for monitor in ours.values():
            monitor.probe(gradient="gradient", decay="decay", parameters="parameters")
        decay = {name: -1e-4 * tensor for name, tensor in whole(model).items()}
        for monitor in reference.values():
            monitor.probe(gradient=gradients, decay=decay, parameters="parameters")
    found = {"sigma": [reading.sigma for reading in readings[-1]], "permuted": [], "rows": {}, "reference": {}}
    found["error"] = readings[-1][1].sketch_error
    found["drift"] = readings[-1][0].replica_drift
    found["moved"] = readings[-1][0].moved_fraction
    if rank == 0:
        for name in ours:
            trace, other = ours[name].trace, reference[name].trace
            assert trace.steps.tolist() == other.steps.tolist()
            found["rows"][name] = {g: trace.lag_rows(g) for g in (None, *trace.groups)}
            found["reference"][name] = {g: other.lag_rows(g) for g in (None, *trace.groups)}
            found["probes"] = {**found.get("probes", {}), name: [_numbers(t) for t in (trace, other)]}
            if name == "exact":
                found["ladder"] = trace.segments[-1].ladder["lags"].copy(), other.segments[-1].ladder["lags"].copy()
            permuted = trace.metadata["engine"].get("permuted", [])
            for key in ("moved_fraction", "coverage", *(() if permuted else ("parameter_norm",))):
                np.testing.assert_allclose(trace.row_metadata(key), other.row_metadata(key), rtol=1e-6)
            found["permuted"] = permuted
    return found


def _numbers(trace):
    """Every number of every probe row, by kind."""
    rows = [row for name in ("gradient", "decay", "parameters") for row in trace.probes(name)]
    products = [p for row in rows for _, p in sorted(row.products.items())]
    return {
        "square": np.array([row.square.sum() for row in rows]),
        "lags": np.array([row.lags.sum(axis=0) for row in rows]),
        "following": np.array([row.following.sum() for row in rows]),
        "products": np.array([product.sum() for product in products]),
    }


def assert_same(found, *, sketch=True):
    first = found[0]
    for name in ("exact", "sketch") if sketch else ("exact",):
        for group, rows in first["rows"][name].items():
            truth = first["reference"][name][group]
            scale = np.nanmax(np.abs(truth))
            np.testing.assert_allclose(rows, truth, rtol=0, atol=1e-12 * scale, err_msg=f"{name} {group}")
        ours, truth = first["probes"][name]
        for kind in truth:
            scale = np.nanmax(np.abs(truth[kind]))
            assert scale > 0
            np.testing.assert_allclose(ours[kind], truth[kind], rtol=0, atol=1e-12 * scale, err_msg=f"{name} {kind}")
    ours, truth = first["ladder"]
    np.testing.assert_allclose(ours, truth, rtol=0, atol=1e-12 * np.nanmax(np.abs(truth)))
    for other in found[1:]:  # every rank has the same reading
        for mine, theirs in zip(first["sigma"], other["sigma"], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def data_parallel(rank, size):
    model = nn.parallel.DistributedDataParallel(network())
    return compare(model, adamw(model), rank)


def fully_sharded(rank, size):
    from torch.distributed.fsdp import fully_shard

    model = network()
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer)
    fully_shard(model)
    return compare(model, adamw(model), rank)


def tensor_parallel(rank, size):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    mesh = init_device_mesh("cpu", (size,))
    model = parallelize_module(network(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    # All ranks see the same data, as tensor parallelism wants.
    return compare(model, adamw(model), rank, seed=0)


def both(rank, size):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    model = parallelize_module(network(), mesh["tensor"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    fully_shard(model, mesh=mesh["data"])
    return compare(model, adamw(model), rank, seed=mesh.get_local_rank("data"))


def hybrid(rank, size):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    model = network()
    fully_shard(model, mesh=mesh)
    return compare(model, adamw(model), rank)


@pytest.mark.parametrize(
    ("size", "function"),
    [
        (2, data_parallel),
        (3, fully_sharded),
        (2, tensor_parallel),
        pytest.param(4, both, marks=pytest.mark.slow),
        pytest.param(4, hybrid, marks=pytest.mark.slow),
    ],
)
def test_sharded_equals_unsharded(size, function):
    found = results(size, function)
    permuted = found[0]["permuted"]
    assert permuted == (["2.weight"] if function in (tensor_parallel, both) else [])
    assert_same(found, sketch=not permuted)
    if permuted:  # unbiased, in another order
        sigma, truth = found[0]["sigma"][1], found[0]["sigma"][0]
        assert abs(sigma[0] / truth[0] - 1) < 6 * found[0]["error"]
    replicated = function is not fully_sharded
    assert (found[0]["drift"] == 0) if replicated else found[0]["drift"] is None


class Stage:
    """A pipeline stage: the layers of a model that this rank owns."""

    def __init__(self, model, layers):
        self.model, self.layers = model, layers

    def named_tensors(self):
        return [(n, p) for n, p in self.model.named_parameters() if int(n.split(".")[0]) in self.layers]


class Flat:
    """Parameters cut like a flat buffer, whatever their shapes, as ZeRO and FSDP1 do."""

    def __init__(self, model, rank, size):
        self.model, self.rank, self.size = model, rank, size

    def named_tensors(self):
        total = sum(p.numel() for p in self.model.parameters())
        low, high = (total * k // self.size for k in (self.rank, self.rank + 1))
        at = 0
        for name, p in self.model.named_parameters():
            first, last = max(low, at), min(high, at + p.numel())
            if first < last:
                mine = p.detach().reshape(-1)[first - at : last - at].clone()
                yield name, se.Shard(mine, tuple(p.shape), first - at)
            at += p.numel()


def own_sources(rank, size):
    found = []
    for make in (lambda m: Stage(m, ({0}, {2, 3, 4}, set())[rank]), lambda m: Flat(m, rank, size)):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
        source, reference = make(model), model
        rows = {}
        for name, options in (("exact", {"engine": "exact"}), ("sketch", SKETCH)):
            rows[name] = (
                se.Monitor(source, optimizer, **options, **OPTIONS),
                se.Monitor(reference, optimizer, process_group=False, **options, **OPTIONS),
            )
        losses = train(model, optimizer)
        for _ in range(STEPS):
            next(losses)
            for pair in rows.values():
                for monitor in pair:
                    monitor.step()
        if rank == 0:
            found.append({name: [m.trace.lag_rows() for m in pair] for name, pair in rows.items()})
    return found


def test_pipeline_stages_and_flat_buffers():
    """One stage owns nothing and yet joins the reduction."""
    for rows in results(3, own_sources)[0]:
        for ours, truth in rows.values():
            np.testing.assert_allclose(ours, truth, rtol=0, atol=1e-12 * np.nanmax(truth))


def refused(rank, size):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Partial

    mesh = init_device_mesh("cpu", (size,))
    partial = DTensor.from_local(torch.ones(4), mesh, [Partial()])
    messages = []
    for tensors in (
        {"w": partial},
        {"w": torch.zeros(4 + rank)},
        {"w": se.Shard(torch.zeros(2), (5,), 2 * rank)},
        {} if rank else {"w": torch.zeros(2, dtype=torch.int64)},
    ):
        try:
            se.Monitor(tensors)
        except se.InputError as error:
            messages.append(str(error))
    return messages


def test_contradictions_are_told_on_every_rank():
    for messages in results(2, refused):
        partial, shapes, missing, whole_numbers = messages
        assert "Partial" in partial
        assert "partial sum" in partial
        assert "w on rank 1" in shapes
        assert "all 5 values" in missing
        assert "floating-point" in whole_numbers


def dies(rank, size):
    model = nn.parallel.DistributedDataParallel(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    monitor = se.Monitor(model, optimizer, **OPTIONS)
    for step in range(6):
        if rank == 1 and step == 4:
            os._exit(7)
        for p in model.parameters():  # no collective of the training's own
            p.data.add_(1e-3)
        monitor.step()
    return "went on"


def test_a_rank_that_dies_ends_the_others_with_an_error():
    survivor, dead = run_ranks(2, dies)
    assert dead is None
    assert isinstance(survivor, Failure)
    assert survivor.kind == "RunError"
    assert "all 2 ranks" in survivor.message


def alone(rank, size):
    from spectral_edge.observe import ranks

    ranks.JOIN_SECONDS = 1.0
    if rank == 0:
        try:
            se.Monitor(network())
        except se.InputError as error:
            return str(error)
    return ""


def test_a_monitor_on_one_rank_only_is_told_so():
    message = results(2, alone)[0]
    assert "none on rank 1" in message
    assert "process_group=False" in message


def failing(rank, size):
    """Rank 1 cannot observe at step 4; a tensor appears at step 7; rank 0 is NaN at step 10; steps differ at 13."""
    import warnings

    weights = {"a": torch.zeros(5), "b": torch.zeros(3)}

    class Source:
        broken = False

        def named_tensors(self):
            if self.broken:
                raise OSError("no such shard")
            return list(weights.items())

    source = Source()
    generator = torch.Generator().manual_seed(3)
    monitor = se.Monitor(source, window=2, every=1, horizon=4, engine="exact")
    said, full = [], []
    for step in range(1, 17):
        for tensor in weights.values():
            tensor += torch.randn(tensor.shape, generator=generator)
        source.broken = rank == 1 and step == 4
        if step == 7:
            weights["c"] = torch.zeros(2)
        if rank == 0 and step == 10:
            weights["a"][0] = torch.nan
        if step == 11:
            weights["a"][0] = 0.0
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            reading = monitor.step(step=step + 100 * (step == 13 and rank))
        said += [(step, str(w.message)) for w in caught]
        full.append(reading is not None)
    return said, full, [note.outcome for note in monitor.trace.notes] if rank == 0 else None


def test_trouble_on_one_rank_empties_the_window_on_all():
    (said, full, outcomes), (others, theirs, _) = results(2, failing)
    assert full == theirs
    # Empty after steps 4 (no row), 7 (another segment), 10 (NaN), 13 (no row) and 14 (rank 1 turned back).
    assert [step for step, reading in enumerate(full, start=1) if reading] == [2, 3, 9, 16]
    assert any("no such shard" in text for step, text in others if step == 4)
    assert any("another rank could not observe" in text for step, text in said if step == 4)
    assert any("appeared: c" in text for _, text in said)
    assert any("different steps" in text for step, text in said if step == 13)
    assert {Outcome.FAILED, Outcome.PARAMETERS_CHANGED, Outcome.NON_FINITE} <= set(outcomes)


def drifting(rank, size):
    import warnings

    model = network()
    monitor = se.Monitor(model, **OPTIONS)
    generator = torch.Generator().manual_seed(3)
    drifts, said = [], []
    for step in range(1, 7):
        for tensor in model.parameters():
            tensor.data.add_(1e-2 * torch.randn(tensor.shape, generator=generator))
        if step == 5 and rank == 2:
            model[2].weight.data.mul_(1.01)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            reading = monitor.step()
        said += [str(w.message) for w in caught]
        drifts.append(None if reading is None else reading.replica_drift)
    norm = torch.cat([p.detach().flatten() for p in model.parameters()]).norm()
    return drifts, said, float(0.01 / 1.01 * model[2].weight.detach().norm() / norm)


def test_replicas_that_drift_apart_are_seen():
    (drifts, said, _), _, (_, _, true) = results(3, drifting)
    assert drifts[:4] == [None, None, 0.0, 0.0]
    assert drifts[4] == pytest.approx(true, rel=0.6)
    assert len(said) == 1
    assert "ranks 0 and 2" in said[0]


def continues(rank, size, states, stop, options):
    """Trains from the states of a number of ranks on, or from scratch, and gives its own state and readings."""
    model = network()
    monitor = se.Monitor(model, **options, **OPTIONS)
    generator = torch.Generator().manual_seed(5)
    begun = 0
    if states is not None:
        begun = states[0]["step"]
        monitor.load_state_dict(states)
    sigmas = []
    for step in range(1, stop + 1):
        for tensor in model.parameters():
            tensor.data.add_(torch.randn(tensor.shape, generator=generator))
        if step > begun:
            reading = monitor.step()
            sigmas.append(None if reading is None else reading.sigma)
    return monitor.state_dict(), sigmas


@pytest.mark.parametrize(
    "options",
    [{"engine": "exact", "ladder": 1}, pytest.param(SKETCH, marks=pytest.mark.slow)],
    ids=["exact", "sketch"],
)
def test_resuming_on_another_number_of_ranks(options):
    uninterrupted = results(2, continues, None, 9, options)[0][1]
    states = [state for state, _ in results(2, continues, None, 5, options)]
    for size in (1, 3):
        resumed = results(size, continues, states, 9, options)[0][1]
        for ours, truth in zip(resumed, uninterrupted[5:], strict=True):
            np.testing.assert_allclose(ours, truth, rtol=1e-12)


def incomplete(rank, size, states):
    monitor = se.Monitor(network(), engine="exact", ladder=1, **OPTIONS)
    try:
        monitor.load_state_dict(states[:1])
    except se.InputError as error:
        return str(error)
    return ""


def test_a_missing_part_of_the_state_is_named():
    states = [state for state, _ in results(2, continues, None, 5, {"engine": "exact", "ladder": 1})]
    message = results(1, incomplete, states)[0]
    assert "states of all ranks" in message


def many_ranks(rank, size):
    """Auto on ranks that each count few parameters: exact, in bfloat16."""
    weights = {"w": torch.zeros(40, 50)}
    monitor = se.Monitor(weights, cells=64, window=2, every=1)
    single = se.Monitor(weights, cells=64, window=2, every=1, process_group=False)
    weights["w"] += 1.0
    monitor.step()
    single.step()
    return [m.trace.metadata["engine"] for m in (monitor, single)] if rank == 0 else dist.get_rank()


def test_many_ranks_get_the_exact_engine():
    ours, single = results(2, many_ranks)[0]
    assert (ours["name"], ours["ring_dtype"], ours["ranks"]) == ("exact", "bfloat16", 2)
    assert single["name"] == "sketch"


@pytest.mark.parametrize("kind", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp"])
def test_the_example_runs_under_torchrun(kind, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(EXAMPLE), kind],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"2 ranks, {kind}: EdgeReading(step=40" in done.stdout
    assert len(se.open_trace(tmp_path / "runs" / "distributed").steps) == 20
