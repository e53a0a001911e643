"""Family 1, the grok criteria and the runner: exact data and sizes, and bit-identical resumption."""

import hashlib
import json
import os
import random
import shlex
import signal
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import spectral_edge as se
from spectral_edge.errors import InputError
from spectral_edge.experiments import (
    Progress,
    RunConfig,
    SampledTask,
    TaskConfig,
    check_folder,
    configure,
    run,
    runner,
)
from spectral_edge.experiments.families.arithmetic import OPERATIONS, ArithmeticConfig, arithmetic_data
from spectral_edge.experiments.folder import RunFolder
from spectral_edge.experiments.perturbation import Batch
from spectral_edge.transitions import CRITERIA, transition_step, transition_steps

BY_NAME = {criterion.name: criterion for criterion in CRITERIA}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny matrices gain nothing from a second thread, and a busy machine makes them wait for it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(**options):
    settings = {
        "p": 7,
        "d_model": 8,
        "d_feedforward": 8,
        "batch_size": 8,
        "steps": 40,
        "window": 3,
        "horizon": 6,
        "observe_every": 2,
        "eval_every": 5,
        "checkpoint_every": 8,
    }
    return configure("arithmetic", **{**settings, **options})


# ---- data and model


def naive_label(operation, a, b, p):
    """Each operation written out again, by repeated addition where it can be."""
    square = {"x2_y2": (1, 0, 1), "x2_xy_y2": (1, 1, 1)}
    if operation == "add":
        return sum([a, b]) % p
    if operation == "sub":
        return next(c for c in range(p) if (b + c) % p == a)
    if operation == "mul":
        return sum([a] * b) % p
    if operation == "x3_xy":
        return (pow(a, 3, p) + (a * b) % p) % p
    aa, ab, bb = square[operation]
    return (aa * pow(a, 2, p) + ab * ((a * b) % p) + bb * pow(b, 2, p)) % p


@pytest.mark.parametrize("operation", ["add", "sub", "mul", "x2_y2", "x2_xy_y2", "x3_xy"])
def test_data_of_every_operation(operation):
    data = arithmetic_data(ArithmeticConfig(operation=operation), seed=42)
    first = 1 if operation == "mul" else 0
    assert len(data.pairs) == (9_216 if operation == "mul" else 9_409)
    assert data.train_size == (4_608 if operation == "mul" else 4_704)
    rows = [tuple(row) for row in data.pairs.tolist()]
    assert set(rows) == {(a, b) for a in range(first, 97) for b in range(first, 97)}
    assert data.labels.tolist() == [naive_label(operation, a, b, 97) for a, b in rows]


def test_all_operations_are_tested():
    assert list(OPERATIONS) == ["add", "sub", "mul", "x2_y2", "x2_xy_y2", "x3_xy"]


