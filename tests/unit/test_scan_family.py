"""Family 5: exact data, the network against one written out by hand, padding, free decoding and resumption."""

import hashlib
import math
import random
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

import spectral_edge as se
from spectral_edge.errors import InputError
from spectral_edge.experiments import configure, run
from spectral_edge.experiments.families import scan
from spectral_edge.experiments.families.scan import ScanConfig, scan_data
from spectral_edge.experiments.families.scan_grammar import GRAMMARS, Example
from spectral_edge.experiments.families.scan_model import END, IGNORED, PAD, START, decode_freely, encode


def tiny(**options):
    settings = {
        "train_size": 24,
        "test_size": 16,
        "free_size": 8,
        "d_model": 8,
        "heads": 2,
        "d_feedforward": 8,
        "layers": 2,
        "batch_size": 8,
        "steps": 30,
        "window": 3,
        "horizon": 6,
        "observe_every": 1,
        "eval_every": 5,
        "checkpoint_every": 8,
    }
    return configure("scan", **{**settings, **options})


def built(seed=3, **options):
    return tiny(**options).task.build(seed=seed, weight_decay=1.0, device="cpu")


def digest(examples):
    return hashlib.sha256("\n".join(example.line for example in examples).encode()).hexdigest()[:16]


@pytest.fixture(scope="module")
def learned():
    """A small model that knows the commands that it was trained on by heart."""
    sizes = {"train_size": 24, "d_model": 32, "d_feedforward": 32, "layers": 1, "batch_size": 24}
    task = tiny(**sizes, learning_rate=5e-3).task.build(seed=3, weight_decay=0.0, device="cpu")
    while task.evaluate()["train_accuracy"] < 1:
        assert task.step < 500
        for _ in range(25):
            task.train_step()
    return task


# ---- data


@pytest.mark.parametrize(
    ("grammar", "pool", "train_size", "train", "test"),
    [
        ("full", 16_728, 2_048, "cb2a435ff9fc52eb", "3bf665c73a99eaca"),
        ("small", 3_724, 512, "5ad6c739a2a56474", "95e8336ffdaa7180"),
    ],
)
def test_the_split_is_the_same_on_every_machine(grammar, pool, train_size, train, test):
    data = scan_data(ScanConfig(grammar=grammar, train_size=train_size))
    commands = sorted(GRAMMARS[grammar].examples())
    order = list(range(len(commands)))
    random.Random(0).shuffle(order)  # Fisher-Yates moves positions, whatever is in them
    drawn = list(range(pool))
    random.Random(0).shuffle(drawn)
    assert list(data.train) == [commands[order[row]] for row in drawn[:train_size]]
    assert {*data.test} <= {commands[row] for row in order[pool:]}
    assert len({*data.test}) == len(data.test) == 500
    assert (digest(data.train), digest(data.test)) == (train, test)


def test_the_files_can_hold_the_whole_grammar_in_the_benchmarks_own_lines():
    files = {"train.txt": [], "test.txt": []}
    for name, line in ScanConfig(train_size=16_728, test_size=4_182).lines(seed=7):
        files[name].append(line)
    assert [len(lines) for lines in files.values()] == [16_728, 4_182]
    assert sorted(files["train.txt"] + files["test.txt"]) == sorted(e.line for e in GRAMMARS["full"].examples())


def test_random_labels_are_the_same_outputs_in_another_order():
    whole = {"grammar": "small", "train_size": 3_724, "test_size": 932}
    right = scan_data(ScanConfig(**whole))
    wrong = scan_data(ScanConfig(**whole, random_labels=True))
    one, two = [*right.train, *right.test], [*wrong.train, *wrong.test]
    assert [example.command for example in one] == [example.command for example in two]
    assert sorted(example.actions for example in one) == sorted(example.actions for example in two)
    same = sum(a.actions == b.actions for a, b in zip(one, two, strict=True))
    by_chance = sum(n * n for n in np.unique([e.actions for e in one], return_counts=True)[1]) / len(one)
    assert same <= by_chance + 5 * math.sqrt(by_chance)


