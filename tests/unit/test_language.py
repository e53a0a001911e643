"""Families 6 and 7: the network's published sizes, probes, losses, the shift and its sham, exact resumption."""

import math
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
import pytest
import torch
from torch import nn

from spectral_edge.errors import InputError
from spectral_edge.experiments import Progress, configure, run
from spectral_edge.experiments.families.gpt import GPT
from spectral_edge.experiments.families.language import PADDING, corpus, cut, inputs_and_targets, padded
from spectral_edge.experiments.families.notes_text import note
from spectral_edge.experiments.families.phrases import Chance
from spectral_edge.experiments.families.pieces import END, FIRST_CODEWORD, decode, encode
from spectral_edge.experiments.families.probe import TEMPLATES, answers, longest_sentences, plant, retrieval_set
from spectral_edge.experiments.families.stories import story_examples
from spectral_edge.experiments.families.story_text import story


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny matrices gain nothing from a second thread, and a busy machine makes them wait for it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SMALL = {"layers": 2, "d_model": 16, "heads": 2, "d_feedforward": 32, "context": 48, "batch_size": 4, "texts": 20}
SHORT = {
    "steps": 18,
    "window": 3,
    "horizon": 6,
    "ladder": 0,
    "observe_every": 2,
    "eval_every": 6,
    "checkpoint_every": 9,
}


def stories(**options):
    small = {"validation_texts": 6, "probes": 8, "codewords": 8, "longest_far_gap": 28, "warmup": 4, "late_from": 10}
    return configure("stories", **{**SMALL, **SHORT, **small, **options})


def shift(**options):
    small = {"validation_texts": 6, "texts_b": 12, "warmup": 4, "shift_at": 10, "schedule_steps": 24, "floor": 0.1}
    return configure("shift", **{**SMALL, **SHORT, **small, **options})


def build(config):
    return config.task.build(seed=config.seed, weight_decay=config.weight_decay, device="cpu")


# ---- network


@pytest.mark.parametrize(
    ("sizes", "parameters", "trunk"),
    [
        ({"layers": 8, "d_model": 512, "heads": 16, "d_feedforward": 2_048, "context": 256}, 51_045_888, 25_165_824),
        ({"layers": 12, "d_model": 768, "heads": 12, "d_feedforward": 3_072, "context": 256}, 123_767_040, 84_934_656),
    ],
)
def test_published_parameter_counts(sizes, parameters, trunk):
    with torch.device("meta"):
        model = GPT(vocabulary=50_257, **sizes)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert sum(parameter.numel() for parameter in model.trunk()) == trunk


@pytest.mark.parametrize("biases", [True, False])
def test_biases_are_an_option(biases):
    with torch.device("meta"):
        # GPT-2's small model, whose one map for queries, keys and values has as many weights and biases as our three.
        model = GPT(
            vocabulary=50_257, layers=12, d_model=768, heads=12, d_feedforward=3_072, context=1_024, biases=biases
        )
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == (124_439_808 if biases else 124_439_808 - 12 * (4 * 768 + 3_072 + 768))


@pytest.mark.parametrize(
    ("size", "parameters"), [("cpu", 870_784), ("reference", 25_839_104), ("gpu", 25_839_104), ("g124", 85_956_864)]
)
def test_presets_have_the_sizes_they_say(size, parameters):
    task = configure("stories", size=size).task
    with torch.device("meta"):
        model = task.network(FIRST_CODEWORD + task.codewords)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def small_gpt(biases=True):
    torch.manual_seed(0)
    return GPT(vocabulary=9, layers=2, d_model=8, heads=2, d_feedforward=12, context=7, biases=biases)


