"""The classifier of pictures: its data, its groups, and that it learns."""

import hashlib
from fnmatch import fnmatchcase

import numpy as np
import pytest
import torch
from torch import nn

from spectral_edge.errors import InputError
from spectral_edge.experiments import configure
from spectral_edge.experiments.families.patterns import GREY, SHAPES, SIDE, pattern_data


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny matrices gain nothing from a second thread, and a busy machine makes them wait for it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(**options):
    return configure("patterns", **{"train_size": 300, "test_size": 40, **options})


def build(config):
    return config.task.build(seed=config.seed, weight_decay=config.weight_decay, device="cpu")


def test_pictures_are_the_same_everywhere():
    data = pattern_data(small(noise=0.6).task, seed=42)
    content = data.pixels.numpy().astype("<i2").tobytes() + data.labels.numpy().astype("<i8").tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == "c4b0541e479bc7e8"
    assert not torch.equal(data.pixels, pattern_data(small().task, seed=43).pixels)


def test_without_noise_every_picture_shows_its_shape_once():
    data = pattern_data(small(noise=0.0, label_noise=0.0).task, seed=1)
    stencils = [np.array([[sign == "#" for sign in line] for line in shape.split("|")]) for shape in SHAPES]
    places, contrasts = set(), set()
    for picture, label in zip(data.pixels.numpy(), data.labels.tolist(), strict=True):
        (contrast,) = set(picture[picture > 0].tolist())
        assert GREY // 2 <= contrast <= GREY
        contrasts.add(contrast)
        found = [
            (row, column)
            for row in range(SIDE - 6)
            for column in range(SIDE - 6)
            if np.array_equal(picture[row : row + 7, column : column + 7] > 0, stencils[label])
            and (picture > 0).sum() == stencils[label].sum()
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) == 36
    assert len(contrasts) > 40
    assert set(data.labels.tolist()) == set(range(10))


def test_noise_of_pixels_and_labels():
    clean = pattern_data(small(noise=0.0, label_noise=0.0).task, seed=1)
    noisy = pattern_data(small(noise=0.5, label_noise=0.4).task, seed=1)
    difference = (noisy.pixels - clean.pixels).abs()
    assert difference.max() == GREY // 2
    other = noisy.labels != clean.labels
    assert not other[noisy.train_size :].any()
    # Four in ten are drawn anew, a tenth of which keep their label.
    assert abs(int(other.sum()) - 300 * 0.4 * 0.9) < 5 * (120 * 0.9 * 0.1) ** 0.5


def test_lines_are_labels_and_pixels():
    config, data = small().task, pattern_data(small().task, seed=5)
    lines = list(config.lines(5))
    assert [name for name, _ in lines] == ["train.csv"] * 300 + ["test.csv"] * 40
    table = np.array([[int(value) for value in line.split(",")] for _, line in lines])
    np.testing.assert_array_equal(table[:, 0], data.labels.numpy())
    np.testing.assert_array_equal(table[:, 1:].reshape(-1, SIDE, SIDE), data.pixels.numpy())


def test_patches_are_squares_of_the_picture():
    task = build(small())
    seen = []
    task.model.patches.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    picture = torch.arange(144.0).view(1, 12, 12)
    task.model(picture)
    assert seen[0].shape == (1, 16, 9)
    np.testing.assert_array_equal(seen[0][0, 6].view(3, 3), picture[0, 3:6, 6:9])


def test_size_and_groups():
    task = build(configure("patterns", train_size=50, test_size=10))
    names = [name for name, _ in task.model.named_parameters()]
    assert sum(parameter.numel() for parameter in task.model.parameters()) == 58_714
    held = [name for name in names for globs in task.groups.values() if any(fnmatchcase(name, glob) for glob in globs)]
    assert sorted(held) == sorted(names)
    assert len(task.layers()) == 3
    found = [(tuple(weight.shape), first, last) for weight, first, last in task.queries_and_keys()]
    assert found == [((144, 48), 0, 96), ((144,), 0, 96)] * 3
    first, second = (dict(layer.named_parameters())["linear1.weight"] for layer in task.layers()[:2])
    assert not torch.equal(first, second)  # not clones of one layer


def test_evaluation_and_batches():
    task = build(small())
    metrics = task.evaluate()
    data = pattern_data(small().task, seed=42)
    with torch.no_grad():
        logits = task.model(data.pixels.float() / GREY)
        hits = (logits.argmax(1) == data.labels).float()
        losses = nn.functional.cross_entropy(logits, data.labels, reduction="none")
    assert metrics["train_accuracy"] == pytest.approx(hits[:40].mean().item())
    assert metrics["test_accuracy"] == pytest.approx(hits[300:].mean().item())
    assert metrics["test_loss"] == pytest.approx(losses[300:].mean().item(), rel=1e-5)
    batch = task.batch(torch.tensor([7, 2]))
    assert torch.equal(batch.inputs, data.pixels[[7, 2]].float() / GREY)
    assert batch.targets.tolist() == data.labels[[7, 2]].tolist()


def test_it_learns():
    task = build(small(train_size=2_000, layers=1, noise=0.3, test_size=200))
    for _ in range(150):
        task.train_step()
    assert task.evaluate()["test_accuracy"] > 0.4


@pytest.mark.parametrize(
    "options",
    [
        {"noise": -1.0},
        {"label_noise": 2.0},
        {"d_model": 50},
        {"size": "middle"},
        {"train_size": 0},
        {"learning_rate": 0},
    ],
)
def test_bad_settings_are_refused(options):
    with pytest.raises(InputError):
        configure("patterns", **options)
