"""Every format of checkpoints gives the rows of the same series in memory, without holding more than it says."""

import json
import pickle
import re
import sys
import types
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from tests.support import series

import spectral_edge as se
from spectral_edge.observe import Shard, UnreadableError, snapshots
from spectral_edge.observe.snapshots.mapped import mapped

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def pairs(states, steps=series.STEPS):
    return list(zip(steps, states, strict=False))


@pytest.mark.parametrize("engine", ["exact", "sketch"])
@pytest.mark.parametrize("kind", series.FORMATS, ids=lambda kind: kind.__name__)
def test_files_give_the_rows_of_the_series_in_memory(tmp_path, kind, engine):
    states = series.states()
    folder = series.write(tmp_path / "run", kind, states)
    found = se.scan(folder, engine=engine, cells=40)
    truth = se.scan(pairs(states), engine=engine, cells=40)
    assert found.steps.tolist() == list(series.STEPS[1:])
    names = {t.name for t in truth.segments[0].inventory.tensors}
    assert {t.name for t in found.segments[0].inventory.tensors} == names
    if engine == "exact":
        for name in names:
            np.testing.assert_array_equal(found.lag_rows(name), truth.lag_rows(name))
        np.testing.assert_array_equal(found.row_metadata("moved_fraction"), truth.row_metadata("moved_fraction"))
    elif kind is not series.sharded and [t.name for t in found.segments[0].inventory.tensors] == list(states[0]):
        np.testing.assert_array_equal(found.lag_rows(), truth.lag_rows())
    else:  # tensors stand in another order, which is another sketch
        np.testing.assert_allclose(found.lag_rows()[:, 0], truth.lag_rows()[:, 0], rtol=1.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_of_safetensors(tmp_path, dtype):
    states = series.states(dtype=dtype)
    folder = series.write(tmp_path / "run", series.safetensors, states)
    found = se.scan(folder)
    np.testing.assert_array_equal(found.lag_rows("layers.0.bias"), se.scan(pairs(states)).lag_rows("layers.0.bias"))
    assert found.segments[0].inventory.tensors[0].dtype == str(dtype).removeprefix("torch.")


def live(monkeypatch):
    """Counts loaded tensors: how many are held at once, and how often each is loaded."""
    counts = {"now": 0, "most": 0, "loads": {}}
    held = Shard.held.__wrapped__

    def counting(shard):
        if shard.resident:
            yield from held(shard)
            return
        counts["now"] += 1
        counts["most"] = max(counts["most"], counts["now"])
        counts["loads"][id(shard)] = counts["loads"].get(id(shard), 0) + 1
        try:
            yield from held(shard)
        finally:
            counts["now"] -= 1

    monkeypatch.setattr(Shard, "held", contextmanager(counting))
    return counts


@pytest.mark.parametrize(("engine", "most"), [("exact", 1), ("sketch", 2)])
def test_one_tensor_is_loaded_at_a_time_and_each_once(tmp_path, monkeypatch, engine, most):
    folder = series.write(tmp_path / "run", series.distributed, series.states())
    kept = []
    monkeypatch.setattr(
        import_module("spectral_edge.observe.snapshots.distributed"),
        "_load",
        lambda reader, key, shape, dtype: kept.append(key) or torch.zeros(shape, dtype=dtype) + len(kept),
    )
    counts = live(monkeypatch)
    se.scan(folder, engine=engine, cells=40)
    assert counts["now"] == 0
    assert counts["most"] <= most  # in a sketch those of one group: layers.0 has two tensors
    assert len(kept) == len(series.STEPS) * 4


def test_what_a_file_holds_is_let_go_after_its_snapshot(tmp_path):
    folder = series.write(tmp_path / "run", series.old_torch_file, series.states(3))
    found, _ = snapshots(folder)
    snapshot = next(found)
    with snapshot.open() as tensors:
        shard = tensors["embed.weight"]
        assert shard.values.shape == (66,)
    with pytest.raises(se.InputError, match="expected an open checkpoint, got a closed one"):
        _ = shard.values


def test_tied_tensors_of_a_torch_file_count_once(tmp_path):
    for step in range(4):
        tensor = torch.randn(6, 5, generator=torch.Generator().manual_seed(step))
        torch.save({"embed.weight": tensor, "head.weight": tensor}, tmp_path / f"step-{step}.pt")
    assert se.scan(tmp_path).parameter_count == 30


class Trap:
    """What would run code if it were unpickled."""

    def __reduce__(self):
        return (Path("unpickled").touch, ())


def test_pickles_are_never_run_unless_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = series.write(tmp_path / "run", series.distributed, series.states())
    for place in folder.glob("*/.metadata"):
        metadata = pickle.loads(place.read_bytes())
        metadata.planner_data = Trap()
        place.write_bytes(pickle.dumps(metadata))
    with pytest.raises(se.InputError, match=r"got a pickled builtins\.getattr; pass allow_pickle=True") as caught:
        se.scan(folder)
    assert "\n" not in str(caught.value)
    assert not Path("unpickled").exists()
    assert len(se.scan(folder, allow_pickle=True).steps) == len(series.STEPS) - 1
    assert Path("unpickled").exists()


def test_safetensors_are_preferred_to_the_same_weights_pickled(tmp_path):
    states = series.states()
    folder = series.write(tmp_path / "run", series.trainer, states)
    for inner in folder.glob("checkpoint-*"):
        torch.save({"w": Trap()}, inner / "pytorch_model.bin")
    assert len(se.scan(folder).steps) == len(states) - 1


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])