def test_forward_is_a_pre_norm_decoder():
    """The same network written out again in plain matrix products."""
    model = small_gpt().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    tokens = torch.tensor([[3, 1, 4, 1, 5], [2, 6, 5, 3, 5]])
    with torch.no_grad():
        found = model(tokens).numpy()
    weight = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return (
            centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight[f"{name}.weight"]
            + weight[f"{name}.bias"]
        )

    def linear(x, name):
        return x @ weight[f"{name}.weight"].T + weight[f"{name}.bias"]

    for row, ids in enumerate(tokens.numpy()):
        x = weight["embedding.weight"][ids] + weight["position.weight"][: len(ids)]
        for layer in ("blocks.0", "blocks.1"):
            y = norm(x, f"{layer}.attention_norm")
            query, key, value = (linear(y, f"{layer}.attention.{part}") for part in ("query", "key", "value"))
            heads = []
            for own in (slice(0, 4), slice(4, 8)):
                scores = query[:, own] @ key[:, own].T / 2.0
                scores[np.triu_indices(len(ids), 1)] = -np.inf
                shares = np.exp(scores - scores.max(1, keepdims=True))
                heads.append(shares / shares.sum(1, keepdims=True) @ value[:, own])
            x = x + linear(np.concatenate(heads, axis=1), f"{layer}.attention.output")
            y = linear(norm(x, f"{layer}.feedforward_norm"), f"{layer}.feedforward.widen")
            gelu = y * (1 + np.vectorize(math.erf)(y / math.sqrt(2))) / 2
            x = x + linear(gelu, f"{layer}.feedforward.narrow")
        np.testing.assert_allclose(found[row], norm(x, "norm") @ weight["embedding.weight"].T, atol=1e-10)


def test_initial_weights():
    torch.manual_seed(1)
    model = GPT(vocabulary=400, layers=2, d_model=64, heads=2, d_feedforward=128, context=32, biases=True)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name
        else:
            assert torch.all(parameter == (1.0 if name.endswith("norm.weight") else 0.0)), name


def test_groups_are_disjoint_and_hold_everything():
    model = small_gpt()
    held = [
        (name, group)
        for name, _ in model.named_parameters()
        for group, globs in model.groups().items()
        if any(fnmatchcase(name, glob) for glob in globs)
    ]
    assert sorted(name for name, _ in held) == sorted(name for name, _ in model.named_parameters())
    attention = {name for name, group in held if group == "attention_1"}
    assert attention == {
        f"blocks.1.attention.{p}.{k}" for p in ("query", "key", "value", "output") for k in ("weight", "bias")
    }