@pytest.mark.parametrize(("size", "seed"), [("reference", 42), ("reference", 137), ("cpu", 2024)])
def test_split_is_pythons_shuffle_of_row_major_pairs(size, seed):
    config = configure("arithmetic", size=size, seed=seed)
    data = arithmetic_data(config.task, seed=seed)
    p = config.task.p
    order = list(range(p * p))
    random.Random(seed).shuffle(order)  # Fisher-Yates moves positions, whatever is in them
    expected = np.array([[i // p, i % p, (i // p + i % p) % p] for i in order], dtype=np.int64)
    found = torch.cat([data.pairs, data.labels[:, None]], dim=1).numpy()
    assert hashlib.sha256(found.tobytes()).hexdigest() == hashlib.sha256(expected.tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("size", "parameters"), [("cpu", 72_747), ("middle", 280_635), ("reference", 290_401), ("slow", 422_881)]
)
def test_parameter_counts(size, parameters):
    config = configure("arithmetic", size=size)
    task = config.task.build(seed=42, weight_decay=1.0, device="cpu")
    assert sum(parameter.numel() for parameter in task.model.parameters()) == parameters


def test_the_published_attention_group():
    task = configure("arithmetic", size="reference").task.build(seed=42, weight_decay=1.0, device="cpu")
    names = [name for group, globs in task.groups.items() if group.startswith("attention") for name in globs]
    parameters = dict(task.model.named_parameters())
    counted = [parameters[name].numel() for name in names]
    assert len(counted) == 4
    assert sum(counted) == 131_072


def test_layers_start_identical():
    task = configure("arithmetic", size="slow").task.build(seed=42, weight_decay=1.0, device="cpu")
    first, *others = task.model.encoder.layers
    assert len(others) == 2
    for other in others:
        for one, two in zip(first.parameters(), other.parameters(), strict=True):
            assert one is not two
            assert torch.equal(one, two)


def test_optimizer_decays_every_parameter():
    task = tiny().task.build(seed=1, weight_decay=0.7, device="cpu")
    (group,) = task.optimizer.param_groups
    assert len(group["params"]) == len(list(task.model.parameters()))
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (1e-3, (0.9, 0.98), 1e-8, 0.7)


def test_one_step_is_clipped_adamw():
    task = tiny(max_grad_norm=1e-2).task.build(seed=3, weight_decay=1.0, device="cpu")
    before = [parameter.detach().clone().double() for parameter in task.model.parameters()]
    rows = torch.randint(task.data.train_size, (8,), generator=torch.Generator().manual_seed(3))
    loss = nn.functional.cross_entropy(task.model(task.data.pairs[rows]), task.data.labels[rows])
    gradients = [g.double() for g in torch.autograd.grad(loss, list(task.model.parameters()))]
    norm = torch.sqrt(sum((g * g).sum() for g in gradients))
    step = task.train_step()
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    assert step.grad_norm == pytest.approx(norm.item(), rel=1e-5)
    for old, gradient, new in zip(before, gradients, task.model.parameters(), strict=True):
        clipped = gradient * min(1.0, 1e-2 / norm)
        # First AdamW step: both moments are unbiased copies of the gradient and of its square.
        expected = old * (1 - 1e-3) - 1e-3 * clipped / (clipped.abs() + 1e-8)
        firm = clipped.abs() > 1e-7  # where rounding of the gradient does not decide the sign
        torch.testing.assert_close(new.detach().double()[firm], expected[firm], rtol=1e-4, atol=2e-6)


def test_evaluation_covers_the_whole_table_and_leaves_the_model_training():
    task = tiny().task.build(seed=3, weight_decay=1.0, device="cpu")
    metrics = task.evaluate()
    data, cut = task.data, task.data.train_size
    with torch.no_grad():
        hits = [(task.model(data.pairs[i : i + 1]).argmax() == data.labels[i]).item() for i in range(len(data.pairs))]
    assert metrics["train_accuracy"] == pytest.approx(np.mean(hits[:cut]))
    assert metrics["test_accuracy"] == pytest.approx(np.mean(hits[cut:]))
    assert set(metrics) == {"train_accuracy", "test_accuracy", "train_loss", "test_loss"}
    assert task.model.training


def test_building_depends_on_the_seed_alone():
    config = tiny().task
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = config.build(seed=5, weight_decay=1.0, device="cpu")
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    two = config.build(seed=5, weight_decay=0.0, device="cpu")
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(a, b)


# ---- configurations


@pytest.mark.parametrize(
    "options",
    [
        {"operation": "div"},
        {"size": "huge"},
        {"p": 91},
        {"p": 1},
        {"steps": 0},
        {"steps": 2.5},
        {"seed": -1},
        {"window": 1},
        {"window": 50},
        {"observe_every": 0},
        {"eval_every": True},
        {"checkpoint_every": 0},
        {"weight_decay": -1.0},
        {"weight_decay": float("nan")},
        {"weight_decay": "1"},
        {"train_fraction": 1.0},
        {"train_fraction": 0.0},
        {"d_model": 10},
        {"learning_rate": 0.0},
        {"device": "abacus"},
        {"momentum": 0.9},
    ],
)
def test_bad_settings_are_refused_before_any_work(options):
    with pytest.raises(InputError):
        configure("arithmetic", **options)


def test_unknown_family_is_refused():
    with pytest.raises(InputError, match="arithmetic"):
        configure("geometry")


def test_control_differs_in_weight_decay_only():
    config = configure("arithmetic", size="cpu", seed=7)
    assert config.weight_decay == 1.0
    assert config.control() == replace(config, weight_decay=0.0)


@pytest.mark.parametrize("size", ArithmeticConfig.sizes)
def test_published_windows_are_strides_of_the_trace(size):
    config = configure("arithmetic", size=size)
    published = {"cpu": 50, "middle": 50, "reference": 100, "slow": 2_000}[size]
    stride, rest = divmod(published, config.observe_every)
    assert rest == 0
    assert config.horizon >= 2 * config.window * stride


def test_command_repeats_the_configuration():
    config = tiny(operation="x2_y2", seed=9, weight_decay=0.25)
    program, flag, code = shlex.split(config.command("runs/it's"))
    assert (program, flag) == ("python", "-c")
    found = []
    statement = code.split("; ", 1)[1]
    names = {"configure": configure, "run": lambda *args: found.append(args)}
    exec(statement, names)
    assert found == [(config, "runs/it's")]


# ---- criteria


def test_sustained_criterion_waits_for_three_evaluations():
    steps = [1, 100, 200, 300, 400, 500, 600]
    accuracy = [0.0, 0.96, 0.94, 0.95, 0.97, 0.99, 0.5]
    assert transition_steps(steps, accuracy) == {
        "sustained_95": 300,
        "first_95": 100,
        "first_90": 100,
        "sustained_98": None,
        "stop_98": None,
    }


def test_stop_rule_is_the_third_of_three():
    steps, accuracy = [1, 50, 100, 150, 200], [0.1, 0.98, 0.99, 1.0, 0.2]
    assert transition_step(steps, accuracy, BY_NAME["sustained_98"]) == 50
    assert transition_step(steps, accuracy, BY_NAME["stop_98"]) == 150


def test_relapse_does_not_undo_it_and_a_first_relapse_postpones_it():
    steps = list(range(0, 900, 100))
    assert transition_step(steps, [0.1, 0.96, 0.96, 0.96, 0.1, 0.1, 0.1, 0.1, 0.1]) == 100
    assert transition_step(steps, [0.1, 0.96, 0.96, 0.1, 0.96, 0.1, 0.99, 0.99, 0.99]) == 600


@pytest.mark.parametrize(
    "accuracy", [[], [0.99], [0.99, 0.99], [0.2, 0.3, 0.4, 0.5], [float("nan")] * 4, [0.9499999] * 4]
)
def test_never_is_none(accuracy):
    assert transition_step(list(range(1, len(accuracy) + 1)), accuracy) is None


def test_curves_that_are_not_curves_are_refused():
    with pytest.raises(InputError, match="one length"):
        transition_step([1, 2], [0.5])
    with pytest.raises(InputError, match="increasing"):
        transition_step([1, 2, 2], [0.5, 0.6, 0.7])


# ---- runner


class Recorder:
    """Collects readings; raises where it is told to."""

    def __init__(self, *, fail_at=None, error=KeyboardInterrupt):
        self.readings, self.losses, self.fail_at, self.error = {}, {}, fail_at, error

    def __call__(self, progress: Progress):
        self.losses[progress.step] = progress.loss
        if progress.reading is not None:
            reading = progress.reading
            values = (reading.k_star_raw, reading.gap_ratio, tuple(np.asarray(reading.sigma).tolist()))
            self.readings[reading.step] = values
        if progress.step == self.fail_at:
            if self.error is signal.SIGINT:
                os.kill(os.getpid(), signal.SIGINT)
            else:
                raise self.error


def weights(folder):
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    return state["task"]


def assert_same(one, two):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    else:
        assert one == two


def test_a_finished_run_says_what_it_did(tmp_path):
    seen = []
    result = run(tiny(), tmp_path / "a", on_progress=seen.append)
    assert [progress.step for progress in seen] == list(range(1, 41))
    assert result.metrics["step"] == [1, 5, 10, 15, 20, 25, 30, 35, 40]
    assert result.parameter_count == result.watched_count == 56 + 16 + 2 * 464 + 16 + 63
    assert (result.family, result.size, result.seed, result.steps) == ("arithmetic", "cpu", 42, 40)
    assert set(result.grok) == set(BY_NAME)
    assert result.final_metrics["test_loss"] == result.metrics["test_loss"][-1] == seen[-1].metrics["test_loss"]
    written = json.loads((tmp_path / "a" / "result.json").read_text())
    assert written["config"]["task"]["p"] == 7
    assert str(tmp_path) not in json.dumps(written)
    assert (tmp_path / "a" / written["trace"]).is_dir()
    assert not list((tmp_path / "a").glob("*.tmp"))


def test_the_last_step_is_evaluated_even_off_the_cadence(tmp_path):
    assert run(tiny(steps=7), tmp_path / "a").metrics["step"] == [1, 5, 7]


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    first = run(tiny(), tmp_path / "a")
    monkeypatch.setattr(ArithmeticConfig, "build", lambda *_, **__: pytest.fail("built again"))
    assert run(tiny(), tmp_path / "a") == first


@pytest.mark.parametrize("error", [KeyboardInterrupt, signal.SIGINT, RuntimeError], ids=["raised", "signal", "crash"])
@pytest.mark.parametrize("fail_at", [1, 19, 40])
def test_resumption_changes_nothing(tmp_path, error, fail_at):
    whole, before, after = Recorder(), Recorder(fail_at=fail_at, error=error), Recorder()
    expected = run(tiny(), tmp_path / "whole", on_progress=whole)
    with pytest.raises(RuntimeError if error is RuntimeError else KeyboardInterrupt):
        run(tiny(), tmp_path / "parts", on_progress=before)
    handler = signal.getsignal(signal.SIGINT)
    # A crash leaves records behind that are newer than the checkpoint, and the monitor says that it branches there.
    branch = (
        pytest.warns(se.SpectralEdgeWarning, match="earlier checkpoint") if error is RuntimeError else nullcontext()
    )
    with branch:
        found = run(tiny(), tmp_path / "parts", on_progress=after)
    assert signal.getsignal(signal.SIGINT) is handler
    if error is not RuntimeError:
        assert min(after.losses, default=fail_at + 1) == fail_at + 1
    assert {**before.losses, **after.losses} == whole.losses
    assert {**before.readings, **after.readings} == whole.readings
    assert len(whole.readings) == 18
    assert found.metrics == expected.metrics
    assert found.grok == expected.grok
    assert_same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    one, two = (se.open_trace(tmp_path / name / found.trace) for name in ("whole", "parts"))
    np.testing.assert_array_equal(one.steps, two.steps)
    np.testing.assert_array_equal(one.lag_rows("attention_*"), two.lag_rows("attention_*"))
    for name in expected.final_metrics:
        np.testing.assert_array_equal(one.metrics(name), two.metrics(name))
    assert one.metrics("test_loss")[0].tolist() == expected.metrics["step"]


def test_a_metric_that_an_older_version_did_not_log_begins_at_the_resumption(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tiny(), tmp_path / "a", on_progress=Recorder(fail_at=12))
    folder = RunFolder(tmp_path / "a", config=tiny().to_dict())
    state = folder.load_checkpoint(device="cpu")
    state["metrics"].pop("commutator")
    folder.save_checkpoint({name: value for name, value in state.items() if name != "config"})
    metrics = run(tiny(), tmp_path / "a").metrics
    assert metrics["step"] == [1, 5, 10, 15, 20, 25, 30, 35, 40]
    assert metrics["commutator"][:3] == [None] * 3
    assert all(value > 0 for value in metrics["commutator"][3:])


@pytest.mark.parametrize("finished", [False, True])
def test_another_configuration_is_refused(tmp_path, finished):
    if finished:
        run(tiny(), tmp_path / "a")
    else:
        with pytest.raises(KeyboardInterrupt):
            run(tiny(), tmp_path / "a", on_progress=Recorder(fail_at=9))
    with pytest.raises(InputError, match=r"task\.p=7, weight_decay=1\.0.*task\.p=5, weight_decay=0\.0"):
        run(tiny(p=5).control(), tmp_path / "a")


def test_checkpoints_come_by_time_too_and_change_nothing(tmp_path, monkeypatch):
    config = tiny(checkpoint_every=1000)
    whole, before, after = Recorder(), Recorder(fail_at=19, error=RuntimeError), Recorder()
    run(config, tmp_path / "whole", on_progress=whole)
    monkeypatch.setattr(runner, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(RuntimeError):
        run(config, tmp_path / "parts", on_progress=before)
    run(config, tmp_path / "parts", on_progress=after)
    assert min(after.losses) == 19  # the checkpoint of step 18, which no cadence asked for
    assert {**before.losses, **after.losses} == whole.losses
    assert {**before.readings, **after.readings} == whole.readings


def test_a_folder_is_checked_without_training(tmp_path):
    check_folder(tiny(), tmp_path / "new" / "a")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt):
        run(tiny(), tmp_path / "a", on_progress=Recorder(fail_at=3))
    check_folder(tiny(), tmp_path / "a")
    for refused in (check_folder, run):
        with pytest.raises(InputError, match="weight_decay=0"):
            refused(tiny().control(), tmp_path / "a")
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="expected a folder that can be written, got Not a directory"):
            refused(tiny(), tmp_path / "file" / "a")


def test_ignored_ctrl_c_stays_ignored(tmp_path):
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run(tiny(), tmp_path / "a", on_progress=Recorder(fail_at=5, error=signal.SIGINT)).steps == 40
    finally:
        signal.signal(signal.SIGINT, previous)


def test_a_result_in_words(tmp_path):
    result = replace(run(tiny(steps=5), tmp_path / "a"), steps=5000, grok={"sustained_95": 2950, "first_90": None})
    assert result.sentences == [
        "test accuracy of at least 0.95 in 3 evaluations running: step 2,950",
        "first test accuracy of at least 0.90: never in 5,000 steps",
    ]


def test_without_resume_a_used_folder_is_refused(tmp_path):
    run(tiny(), tmp_path / "a")
    with pytest.raises(InputError, match="without a run"):
        run(tiny(), tmp_path / "a", resume=False)


def test_a_torn_checkpoint_is_named(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"torn")
    with pytest.raises(InputError, match="cannot be read"):
        run(tiny(), tmp_path)


def test_a_result_has_a_line_for_a_column_and_says_the_same(tmp_path):
    metrics = {"step": list(range(100)), "loss": [0.5, None, -1e-9], "empty": [], "nested": [[1, 2], [3]]}
    result = {"config": {}, "metrics": metrics, "command": 'run([\n 1, 2\n], "x")', "names": ["a", "b [\n]"]}
    folder = RunFolder(tmp_path, config={})
    folder.save_result(result)
    assert folder.load_result() == result
    assert len((tmp_path / "result.json").read_text().splitlines()) < 25


def test_checkpoints_hold_tensors_and_arrays_and_run_no_code(tmp_path):
    folder = RunFolder(tmp_path, config={"steps": 3, "task": {"betas": (0.9, 0.98)}})
    state = {
        "tensor": torch.arange(3.0),
        "array": np.eye(2),
        "empty": np.empty((0, 3), dtype=np.int64),
        "flags": np.array([True, False]),
        "names": np.array(["a", "bc"]),
        "scalar": np.float64(0.1),
        "plain": [1, 2.5, None, {"x": (True, "y")}],
    }
    folder.save_checkpoint(state)
    found = folder.load_checkpoint(device="cpu")
    assert found["plain"] == state["plain"]
    for name in ("tensor", "array", "empty", "flags", "names", "scalar"):
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(state[name]))
    torch.save({"config": {}, "call": os.getcwd}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="cannot be read"):
        folder.load_checkpoint(device="cpu")


def test_running_leaves_the_callers_random_state(tmp_path):
    state = torch.get_rng_state()
    run(tiny(), tmp_path / "a")
    assert torch.equal(state, torch.get_rng_state())


class NoisyTask(SampledTask):
    """A family of another kind: dropout draws from the global state, and there is no test accuracy."""

    def batch(self, rows):
        return Batch(torch.eye(16)[rows], rows)

    def batch_loss(self, batch):
        return (self.model(batch.inputs) ** 2).mean() + 1.0

    def evaluate(self):
        return {"weight_sum": float(sum(p.sum().item() for p in self.model.parameters())), "bad": float("nan")}


@dataclass(frozen=True, kw_only=True)
class NoisyConfig(TaskConfig):
    family: ClassVar[str] = "noisy"
    sizes: ClassVar[tuple[str, ...]] = ("one",)
    rate: float = 0.5

    @classmethod
    def preset(cls, size):
        return RunConfig(
            task=cls(),
            size=size,
            weight_decay=0.1,
            steps=20,
            window=3,
            horizon=6,
            observe_every=1,
            eval_every=4,
            checkpoint_every=5,
        )

    def build(self, *, seed, weight_decay, device):
        model = nn.Sequential(nn.Linear(16, 8), nn.Dropout(self.rate), nn.Linear(8, 4))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=weight_decay)
        return NoisyTask(model, optimizer, train_size=16, batch_size=4, max_grad_norm=1.0, seed=seed)

    def lines(self, seed):
        yield from (("rows.txt", str(row)) for row in range(16))


def test_any_family_runs_and_global_randomness_resumes(tmp_path):
    config = NoisyConfig.preset("one")
    whole, before, after = Recorder(), Recorder(fail_at=7), Recorder()
    result = run(config, tmp_path / "whole", on_progress=whole)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "parts", on_progress=before)
    run(config, tmp_path / "parts", on_progress=after)
    assert {**before.losses, **after.losses} == whole.losses
    assert_same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    assert result.grok == {}
    assert result.final_metrics["bad"] is None


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_run(tmp_path, monkeypatch):
    config = tiny(steps=20)

    def full(*_):
        raise RuntimeError("enforce fail at inline_container.cc: unexpected pos")

    monkeypatch.setattr(torch, "save", full)
    with pytest.warns(
        se.errors.SpectralEdgeWarning, match=r"no checkpoint at step \d+: .*is the disk full\?.*checkpoint.pt"
    ):
        result = run(config, tmp_path / "run")
    assert result.steps == 20
    assert not list((tmp_path / "run").glob("*.tmp"))
