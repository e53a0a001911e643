"""Families 2 and 3: exact data and sizes, one trunk with several heads, and scores of the worst operation."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.encoder import arrays, encode, layer_norm
from torch import nn

from spectral_edge.errors import InputError
from spectral_edge.experiments import configure, run

STUDY = Path(__file__).parents[2] / "results" / "grokking" / "study.json"
RESULTS = {"add": lambda a, b: a + b, "mul": lambda a, b: sum([a] * b), "x2_y2": lambda a, b: pow(a, 2) + pow(b, 2)}
OPERATIONS = {"dual": ("add", "mul"), "tri": ("add", "mul", "x2_y2")}
FAMILIES = sorted(OPERATIONS)


def tiny(family, **options):
    settings = {
        "p": 7,
        "d_model": 8,
        "d_feedforward": 12,
        "batch_size": 8,
        "steps": 20,
        "window": 3,
        "horizon": 6,
        "observe_every": 2,
        "eval_every": 5,
        "checkpoint_every": 8,
    }
    return configure(family, **{**settings, **options})


def built(family, **options):
    return tiny(family, **options).task.build(seed=3, weight_decay=1.0, device="cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_pair_without_zero_and_every_result(family):
    data = configure(family, size="reference").task.build(seed=42, weight_decay=1.0, device="cpu").data
    assert data.train_size == 4_608
    order = list(range(96 * 96))
    random.Random(42).shuffle(order)
    assert data.pairs.tolist() == [[i // 96 + 1, i % 96 + 1] for i in order]
    labels = [[RESULTS[name](a, b) % 97 for name in OPERATIONS[family]] for a, b in data.pairs.tolist()]
    assert data.labels.tolist() == labels


@pytest.mark.parametrize(
    ("family", "size", "parameters", "train_size"),
    [
        ("dual", "reference", 302_914, 4_608),
        ("tri", "reference", 315_427, 4_608),
        ("dual", "cpu", 288_246, 2_354),
        ("tri", "cpu", 295_857, 2_354),
    ],
)
def test_sizes(family, size, parameters, train_size):
    task = configure(family, size=size).task.build(seed=42, weight_decay=1.0, device="cpu")
    assert sum(parameter.numel() for parameter in task.model.parameters()) == parameters
    assert task.data.train_size == train_size


@pytest.mark.parametrize("name", ["dual-42", "tri-42"])
def test_settings_are_those_of_the_recorded_study(name):
    recorded = json.loads(STUDY.read_text())["runs"][name]["config"]
    found = configure(name.split("-")[0], size="reference").to_dict()
    assert list(found["task"].items()) == list(recorded["task"].items())
    for setting in ("weight_decay", "observe_every", "eval_every", "checkpoint_every", "stop_after", "window", "seed"):
        assert found[setting] == recorded[setting]


@pytest.mark.parametrize("family", FAMILIES)
def test_groups_cover_every_parameter_once(family):
    task = configure(family, size="reference").task.build(seed=42, weight_decay=1.0, device="cpu")
    names = [name for name, _ in task.model.named_parameters()]
    covered = [name for globs in task.groups.values() for glob in globs for name in names if Path(name).match(glob)]
    assert len(covered) == len(set(covered))
    # What no group has: the norms of the layers and the biases beside their matrices.
    assert {name for name in names if name not in covered} == {
        f"encoder.layers.{layer}.{rest}"
        for layer in (0, 1)
        for rest in (
            *("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "linear1.bias", "linear2.bias"),
            *("self_attn.in_proj_bias", "self_attn.out_proj.bias"),
        )
    }
    parameters = dict(task.model.named_parameters())
    attention = [name for group, globs in task.groups.items() if group.startswith("attention_") for name in globs]
    assert sum(parameters[name].numel() for name in attention) == 131_072


def test_logits_are_those_of_a_second_implementation():
    task = built("tri", heads=2)
    for i, parameter in enumerate(task.model.parameters()):
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(i))
    w = arrays(task.model)
    found = task.logits().double().numpy()
    assert found.shape == (36, 3, 7)
    for row in (0, 35):
        tokens = w["embedding.weight"][task.data.pairs[row].numpy()] + w["position"]
        hidden = encode(w, tokens, heads=2, layers=2, causal=False)[0]
        hidden = layer_norm(hidden, w["norm.weight"], w["norm.bias"])
        expected = [w[f"heads.{name}.weight"] @ hidden + w[f"heads.{name}.bias"] for name in OPERATIONS["tri"]]
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_is_the_sum_over_operations(family):
    task = built(family)
    batch = task.batch(torch.tensor([0, 5, 5, 9]))
    chances = torch.softmax(task.model(batch.inputs).double(), dim=2)
    expected = sum(
        -np.mean([chances[row, i, batch.targets[row, i]].log().item() for row in range(4)])
        for i in range(len(OPERATIONS[family]))
    )
    assert task.batch_loss(batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_of_the_worst_operation(family):
    task = built(family)
    names, cut = OPERATIONS[family], task.data.train_size
    # Heads that always give one answer are right as often as it occurs.
    with torch.no_grad():
        for i, name in enumerate(names):
            task.model.heads[name].weight.zero_()
            task.model.heads[name].bias.copy_(10.0 * nn.functional.one_hot(torch.tensor(i + 1), 7))
    found = task.evaluate()
    labels = task.data.labels.numpy()
    train, test = (
        {name: np.mean(part[:, i] == i + 1) for i, name in enumerate(names)} for part in (labels[:cut], labels[cut:])
    )
    assert len(set(test.values())) > 1
    assert found["train_accuracy"] == pytest.approx(min(train.values()))
    assert found["test_accuracy"] == pytest.approx(min(test.values()))
    for name in names:
        assert found[f"test_accuracy_{name}"] == pytest.approx(test[name])
    # The given answer has probability 1 / (1 + 6 exp(-10)), any other exp(-10) times that.
    right = np.log1p(6 * np.exp(-10))
    for part, shares in (("train", train), ("test", test)):
        expected = sum(right + 10 * (1 - share) for share in shares.values())
        assert found[f"{part}_loss"] == pytest.approx(expected, rel=1e-5)
    assert set(found) == {"train_accuracy", "test_accuracy", "train_loss", "test_loss"} | {
        f"test_accuracy_{name}" for name in names
    }


def test_lines_are_pairs_and_results():
    config = configure("tri", p=5).task
    lines = list(config.lines(seed=1))
    assert [name for name, _ in lines] == ["train.txt"] * 11 + ["test.txt"] * 5
    rows = [tuple(map(int, line.split())) for _, line in lines]
    assert set(rows) == {(a, b, (a + b) % 5, a * b % 5, (a * a + b * b) % 5) for a in range(1, 5) for b in range(1, 5)}
    assert lines != list(config.lines(seed=2))


class Stop:
    def __init__(self, at):
        self.at = at

    def __call__(self, progress):
        if progress.step == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("family", FAMILIES)
def test_resumption_changes_nothing(tmp_path, family):
    whole = run(tiny(family), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tiny(family), tmp_path / "parts", on_progress=Stop(13))
    parts = run(tiny(family), tmp_path / "parts")
    assert parts.metrics == whole.metrics
    one, two = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["task"]["model"] for name in ("whole", "parts")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert set(whole.grok) == {"sustained_95", "first_95", "first_90", "sustained_98", "stop_98"}


@pytest.mark.parametrize("options", [{"p": 9}, {"operation": "sub"}, {"size": "slow"}, {"train_fraction": 1.0}])
def test_bad_settings_are_refused(options):
    with pytest.raises(InputError):
        configure("dual", **options)