@pytest.mark.parametrize("biases", [True, False])
def test_queries_and_keys_make_the_attention_logits(biases):
    """With all of them at zero every position attends to all before it alike."""
    task = build(stories(biases=biases))
    model, tokens = task.model, torch.arange(1, 7)[None]
    found = task.queries_and_keys()
    assert len(found) == (8 if biases else 4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
        for parameter, first, last in found:
            parameter[first:last] = 0.0
        block = model.blocks[0]
        seen = block.attention_norm(model.embedding(tokens) + model.position.weight[:6])
        means = block.attention.value(seen).cumsum(1) / torch.arange(1, 7)[None, :, None]
        torch.testing.assert_close(block.attention(seen), block.attention.output(means))


# ---- examples


def test_windows_are_cut_out_of_texts_and_padded():
    texts = [story(3, index).text for index in range(5)] + ["Short."]
    rows = cut(texts, Chance("test"), windows=3, length=49)
    assert len(rows) == 18
    for index, row in enumerate(rows):
        whole = [*encode(texts[index // 3]), END]
        assert len(row) == min(49, len(whole))
        assert any(whole[start : start + len(row)] == row for start in range(len(whole) - len(row) + 1))
    assert rows[0] != rows[1]
    tokens = padded(rows, length=49)
    assert tokens.shape == (18, 49)
    assert tokens[-1].tolist() == [*rows[-1], *[PADDING] * (49 - len(rows[-1]))]
    batch = inputs_and_targets(tokens[-1:])
    assert batch.targets[0].tolist() == tokens[-1, 1:].tolist()
    assert int((batch.targets >= 0).sum()) == len(rows[-1]) - 1
    assert torch.all(batch.inputs >= 0)


@pytest.mark.parametrize("gap", [0, 3, 10, 45])
def test_a_planted_probe_has_its_gap_and_its_codeword_twice(gap):
    text = list(range(100, 165))  # every token another one
    chance, starts = Chance(f"plant {gap}"), set()
    keys = {tuple(encode(key)): tuple(encode(query)) for key, query in TEMPLATES}
    for _ in range(60):
        row = plant(text, chance, gap=gap, codewords=5, length=65)
        assert len(row) == 65
        first, second = (index for index, token in enumerate(row) if token >= FIRST_CODEWORD)
        assert row[first] == row[second] < FIRST_CODEWORD + 5
        key = next(
            key for key in keys if tuple(row[first - len(key) : first]) == key and row[first - len(key) - 1] in text
        )
        query = keys[key]
        assert tuple(row[second - len(query) : second]) == query
        assert row[first + 1] == encode(".")[0]
        assert second - len(query) - (first + 2) == gap
        starts.add(first - len(key))
        # What is left without key and query is one stretch of the text, which begins anew at its end.
        rest = [*row[: first - len(key)], *row[first + 2 : second - len(query)], *row[second + 1 :]]
        at = text.index(rest[0])
        assert rest == [text[(at + i) % len(text)] for i in range(len(rest))]
    assert min(starts) >= 2
    assert len(starts) > 1


def test_answers_are_the_second_codewords():
    word = FIRST_CODEWORD + 1
    targets = torch.tensor([[3, word, 5, word, 7, 8], [3, 4, 5, 6, word, 8], [3, 4, 5, PADDING, PADDING, PADDING]])
    assert answers(targets).nonzero().tolist() == [[0, 3]]


def test_retrieval_sets_are_fixed_and_in_their_range():
    one = retrieval_set(5, count=40, gaps=(3, 10), codewords=8, length=65)
    assert torch.equal(one, retrieval_set(5, count=40, gaps=(3, 10), codewords=8, length=65))
    assert not torch.equal(one, retrieval_set(6, count=40, gaps=(3, 10), codewords=8, length=65))
    gaps = set()
    for row in one.tolist():
        first, second = (index for index, token in enumerate(row) if token >= FIRST_CODEWORD)
        text = decode(row[first + 2 : second])
        query = next(query for _, query in TEMPLATES if text.endswith(query.encode()))
        gaps.add(second - first - 2 - len(encode(query)))
    assert gaps <= set(range(3, 11))
    assert len(gaps) > 4


def test_a_share_of_the_examples_carries_a_probe():
    config = stories(texts=300, probe_share=0.25).task
    rows = story_examples(config, seed=1)
    assert rows == story_examples(config, seed=1)
    planted = [row for row in rows if any(token >= FIRST_CODEWORD for token in row)]
    assert abs(len(planted) - 300) < 5 * (1_200 * 0.25 * 0.75) ** 0.5
    assert all(sum(token >= FIRST_CODEWORD for token in row) == 2 for row in planted)
    lines = list(config.lines(1))
    assert [line for name, line in lines if name == "train.txt"] == [story(1, index).text for index in range(300)]
    assert sum(name == "probes.txt" for name, _ in lines) == len(planted)
    assert sum(name == "validation.txt" for name, _ in lines) == 6


def test_longest_gap_that_fits_fits():
    room = stories().task.context + 1 - longest_sentences() - 2
    assert len(build(stories(longest_far_gap=room)).far) == 8
    with pytest.raises(InputError, match="longest_far_gap"):
        stories(longest_far_gap=room + 1)


# ---- stories


def by_hand(task, batch):
    """Cross-entropies one token at a time: off the probe, and at its answers."""
    logits = task.model(batch.inputs).double()
    other, asked = [], []
    for row in range(len(batch.inputs)):
        codes = 0
        for at, target in enumerate(batch.targets[row].tolist()):
            if target < 0:
                continue
            loss = -torch.log_softmax(logits[row, at], dim=0)[target]
            codes += target >= FIRST_CODEWORD
            (asked if target >= FIRST_CODEWORD and codes == 2 else other).append(loss)
    return other, asked


def test_the_trained_loss_is_weighted_and_the_logged_one_is_not():
    task = build(stories(probe_share=0.5, probe_weight=2.0, late_probe_weight=4.0))
    batch = task.batch(torch.arange(12))
    other, asked = by_hand(task, batch)
    assert len(asked) > 2
    plain = torch.stack(other + asked).mean().item()
    for step, weight in ((1, 2.0), (10, 2.0), (11, 4.0)):
        task.step = step
        expected = (torch.stack(other).mean() + weight * torch.stack(asked).mean()).item()
        assert task.batch_loss(batch).item() == pytest.approx(expected, rel=1e-5)
        assert [loss.item() for loss in task.losses(batch)] == pytest.approx([expected, plain], rel=1e-5)


def test_a_step_reports_the_plain_loss_and_follows_the_weighted_one():
    config = stories(probe_share=0.5)
    task, twin = build(config), build(config)
    generator = torch.Generator().manual_seed(config.seed)
    batch = twin.batch(torch.randint(80, (4,), generator=generator))
    twin.step = 1
    trained, plain = twin.losses(batch)
    gradients = torch.autograd.grad(trained, list(twin.model.parameters()))
    step = task.train_step()
    assert step.loss == plain.item()
    assert step.grad_norm == pytest.approx(torch.stack([g.norm() for g in gradients]).norm().item(), rel=1e-5)


def test_validation_loss_and_retrieval():
    task = build(stories())
    metrics = task.evaluate()
    assert task.model.training
    assert set(metrics) == {"val_loss", "probe_accuracy_in", "probe_accuracy_out"}
    with torch.no_grad():
        other, asked = by_hand(task, inputs_and_targets(task.validation))
        assert not asked
        assert metrics["val_loss"] == pytest.approx(torch.stack(other).mean().item(), rel=1e-6)
        # A network that repeats the first codeword that it sees retrieves all of them, one that does not none.
        task.model.forward = lambda tokens: nn.functional.one_hot(
            tokens.where(tokens >= FIRST_CODEWORD, 0).amax(1, keepdim=True).expand_as(tokens), FIRST_CODEWORD + 8
        ).float()
        assert task.retrieved(task.near) == task.retrieved(task.far) == 1.0
        task.model.forward = lambda tokens: nn.functional.one_hot(tokens, FIRST_CODEWORD + 8).float()
        assert task.retrieved(task.near) == 0.0


def test_validation_and_training_share_no_story():
    train = set(corpus("stories", seed=1, part="train", count=200))
    assert not train & set(corpus("stories", seed=1, part="validation", count=200))


def test_building_depends_on_the_seed_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = build(stories(seed=5))
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    two, other = build(stories(seed=5, weight_decay=0.0)), build(stories(seed=6))
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(one.examples, two.examples)
    assert not torch.equal(one.examples[:40], other.examples[:40])


def test_mixed_precision_keeps_weights_and_losses_in_float32():
    exact, mixed = build(stories()), build(stories(precision="bfloat16"))
    batch = exact.batch(torch.arange(8))
    losses = [task.batch_loss(batch) for task in (exact, mixed)]
    assert losses[0].dtype == losses[1].dtype == torch.float32
    assert losses[0].item() != losses[1].item()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-2)
    mixed.train_step()
    assert all(parameter.dtype == torch.float32 for parameter in mixed.model.parameters())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_every_optimizer_learns(optimizer):
    task = build(stories(optimizer=optimizer, probe_share=0.0))
    losses = [task.train_step().loss for _ in range(40)]
    assert np.mean(losses[-5:]) < losses[0] - 0.3


def test_control_has_no_weight_decay():
    config = stories()
    assert config.control() == replace(config, weight_decay=0.0)


# ---- shift


def rows_drawn(config, steps):
    task = build(config)
    drawn = []
    for task.step in range(1, steps + 1):
        drawn.append(task.draw().tolist())
    return task, drawn


def test_the_corpus_changes_at_its_step_and_not_in_the_sham():
    config = shift()
    task, drawn = rows_drawn(config, 20)
    assert len(task.examples) == (20 + 12) * 4
    assert all(row < 80 for rows in drawn[:10] for row in rows)
    assert all(80 <= row < 128 for rows in drawn[10:] for row in rows)
    first = [*encode(note(config.seed, 0)), END]
    row = [token for token in task.examples[80].tolist() if token != PADDING]
    assert any(first[start : start + len(row)] == row for start in range(len(first)))
    sham = config.control()
    assert sham == replace(config, task=replace(config.task, sham=True))
    _, kept = rows_drawn(sham, 20)
    assert kept[:10] == drawn[:10]
    # A sham draws what a run that never shifts draws.
    _, never = rows_drawn(shift(shift_at=1_000), 20)
    assert kept == never


def test_the_rate_drops_at_the_shift_and_in_the_sham():
    for config in (shift(drop=10.0), shift(drop=10.0, sham=True), shift(drop=1.0)):
        task, rates = build(config), []
        for _ in range(12):
            task.train_step()
            rates.append(task.optimizer.param_groups[0]["lr"])
        smooth = [1e-3 * (0.1 + 0.9 * (1 + math.cos(math.pi * (step - 4) / 20)) / 2) for step in (10, 11, 12)]
        assert rates[:4] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3])
        drop = config.task.drop
        assert rates[9:] == pytest.approx([smooth[0], smooth[1] / drop, smooth[2] / drop])


def test_a_sham_without_a_drop_is_a_run_without_a_shift():
    sham, never = build(shift(drop=1.0, sham=True)), build(shift(drop=1.0, shift_at=1_000))
    for _ in range(14):
        assert sham.train_step() == never.train_step()


def test_losses_on_both_corpora_and_on_the_present_one():
    task, sham = build(shift()), build(shift(sham=True))
    for one in (task, sham):
        for step in range(1, 13):
            one.train_step()
            metrics = one.evaluate() if step in (10, 12) else {}
            present = "val_loss_b" if one is task and step == 12 else "val_loss_a"
            assert metrics.get("val_loss") == metrics.get(present)
    with torch.no_grad():
        losses, scored = task.token_losses(inputs_and_targets(task.validation_b))
        assert task.evaluate()["val_loss_b"] == pytest.approx((losses.sum() / scored.sum()).item(), rel=1e-5)


def test_lines_hold_both_corpora():
    lines = list(shift().task.lines(3))
    by_file = {name: "\n".join(line for n, line in lines if n == name) for name in dict(lines)}
    assert list(by_file) == ["a-train.txt", "a-validation.txt", "b-train.txt", "b-validation.txt"]
    assert by_file["a-train.txt"].split("\n\n")[4].strip() == story(3, 4).text
    assert by_file["b-validation.txt"].split("\n\n")[2].strip() == note(3, 2, part="validation")


def test_a_folder_of_texts_is_a_corpus(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.txt").write_text("\n".join(f"second {i} " + "y" * 90 for i in range(150)), encoding="utf-8")
    (tmp_path / "a.txt").write_text("\n".join(f"first {i} " + "x" * 90 for i in range(150)), encoding="utf-8")
    name = f"text:{tmp_path}"
    train, held_out = (
        corpus(name, seed=0, part=part, count=count) for part, count in (("train", 20), ("validation", 3))
    )
    assert not set(train) & set(held_out)
    assert all(900 < len(text) < 1_300 for text in train)
    assert train[0].startswith(("first", "second"))
    assert {text.split()[0] for text in train} == {"first", "second"}
    with pytest.raises(InputError, match="passages"):
        corpus(name, seed=0, part="train", count=1_000)
    task = build(shift(corpus_b=name, texts_b=10, validation_texts=2))
    assert decode(task.examples[-1].tolist()).count(b"y") > 20
    for bad in ("text:", "poems", 3):
        with pytest.raises(InputError, match="corpus_b"):
            shift(corpus_b=bad)
    # A recorded run can be planned where its texts are not; only training it needs them.
    with pytest.raises(InputError, match="passages"):
        build(shift(corpus_b=f"text:{tmp_path}/none"))


# ---- configurations and the runner


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("stories", {"size": "huge"}),
        ("stories", {"optimizer": "adagrad"}),
        ("stories", {"d_model": 30, "heads": 4}),
        ("stories", {"precision": "float16"}),
        ("stories", {"biases": 1}),
        ("stories", {"probe_share": 1.5}),
        ("stories", {"codewords": 5_000}),
        ("stories", {"shortest_gap": 11}),
        ("stories", {"floor": -0.1}),
        ("stories", {"momentum": 1.0}),
        ("stories", {"texts": 0}),
        ("shift", {"sham": "yes"}),
        ("shift", {"drop": 0.0}),
        ("shift", {"shift_at": 0}),
        ("shift", {"corpus_a": "news"}),
        ("shift", {"size": "g124"}),
    ],
)
def test_bad_settings_are_refused_before_any_work(family, options):
    with pytest.raises(InputError):
        configure(family, **options)


class Stop:
    def __init__(self, at):
        self.at, self.seen = at, {}

    def __call__(self, progress: Progress):
        if progress.reading is not None:
            self.seen[progress.reading.step] = (progress.loss, progress.reading.gap_ratio)
        if progress.step == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("config", [stories(optimizer="muon"), shift()], ids=["stories", "shift"])
def test_a_resumed_run_is_the_run_that_was_never_interrupted(config, tmp_path):
    whole = Stop(None)
    result = run(config, tmp_path / "whole", on_progress=whole)
    parts = Stop(11)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "parts", on_progress=parts)
    again = Stop(None)
    resumed = run(config, tmp_path / "parts", on_progress=again)
    assert {**parts.seen, **again.seen} == whole.seen
    assert resumed.metrics == result.metrics
    assert result.grok == {}
    one, two = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["task"] for name in ("whole", "parts"))
    for name, parameter in one["model"].items():
        assert torch.equal(parameter, two["model"][name]), name