def test_examples_as_tokens():
    inputs, targets = encode([Example("jump left twice", "I_TURN_LEFT I_JUMP I_TURN_LEFT I_JUMP")], grammar="small")
    jump, left, twice = (3 + GRAMMARS["small"].words.index(word) for word in ("jump", "left", "twice"))
    assert inputs[0].tolist() == [jump, left, twice] + [PAD] * 6 + [START, 7, 6, 7, 6] + [PAD] * 8
    assert targets[0].tolist() == [7, 6, 7, 6, END] + [IGNORED] * 8


@pytest.mark.parametrize("grammar", ["small", "full"])
def test_all_examples_fit_and_can_be_read_back(grammar):
    shape = GRAMMARS[grammar]
    examples = shape.examples()
    inputs, targets = encode(examples, grammar=grammar)
    source, prefix = inputs[:, : shape.source_positions], inputs[:, shape.source_positions :]
    names = ["pad", "start", "end", *shape.words]
    assert [" ".join(names[t] for t in row if t != PAD) for row in source.tolist()] == [e.command for e in examples]
    # The start mark and all targets but the end mark are what the decoder sees.
    assert torch.equal(prefix[:, 1:], torch.where(targets[:, :-1] > END, targets[:, :-1], PAD))
    assert (prefix[:, 0] == START).all()
    assert ((targets == END).sum(dim=1) == 1).all()
    assert ((targets != IGNORED).sum(dim=1) == torch.tensor([len(e.actions.split()) + 1 for e in examples])).all()


# ---- network