def drop_part(folder):
    next((folder / "checkpoint-500").glob("*-00002-of-00002.*")).unlink()


def cut_part(folder):
    cut(next((folder / "checkpoint-500").glob("*-00002-of-00002.*")))


def cut_index(folder):
    cut(next((folder / "checkpoint-500").glob("*.index.json")))


def cut_data(folder):
    cut(next((folder / "step-500").glob("*.distcp")))


def cut_metadata(folder):
    cut(folder / "step-500" / ".metadata")


def grow_header(folder):
    path = folder / "step-500.safetensors"
    path.write_bytes((1 << 40).to_bytes(8, "little") + path.read_bytes()[8:])


def empty(folder):
    (folder / "step-500.safetensors").write_bytes(b"")


def another_header(folder):
    path = folder / "step-500.safetensors"
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 15]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"0" * 15)


@pytest.mark.parametrize(
    ("kind", "damage", "said"),
    [
        (series.sharded, drop_part, "no such file"),
        (series.sharded, cut_part, "of .* bytes"),
        (series.sharded, cut_index, "cannot be read"),
        (series.sharded_bin, drop_part, "no such file"),
        (series.sharded_bin, cut_part, "cannot be read"),
        (series.parts_without_index, drop_part, "no such file"),
        (series.distributed, cut_data, "of .* bytes"),
        (series.distributed, cut_metadata, "cannot be read"),
        (series.safetensors, grow_header, "no safetensors header"),
        (series.safetensors, empty, "no safetensors header"),
        (series.safetensors, another_header, "w of shape .4,. in 15 bytes"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_checkpoint_is_named_and_left_out(tmp_path, kind, damage, said):
    folder = series.write(tmp_path / "run", kind, series.states())
    whole = se.scan(folder)
    damage(folder)
    with pytest.warns(se.SpectralEdgeWarning):
        trace = se.scan(folder)
    assert [(n.step, n.outcome.name) for n in trace.notes] == [(500, "FAILED"), (600, "HOLE")]
    assert trace.steps.tolist() == [step for step in series.STEPS[1:] if step not in (500, 600)]
    assert re.search(said, trace.notes[0].message)
    np.testing.assert_array_equal(trace.lag_rows()[:3], whole.lag_rows()[:3])


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader_of_safetensors(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "x.safetensors"
    for start in (b"", len(data).to_bytes(8, "little")):
        path.write_bytes(start + data)
        with suppress(UnreadableError):
            mapped(path)


def test_steps_can_be_given(tmp_path):
    states = series.states(5)
    for index, state in enumerate(states):
        save_file(state, tmp_path / f"tokens{index * 7}B-v2.safetensors")
    told = [0, 10, 20, 30, 40]
    assert se.scan(tmp_path, steps=told).steps.tolist() == told[1:]
    by_name = se.scan(tmp_path, steps=lambda name: int(Path(name).stem[6:].split("B")[0]))
    assert by_name.steps.tolist() == [7, 14, 21, 28]
    with pytest.raises(se.InputError, match=r"steps: expected 5, one for each of .*, got 2"):
        se.scan(tmp_path, steps=[1, 2])
    with pytest.raises(se.InputError, match="expected files or revisions as source"):
        se.scan(pairs(states), steps=[1, 2])
    with pytest.raises(se.InputError, match=r"steps, for .*: expected a whole number, got '0'"):
        se.scan(tmp_path, steps=lambda name: "0")


class Hub:
    """A repository that lies on the disk."""

    def __init__(self, folder):
        self.folder, self.fetched, self.places = folder, [], []

    def revisions(self, repository):
        assert repository == "owner/name"
        return ["main", *(place.name for place in self.folder.iterdir())]

    def files(self, repository, revision):
        return [*(path.name for path in (self.folder / revision).iterdir()), "onnx/model.bin", "README.md"]

    def fetch(self, repository, revision, file, folder):
        data = (self.folder / revision / file).read_bytes()
        self.places.append(folder)
        assert len({place for place in self.places if place.exists()}) == 1
        self.fetched.append((revision, file))
        (folder / file).write_bytes(data)
        return folder / file


@pytest.mark.parametrize("kind", [series.trainer, series.sharded])
def test_revisions_of_a_hub_are_fetched_one_at_a_time_and_deleted(tmp_path, kind):
    states = series.states()
    folder = series.write(tmp_path / "run", kind, states)
    if kind is series.trainer:
        (folder / "model.safetensors").unlink()
    hub = Hub(folder)
    for source, revisions in (("hub:o", None), ("hf://o", "checkpoint-*"), ("hub:o", "re:t-\\d+$")):
        source = source.replace("o", "owner/name")
        trace = se.scan(source, hub=hub, revisions=revisions)
        np.testing.assert_array_equal(trace.lag_rows("layers.0"), se.scan(pairs(states)).lag_rows("layers.0"))
    assert not any(place.exists() for place in hub.places)
    assert not any("optimizer" in file or "training_args" in file for _, file in hub.fetched)


def test_a_hub_that_fails_is_told_of_in_one_line(tmp_path, monkeypatch):
    hub = Hub(series.write(tmp_path / "run", series.sharded, series.states()))
    with pytest.raises(se.InputError, match=r"expected revisions that match 'v\*', got main, checkpoint"):
        se.scan("hub:owner/name", hub=hub, revisions="v*")
    with pytest.raises(se.InputError, match="expected a regular expression"):
        se.scan("hub:owner/name", hub=hub, revisions="re:(")
    with pytest.raises(se.InputError, match="expected a repository on the hub as source"):
        se.scan(tmp_path / "run", revisions="v*")
    fetch = hub.fetch

    def broken(repository, revision, file, folder):
        if revision == "checkpoint-500":
            raise OSError("connection reset\nby peer")
        return fetch(repository, revision, file, folder)

    hub.fetch = broken
    with pytest.warns(se.SpectralEdgeWarning):
        trace = se.scan("hub:owner/name", hub=hub)
    assert "checkpoint-500 cannot be read (connection reset)" in trace.notes[0].message
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(se.MissingExtraError, match=r"spectral-edge\[hub\]"):
        se.scan("hub:owner/name")


def test_the_client_of_the_hub_asks_what_its_library_offers(tmp_path, monkeypatch):
    folder = series.write(tmp_path / "run", series.sharded, series.states())
    hub = Hub(folder)
    named = [types.SimpleNamespace(name=name) for name in hub.revisions("owner/name")]
    api = types.SimpleNamespace(
        list_repo_refs=lambda repository: types.SimpleNamespace(branches=named[:3], tags=named[3:]),
        list_repo_files=lambda repository, revision: hub.files(repository, revision),
    )

    def download(repository, file, revision, local_dir):
        return str(hub.fetch(repository, revision, file, local_dir))

    library = types.SimpleNamespace(HfApi=lambda: api, hf_hub_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    assert se.scan("hub:owner/name").steps.tolist() == list(series.STEPS[1:])
