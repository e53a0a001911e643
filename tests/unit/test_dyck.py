"""Family 4: the published split to the string, labels, a causal network, and scores with multiplicities."""

import json
import random
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.support.encoder import arrays, encode, layer_norm
from torch import nn

from spectral_edge.errors import InputError
from spectral_edge.experiments import configure, run
from spectral_edge.experiments.families.dyck_data import UNSCORED, bracket_strings, depths, encoded

STUDY = Path(__file__).parents[2] / "results" / "grokking" / "study.json"


def tiny(**options):
    settings = {
        "d_model": 8,
        "d_feedforward": 12,
        "positions": 48,
        "train_size": 12,
        "test_size": 60,
        "batch_size": 6,
        "steps": 20,
        "window": 3,
        "horizon": 6,
        "observe_every": 2,
        "eval_every": 5,
        "checkpoint_every": 8,
    }
    return configure("dyck", **{**settings, **options})


def built(**options):
    return tiny(**options).task.build(seed=3, weight_decay=1.0, device="cpu")


def sharpened(task):
    """Parameters large enough for answers to differ from string to string."""
    for i, parameter in enumerate(task.model.parameters()):
        nn.init.normal_(parameter, std=0.7, generator=torch.Generator().manual_seed(i))
    return task


# ---- data


def test_the_published_split():
    data = configure("dyck", size="reference").task.data()
    assert (len(data.train), len(data.test)) == (50, 5_000)
    assert len(set(data.train)) == 36
    assert sum(map(len, data.train)) == 576
    assert len(set(data.test)) == 2_234
    assert sum(string in data.train for string in data.test) / 5_000 == pytest.approx(0.244, abs=5e-4)


def test_strings_are_drawn_as_published():
    """By rejection of what is not balanced instead of by rules: the same walk, from the same numbers."""
    ours, generator = bracket_strings(random.Random(5), pairs=12), random.Random(5)
    for string in islice(ours, 200):
        length = 2 * generator.randint(1, 12)
        made = ""
        while len(made) < length:
            choices = [
                bracket
                for bracket in "()"
                if made.count(")") + (bracket == ")") <= made.count("(")
                and made.count("(") + (bracket == "(") <= length // 2
            ]
            made += choices[0] if len(choices) == 1 else ("(" if generator.random() < 0.55 else ")")
        assert string == made


@given(st.integers(0, 2**32), st.integers(1, 20))
def test_strings_are_balanced_and_depths_return_to_zero(seed, pairs):
    for string in islice(bracket_strings(random.Random(seed), pairs=pairs), 5):
        assert 2 <= len(string) <= 2 * pairs
        found = depths(string)
        assert found == [string[: i + 1].count("(") - string[: i + 1].count(")") for i in range(len(string))]
        assert min(found) == found[-1] == 0
        while "()" in string:
            string = string.replace("()", "")
        assert string == ""


@pytest.mark.parametrize("train_size", [12, 50, 300])
def test_the_deduplicated_split_shares_no_string(train_size):
    data = configure("dyck", split="deduplicated", train_size=train_size).task.data()
    assert (len(data.train), len(data.test)) == (train_size, 5_000)
    assert len(set(data.train)) == train_size
    assert not set(data.train) & set(data.test)


def test_longer_strings_go_deeper_than_the_head_knows():
    data = configure("dyck").task.data()
    assert max(map(len, data.longer)) == 40
    assert max(max(depths(string)) for string in data.longer) > 12
    _, labels = encoded(data.longer, data, length=40)
    for string, row in zip(data.longer, labels.tolist(), strict=True):
        known = [depth if depth <= 12 else UNSCORED for depth in depths(string)]
        assert row == known + [UNSCORED] * (40 - len(string))