@pytest.mark.parametrize(
    ("size", "parameters", "attention"), [("cpu", 171_273, 98_304), ("reference", 3_979_529, 2_359_296)]
)
def test_sizes_and_groups(size, parameters, attention):
    task = configure("scan", size=size).task.build(seed=42, weight_decay=1.0, device="cpu")
    counts = {name: parameter.numel() for name, parameter in task.model.named_parameters()}
    assert sum(counts.values()) == parameters
    found = {group: [name for glob in globs for name in matching(counts, glob)] for group, globs in task.groups.items()}
    everything = [name for names in found.values() for name in names]
    assert len(everything) == len(set(everything))
    layers = range(len(task.layers()) // 2)
    kinds = [f"{kind}_{mark}" for kind in ("attention", "feedforward") for mark in ("", "d")]
    assert set(found) == {"embedding", "head", *(f"{kind}{layer}" for kind in kinds for layer in layers)}
    assert sum(counts[n] for group, names in found.items() if group.startswith("attention") for n in names) == attention
    left_out = {name for name in counts if name not in everything}
    assert all("layers" in name and (name.endswith("bias") or ".norm" in name) for name in left_out)


def matching(names, glob):
    found = [name for name in names if name == glob or (glob.endswith("*") and name.startswith(glob[:-1]))]
    assert found, glob
    return found


def test_dense_weights_are_xaviers_and_layers_differ():
    task = configure("scan", size="cpu").task.build(seed=42, weight_decay=1.0, device="cpu")
    one, two, three, four = task.layers()
    for weight in (one.self_attn.in_proj_weight, three.multihead_attn.out_proj.weight, four.linear1.weight):
        bound = math.sqrt(6 / sum(weight.shape))
        assert 0.98 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert not torch.equal(one.linear1.weight, two.linear1.weight)
    assert not torch.equal(three.multihead_attn.in_proj_weight, four.multihead_attn.in_proj_weight)


def attend(module, queries, keys, mask):
    """Attention written out, one head after the other; `mask` [queries, keys] is True where nothing may be seen."""
    width, heads = module.embed_dim, module.num_heads
    weights, biases = module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((queries, keys, keys), weights, biases, strict=True))
    said = []
    for head in range(heads):
        part = slice(head * width // heads, (head + 1) * width // heads)
        scores = (q[:, part] @ k[:, part].T) / math.sqrt(width / heads)
        said.append(scores.masked_fill(mask, -math.inf).softmax(dim=1) @ v[:, part])
    return torch.cat(said, dim=1) @ module.out_proj.weight.T + module.out_proj.bias


def feedforward(layer, x):
    hidden = x @ layer.linear1.weight.T + layer.linear1.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return hidden @ layer.linear2.weight.T + layer.linear2.bias


def norm(module, x):
    centred = x - x.mean(dim=1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(dim=1, keepdim=True) + 1e-5) * module.weight + module.bias


def by_hand(model, source, prefix):
    """Logits of one command and prefix, from the parameters alone."""
    x = model.source.weight[source] + model.source_position
    padding = (source == PAD).expand(len(source), -1)
    for layer in model.encoder.layers:
        y = norm(layer.norm1, x)
        x = x + attend(layer.self_attn, y, y, padding)
        x = x + feedforward(layer, norm(layer.norm2, x))
    memory = norm(model.encoder.norm, x)
    x = model.target.weight[prefix] + model.target_position[: len(prefix)]
    later = torch.ones(len(prefix), len(prefix)).triu(1).bool()
    for layer in model.decoder.layers:
        y = norm(layer.norm1, x)
        x = x + attend(layer.self_attn, y, y, later)
        x = x + attend(layer.multihead_attn, norm(layer.norm2, x), memory, torch.tensor(False))
        x = x + feedforward(layer, norm(layer.norm3, x))
    x = norm(model.norm, norm(model.decoder.norm, x))
    return x @ model.head.weight.T + model.head.bias


@torch.no_grad()
def test_the_network_is_the_one_written_out_by_hand():
    task = built()
    model = task.model
    for parameter in model.parameters():  # biases and norms too, which start where they do not show
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    for inputs, logits in zip(task.test.inputs[:6], model(task.test.inputs[:6]), strict=True):
        expected = by_hand(model, inputs[:9], inputs[9:])
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_padding_reaches_the_output_through_cross_attention_only():
    model = built().model
    inputs, _ = encode([Example("jump left", "I_TURN_LEFT I_JUMP")], grammar="small")
    source, prefix = inputs[:, :9], inputs[:, 9:]
    memory, logits = model.encode(source), model(inputs)
    model.source.weight[PAD] = torch.randn(8, generator=torch.Generator().manual_seed(0))
    changed = model.encode(source)
    torch.testing.assert_close(changed[:, :2], memory[:, :2], rtol=0, atol=0)
    assert not torch.isclose(changed[:, 2:], memory[:, 2:]).all(dim=2).any()
    assert not torch.isclose(model(inputs), logits).all(dim=2).any()
    both = torch.cat([memory[:, :2], changed[:, 2:]], dim=1)
    torch.testing.assert_close(model.decode(both, prefix), model(inputs))


@torch.no_grad()
def test_later_actions_are_not_seen_and_may_be_left_out():
    task = built()
    inputs = task.test.inputs
    logits = task.model(inputs)
    other = inputs.clone()
    other[:, 9 + 5 :] = torch.randint(3, 9, other[:, 9 + 5 :].shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(task.model(other)[:, :5], logits[:, :5], rtol=0, atol=1e-6)
    assert not torch.isclose(task.model(other)[:, 6:], logits[:, 6:]).all(dim=2).any()
    torch.testing.assert_close(task.model(inputs[:, : 9 + 5]), logits[:, :5], rtol=1e-5, atol=1e-5)


# ---- task


def test_loss_is_the_mean_over_actions_and_end_marks():
    task = built()
    batch = task.batch(torch.arange(5))
    losses = []
    for logits, targets in zip(task.model(batch.inputs), batch.targets.tolist(), strict=True):
        losses += [-logits[place].log_softmax(dim=0)[t].item() for place, t in enumerate(targets) if t >= 0]
    assert len(losses) == sum(len(example.actions.split()) + 1 for example in scan_data(tiny().task).train[:5])
    assert task.batch_loss(batch).item() == pytest.approx(np.mean(losses), rel=1e-5)


@torch.no_grad()
def test_evaluation_is_that_of_one_command_after_the_other(learned, monkeypatch):
    monkeypatch.setattr(scan, "CHUNK", 7)
    config = tiny(train_size=48, d_model=32, d_feedforward=32, layers=1).task
    task = config.build(seed=1, weight_decay=0.0, device="cpu")
    task.model.load_state_dict(learned.model.state_dict())
    metrics = task.evaluate()
    assert task.model.training
    for name, data in (("train", task.train), ("test", task.test)):
        exact, tokens, losses = [], [], []
        for inputs, targets in zip(data.inputs, data.targets, strict=True):
            logits, scored = task.model(inputs[None])[0], targets != IGNORED
            right = (logits.argmax(dim=1) == targets)[scored]
            exact.append(right.all().item())
            tokens += right.tolist()
            losses += nn.functional.cross_entropy(logits[scored], targets[scored], reduction="none").tolist()
        assert metrics[f"{name}_accuracy"] == pytest.approx(np.mean(exact))
        assert metrics[f"{name}_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
        if name == "train":
            assert 0.5 <= np.mean(exact) < 1
        else:
            assert metrics["test_accuracy_tokens"] == pytest.approx(np.mean(tokens))
    names = ("train_accuracy", "test_accuracy", "test_accuracy_tokens", "test_accuracy_free", "train_loss", "test_loss")
    assert tuple(metrics) == names


@torch.no_grad()
def test_a_model_that_is_right_decodes_freely_what_it_was_taught(learned):
    said = decode_freely(learned.model, learned.train.inputs[:, :9])
    names = ["pad", "start", "end", "I_WALK", "I_LOOK", "I_RUN", "I_JUMP", "I_TURN_LEFT", "I_TURN_RIGHT"]
    for row, example in zip(said.tolist(), scan_data(tiny().task).train, strict=True):
        assert [names[token] for token in row if token != PAD] == [*example.actions.split(), "end"]


@torch.no_grad()
def test_free_decoding_is_exact_just_where_teacher_forcing_is(learned):
    """A first wrong word is wrong either way, so the two ways of counting commands agree whatever the model knows."""
    examples = scan_data(tiny(train_size=100).task).train  # some that were trained on, and more that were not
    inputs, targets = encode(examples, grammar="small")
    given = learned.model(inputs).argmax(dim=2)
    forced = ((given == targets) | (targets == IGNORED)).all(dim=1)
    free = (decode_freely(learned.model, inputs[:, :9]) == targets.clamp_min(PAD)).all(dim=1)
    assert 0 < free.sum() < len(free)
    assert torch.equal(free, forced)


@torch.no_grad()
def test_free_accuracy_is_that_of_the_first_test_commands():
    task = built(test_size=16, free_size=6)
    task.test.targets[:] = decode_freely(task.model, task.test.inputs[:, :9])
    task.test.targets[4:, 0] += 1
    assert task.evaluate()["test_accuracy_free"] == 4 / 6


@torch.no_grad()
def test_free_decoding_goes_on_from_what_was_said(learned):
    """Against a loop over one command at a time that never stops early."""
    said = decode_freely(learned.model, learned.test.inputs[:8, :9])
    for inputs, row in zip(learned.test.inputs, said.tolist(), strict=False):
        words = [START]
        for _ in range(13):
            words.append(learned.model(torch.cat([inputs[:9], torch.tensor(words)])[None])[0, -1].argmax().item())
        cut = words.index(END) + 1 if END in words else 14
        assert row == words[1:cut] + [PAD] * (14 - cut)


def test_optimizer_decays_every_parameter():
    task = tiny().task.build(seed=1, weight_decay=0.7, device="cpu")
    (group,) = task.optimizer.param_groups
    assert len(group["params"]) == len(list(task.model.parameters()))
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (1e-3, (0.9, 0.98), 1e-8, 0.7)


def test_the_seed_decides_weights_and_batches_but_not_the_data():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one, again, other = built(seed=5), built(seed=5), built(seed=6)
    assert torch.equal(state, torch.get_rng_state())
    for a, b in zip(one.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.model.head.weight, other.model.head.weight)
    assert torch.equal(one.train.inputs, other.train.inputs)
    assert torch.equal(one.test.targets, other.test.targets)
    assert torch.equal(one.draw(), again.draw())
    assert not torch.equal(one.draw(), other.draw())


def test_attention_logits_come_from_every_attention():
    task = built()
    modules = [module for module in task.model.modules() if isinstance(module, nn.MultiheadAttention)]
    expected = [tensor for module in modules for tensor in (module.in_proj_weight, module.in_proj_bias)]
    assert len(modules) == 6
    for (tensor, begin, end), wanted in zip(task.queries_and_keys(), expected, strict=True):
        assert tensor is wanted
        assert (begin, end) == (0, 16)


# ---- configurations and runs


def test_settings_are_those_of_the_recorded_runs():
    config = configure("scan", seed=42)
    assert list(asdict(config.task).items()) == [
        ("grammar", "small"),
        ("train_size", 512),
        ("test_size", 500),
        ("random_labels", False),
        ("free_size", 100),
        ("d_model", 64),
        ("heads", 4),
        ("d_feedforward", 128),
        ("layers", 2),
        ("batch_size", 64),
        ("learning_rate", 0.001),
        ("max_grad_norm", 1.0),
    ]
    assert (config.size, config.weight_decay, config.observe_every, config.eval_every) == ("cpu", 1.0, 25, 50)


@pytest.mark.parametrize(("size", "published"), [("cpu", 100), ("reference", 500), ("gpu", 100), ("gpu", 500)])
def test_published_windows_are_strides_of_the_trace(size, published):
    config = configure("scan", size=size)
    stride, rest = divmod(published, config.observe_every)
    assert rest == 0
    assert config.horizon >= 5 * stride


def test_gpu_is_the_reference_on_a_gpu():
    gpu, reference = configure("scan", size="gpu"), configure("scan", size="reference")
    assert (gpu.device, reference.device) == ("cuda", "cpu")
    assert gpu.task == reference.task == ScanConfig()


@pytest.mark.parametrize(
    "options",
    [
        {"size": "huge"},
        {"grammar": "large"},
        {"train_size": 3_725},
        {"test_size": 933},
        {"free_size": 501},
        {"free_size": 0},
        {"train_size": 1.5},
        {"random_labels": 1},
        {"d_model": 66},
        {"layers": 0},
        {"learning_rate": 0.0},
        {"max_grad_norm": -1.0},
    ],
)
def test_bad_settings_are_refused(options):
    with pytest.raises(InputError):
        configure("scan", **options)


@pytest.mark.parametrize(("grammar", "train_size", "test_size"), [("small", 3_724, 932), ("full", 16_728, 4_182)])
def test_as_many_commands_as_there_are_can_be_had(grammar, train_size, test_size):
    data = scan_data(ScanConfig(grammar=grammar, train_size=train_size, test_size=test_size))
    assert len({*data.train, *data.test}) == GRAMMARS[grammar].size


def test_resumption_changes_nothing(tmp_path):
    config = tiny(layers=1, steps=20, store="groups")

    def stop(progress):
        if progress.step == 11:
            raise KeyboardInterrupt

    expected = run(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "parts", on_progress=stop)
    found = run(config, tmp_path / "parts")
    assert found.metrics == expected.metrics
    assert found.metrics["step"] == [1, 5, 10, 15, 20]
    assert expected.metrics["train_loss"][-1] < expected.metrics["train_loss"][0]
    one, two = (torch.load(tmp_path / name / "checkpoint.pt")["task"] for name in ("whole", "parts"))
    for name, weight in one["model"].items():
        assert torch.equal(weight, two["model"][name])
    assert torch.equal(one["generator"], two["generator"])
    traces = [se.open_trace(tmp_path / name / "trace") for name in ("whole", "parts")]
    for group in ("attention_0", "attention_d0", "attention_*"):
        rows, again = (trace.lag_rows(group) for trace in traces)
        np.testing.assert_array_equal(rows, again)
        assert np.isfinite(rows).any()