def test_training_tokens_are_brackets_and_padding():
    task = built()
    batch = task.batch(torch.arange(12))
    assert batch.inputs.shape == batch.targets.shape == (12, 24)
    for string, tokens, labels in zip(task.data.train, batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        assert "".join("()."[token] for token in tokens) == string.ljust(24, ".")
        assert labels == depths(string) + [-100] * (24 - len(string))


def test_random_labels_follow_from_the_prefix_and_from_nothing_else():
    true, shuffled = (configure("dyck", random_labels=it).task.data() for it in (False, True))
    assert (true.train, true.test) == (shuffled.train, shuffled.test)
    said, depth = {}, {}
    for string in (*shuffled.train, *shuffled.test, *shuffled.longer):
        for i, (label, real) in enumerate(zip(shuffled.labels(string), true.labels(string), strict=True)):
            assert said.setdefault(string[: i + 1], label) == label
            depth[string[: i + 1]] = real
    scored = [prefix for prefix, real in depth.items() if real <= 12]
    assert Counter(said[prefix] for prefix in scored) == Counter(depth[prefix] for prefix in scored)
    # Where labels are shuffled, they agree as often as two draws from the depths do.
    shares = np.array(list(Counter(depth[prefix] for prefix in scored).values())) / len(scored)
    agree = np.mean([said[prefix] == depth[prefix] for prefix in scored])
    assert agree == pytest.approx((shares**2).sum(), abs=0.02)


def test_lines_are_strings_and_depths():
    config = tiny().task
    lines = list(config.lines(seed=1))
    assert Counter(name for name, _ in lines) == {"train.txt": 12, "test.txt": 60, "longer.txt": 500}
    assert lines == list(config.lines(seed=2))
    for _, line in lines:
        string, labels = line.split("\t")
        assert [int(label) for label in labels.split(" ")] == depths(string)


# ---- model


@pytest.mark.parametrize(("size", "parameters"), [("reference", 273_421), ("cpu", 69_645)])
def test_parameter_counts(size, parameters):
    task = configure("dyck", size=size).task.build(seed=42, weight_decay=1.0, device="cpu")
    assert sum(parameter.numel() for parameter in task.model.parameters()) == parameters
    attention = [name for group, globs in task.groups.items() if group.startswith("attention_") for name in globs]
    width = configure("dyck", size=size).task.d_model
    assert sum(dict(task.model.named_parameters())[name].numel() for name in attention) == 2 * 4 * width**2


def test_settings_are_those_of_the_recorded_study():
    recorded = json.loads(STUDY.read_text())["runs"]["dyck-42"]["config"]
    found = configure("dyck", size="reference").to_dict()
    assert list(found["task"].items()) == list(recorded["task"].items())
    for setting in ("weight_decay", "observe_every", "eval_every", "checkpoint_every", "window", "seed"):
        assert found[setting] == recorded[setting]


def test_logits_are_those_of_a_second_implementation():
    task = sharpened(built(heads=2))
    w = arrays(task.model)
    tokens = task.batch(torch.arange(3)).inputs
    with torch.no_grad():
        found = task.model(tokens).double().numpy()
    for row, sequence in zip(found, tokens.numpy(), strict=True):
        inputs = w["embedding.weight"][sequence] + w["position"][: len(sequence)]
        hidden = encode(w, inputs, heads=2, layers=2, causal=True)
        expected = [
            w["head.weight"] @ layer_norm(token, w["norm.weight"], w["norm.bias"]) + w["head.bias"] for token in hidden
        ]
        np.testing.assert_allclose(row, expected, rtol=1e-3, atol=1e-4)


def test_loss_is_the_mean_over_brackets():
    task = sharpened(built())
    batch = task.batch(torch.tensor([0, 1, 1, 7]))
    chances = torch.log_softmax(task.model(batch.inputs).double(), dim=2)
    terms = [
        -chances[row, i, depth].item()
        for row, train in enumerate((0, 1, 1, 7))
        for i, depth in enumerate(depths(task.data.train[train]))
    ]
    assert task.batch_loss(batch).item() == pytest.approx(np.mean(terms), rel=1e-5)


# ---- scores


def naive_scores(task, strings):
    """Accuracy and mean loss over the brackets of strings, one string at a time, without padding."""
    hits, losses = [], []
    for string in strings:
        with torch.no_grad():
            logits = task.model(torch.tensor([["()".index(bracket) for bracket in string]]))[0].double()
        for row, label in zip(logits, task.data.labels(string), strict=True):
            if label <= 12:
                hits.append(row.argmax().item() == label)
                losses.append(-torch.log_softmax(row, dim=0)[label].item())
    return np.mean(hits), np.mean(losses)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"split": "deduplicated", "positions": 24},
        {"random_labels": True, "positions": 24},
        {"test_size": 200, "positions": 24},
    ],
)
def test_scores_are_those_of_one_string_at_a_time(options):
    task = sharpened(built(**options))
    found, data = task.evaluate(), task.data
    unseen = [string for string in data.test if string not in data.train]
    assert (len(unseen) == len(data.test)) == (options.get("split") == "deduplicated")
    train, test = naive_scores(task, data.train), naive_scores(task, data.test)
    expected = {
        "train_accuracy": pytest.approx(train[0], abs=1e-12),
        "test_accuracy": pytest.approx(test[0], abs=1e-12),
        "test_accuracy_unseen": pytest.approx(naive_scores(task, unseen)[0], abs=1e-12),
        "train_loss": pytest.approx(train[1], rel=1e-5),
        "test_loss": pytest.approx(test[1], rel=1e-5),
    }
    if "positions" not in options:
        expected["ood_accuracy"] = pytest.approx(naive_scores(task, data.longer)[0], abs=1e-12)
    assert found == expected
    assert 0 < found["test_accuracy"] < 1
    assert task.model.training


def test_without_positions_for_longer_strings_they_are_not_scored():
    few, many = built(positions=39).evaluate(), built(positions=40).evaluate()
    assert set(many) - set(few) == {"ood_accuracy"}


def test_without_an_unseen_string_its_accuracy_does_not_exist():
    task = built(train_size=50, test_size=1)
    assert task.data.test[0] in task.data.train
    assert np.isnan(task.evaluate()["test_accuracy_unseen"])


def test_resumption_changes_nothing(tmp_path):
    def stop(progress):
        if progress.step == 13:
            raise KeyboardInterrupt

    whole = run(tiny(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tiny(), tmp_path / "parts", on_progress=stop)
    assert run(tiny(), tmp_path / "parts").metrics == whole.metrics
    one, two = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["task"]["model"] for name in ("whole", "parts")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_seed_decides_weights_and_batches_but_not_the_data():
    one, two = (tiny().task.build(seed=seed, weight_decay=1.0, device="cpu") for seed in (1, 2))
    assert one.data == two.data
    assert not torch.equal(one.model.head.weight, two.model.head.weight)
    assert not torch.equal(one.draw(), two.draw())


@pytest.mark.parametrize(
    "options",
    [
        {"split": "random"},
        {"train_size": 0},
        {"test_size": 30_000},
        {"positions": 23},
        {"d_model": 30},
        {"learning_rate": 0},
        {"size": "middle"},
        {"beta2": 0.9},
    ],
)
def test_bad_settings_are_refused(options):
    with pytest.raises(InputError):
        configure("dyck", **options)
