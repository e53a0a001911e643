"""The chapter on experiments: numbers on its pages follow from records, and what is missing is said to be missing."""

import importlib
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

import spectral_edge as se
from spectral_edge.evaluate.transition import at_transition
from spectral_edge.measure import Memory

ROOT = Path(__file__).parents[2]
STEPS = tuple(range(50, 2001, 50))
GROK = 1500
FAULT_AT = 1000

pytestmark = pytest.mark.skipif(not (ROOT / "tools").is_dir(), reason="the tools are not part of an installed package")


@pytest.fixture(scope="module")
def pages():
    """Imports a module of the tool."""

    def imported(name):
        return importlib.import_module(name if name == "make_experiments" else f"experiment_pages.{name}")

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        yield imported


def record(folder, name, *, seed=42, decay=1.0, grok=GROK, loss=2.0, **options):
    """A run that was never trained: a random walk, and a result that says what the test needs."""
    config = {
        "family": "arithmetic",
        "task": {"operation": "add", "p": 97},
        "size": "reference",
        "seed": seed,
        "weight_decay": decay,
        "steps": STEPS[-1],
        "observe_every": 50,
        "eval_every": 100,
        "window": 10,
        "horizon": 20,
        "ladder": 2,
        "perturbation": "",
        "perturb_ramp": 0,
        **options,
    }
    rng = np.random.default_rng(seed + int(10 * decay))
    weights = {"attention.w": torch.zeros(30, dtype=torch.float64), "rest.w": torch.zeros(20, dtype=torch.float64)}
    with se.Monitor(
        weights,
        every=1,
        window=10,
        horizon=20,
        ladder=2,
        engine="exact",
        groups={"attention_0": "attention.*"},
        out=folder / name / "trace",
    ) as monitor:
        for step in STEPS:
            for value in weights.values():
                value += torch.from_numpy(rng.standard_normal(value.shape)) * math.exp(-step / 1000)
            monitor.step(step=step)
    curve = [0.99 if grok is not None and step >= grok else 0.1 for step in STEPS]
    result = {
        "config": config,
        "parameter_count": 50,
        "steps": STEPS[-1],
        "grok": {"first_95": grok, "sustained_95": grok, "stop_98": grok, "first_90": grok, "sustained_98": grok},
        "final_metrics": {"test_accuracy": curve[-1], "test_loss": loss},
        "metrics": {"step": list(STEPS), "test_accuracy": curve, "train_accuracy": [1.0] * len(STEPS)}
        | {"test_loss": [9.0] * (len(STEPS) - 1) + [loss]},
        "wall_seconds": 100.0,
    }
    (folder / name / "result.json").write_text(json.dumps(result))
    return config


def manifest(folder, study, runs):
    """A study's manifest: role, twin and configuration of every run."""
    folder.mkdir(exist_ok=True, parents=True)
    plain = {name: {"role": role, "twin": twin, "config": config} for name, (role, twin, config) in runs.items()}
    (folder / "study.json").write_text(json.dumps({"study": study, "question": "?", "runs": plain}))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two pairs of which the second control is not recorded yet, a run that never makes it, and a planned one."""
    root = tmp_path_factory.mktemp("results")
    folder = root / "grokking"
    planned = {
        "add-42": ("run", None, record(folder, "add-42")),
        "add-42-control": ("control", "add-42", record(folder, "add-42-control", decay=0.0, grok=None)),
        "add-137": ("run", None, record(folder, "add-137", seed=137, grok=1700)),
    }
    planned["add-137-control"] = ("control", "add-137", planned["add-42-control"][2] | {"seed": 137})
    planned["add-7"] = ("run", None, record(folder, "add-7", seed=7, grok=None))
    planned["add-2024"] = ("run", None, planned["add-42"][2] | {"seed": 2024})
    manifest(folder, "grokking", planned)
    bank = root / "fault-bank"
    faulty = {"healthy": ("run", None, record(bank, "healthy", loss=2.0, perturbation="sham", perturb_at=FAULT_AT))}
    for seed, loss in ((1, 3.0), (2, 12.0), (3, None)):
        config = record(bank, f"stale-{seed}", seed=seed, loss=loss, perturbation="stale", perturb_at=FAULT_AT)
        faulty[f"stale-{seed}"] = ("fault", "healthy", config)
    manifest(bank, "fault-bank", faulty)
    others = root / "same-decay"
    same = {
        "add-random-42": ("same-decay", None, record(others, "add-random-42", grok=None, decay=0.9)),
        "add-random-9": ("same-decay", None, record(others, "add-random-9", seed=9, grok=None)),
        "add-capped-42": ("grok-without-decay", None, record(others, "add-capped-42", decay=0.1, grok=1200)),
    }
    manifest(others, "same-decay", same)
    return root


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("readings")


@pytest.fixture(scope="module")
def book(pages, results, kept):
    studies = pages("records").load(results)
    found = pages("readings").update(studies, kept, again=False, said=lambda _: None)
    return pages("book").Book(studies, found, pages("book").published())


def cells(lines):
    """A table as rows of cells, without its ruler."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [rows[0], *rows[2:]]


def test_every_block_says_what_is_missing_where_nothing_is_recorded(pages):
    book = pages("book")
    for name, made in pages("make_experiments").blocks(book.Book({}, {}, book.published())).items():
        text = "\n".join(made())
        assert text, name
        assert any(word in text for word in ("recorded yet", "not recorded", "planned in", "–", "published")), name


def test_every_block_is_on_a_page_and_every_page_names_only_blocks(pages):
    tool, book = pages("make_experiments"), pages("book")
    known = set(tool.blocks(book.Book({}, {}, book.published())))
    used = [
        line.split()[2]
        for page in tool.PAGES.glob("*.md")
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("<!-- made: ")
    ]
    assert sorted(used) == sorted(known)


def test_declines_on_the_page_are_those_of_the_trace(pages, book, results):
    head, row = cells(pages("pairs").declines(book, "arithmetic"))
    run, control = (se.open_trace(results / "grokking" / name) for name in ("add-42", "add-42-control"))
    one, other = (at_transition(trace, GROK, stride=2, group="attention*") for trace in (run, control))
    shown = dict(zip(head, row, strict=True))
    assert shown["run / control"] == "add-42"
    assert shown["step"] == "1,500"
    number = pages("words").number
    assert shown["g23, published windows"] == f"{number(one.g23.fold)} / {number(other.g23.fold)}"
    assert shown["tr G"] == f"{number(one.gram_trace.fold)} / {number(other.gram_trace.fold)}"
    whole = at_transition(run, GROK, stride=2), at_transition(control, GROK, stride=2)
    assert shown["g23, whole model"] == " / ".join(number(found.g23.fold) for found in whole)


def test_a_summary_counts_pairs_and_compares_their_ratio(pages, book):
    rows = {row[0]: row for row in cells(pages("pairs").summary(book, "arithmetic"))}
    (pair,) = book.pairs("arithmetic")
    run, control = (side["published"]["g23"]["fold"] for side in (pair.of_run, pair.of_control))
    row = rows["fall of g23, published windows"]
    assert row[3] == pages("words").number(run / control)
    assert row[4].startswith("1 of 1" if run > control else "0 of 1")


def test_a_run_that_never_makes_it_is_read_at_its_end_and_in_no_pair(pages, book):
    reading = book.reading(book.studies["grokking"].runs["add-7"])["published"]
    assert reading["transition"] is False
    assert reading["step"] == STEPS[-1]
    assert [pair.run.name for pair in book.pairs("arithmetic")] == ["add-42"]
    text = "\n".join(pages("pairs").found(book, "arithmetic"))
    assert "2 of 3 runs with weight decay reach" in text
    assert "0 of 1 controls reach 0.95 themselves" in text


def test_steps_stand_beside_the_published_ones_by_seed(pages, book):
    head, *rows = cells(pages("steps").steps(book, "arithmetic"))
    row = dict(zip(head, next(row for row in rows if row[0] == "add, first 0.95"), strict=True))
    assert row["ours: seed 42 / 137 / 2024"] == "1,500 / 1,700 / –"
    assert row["published"] == "3,100 / 3,200 / 2,600"
    assert row["ours, all seeds: mean [95 %]"].startswith("2 of 3: 1,600 [")
    assert row["difference"].startswith("-1,367 [")


def test_the_overview_counts_what_is_left(pages, book):
    head, *rows = cells(pages("overview").studies(book))
    shown = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert (shown["`grokking`"]["planned"], shown["`grokking`"]["recorded"], shown["`grokking`"]["left"]) == (
        "6",
        "4",
        "2",
    )
    assert shown["`shift`"]["planned"] == "not recorded"


def test_faults_are_compared_with_their_twins(pages, book):
    head, row = cells(pages("arms").perturbed(book, "fault-bank", {"stale": "old gradients"}))
    shown = dict(zip(head, row, strict=True))
    assert shown["what is done"] == "old gradients"
    # Losses 3 and 12 over the twin's 2: the geometric mean of 1.5 and 6. The third run ended without a number.
    assert shown["held-out loss over the twin's, last common step"].startswith("3.00 [")
    assert shown["ended without a number"] == "1"


def test_a_bank_s_runs_are_told_with_what_the_published_statistics_say(pages, book, results):
    head, *rows = cells(pages("arms").unwarned(book, "fault-bank"))
    by = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert set(by) == {"healthy", "stale"}
    folds = []
    for seed in (1, 2, 3):
        series = se.open_trace(results / "fault-bank" / f"stale-{seed}").edge(10)
        folds.append(series["g23"][:-1].max() / series["g23"][-1])
    over = sum(fold > 1.5 for fold in folds)
    assert by["stale"]["g23 falls by more than 1.5"].startswith(f"{over} of 3 ")
    expected = pages("words").number(float(np.exp(np.mean(np.log(folds)))))
    assert by["stale"]["fall of g23"].split(" ")[0] == expected
    held_out = SimpleNamespace(half="held-out", family="stories")
    assert not pages("readings").is_read("fault-bank", held_out)
    assert pages("readings").is_read("fault-bank", SimpleNamespace(half="development", family="stories"))


def test_losses_are_compared_at_the_last_step_of_both(pages):
    def run(steps, losses):
        return SimpleNamespace(result={"metrics": {"step": steps, "test_loss": losses}})

    last_common = pages("arms").last_common
    assert last_common(run([1, 50, 100], [3.0, 2.0, 1.0]), run([1, 50, 100, 150], [4.0, 3.0, 2.0, 0.1])) == (1.0, 2.0)
    assert last_common(run([1, 50], [3.0, None]), run([1, 50], [4.0, 3.0])) is None
    assert last_common(run([1], [3.0]), run([2], [4.0])) is None
    assert last_common(run([1], [3.0]), SimpleNamespace(result=None)) is None


def test_a_fault_is_seen_where_its_twin_does_not_change_as_much(pages, book, results):
    head, row = cells(pages("language").around_perturbation(book, "fault-bank"))
    assert row[0] == "stale"
    traces = {name: se.open_trace(results / "fault-bank" / name).edge(10) for name in ("healthy", "stale-1", "stale-2")}
    changes = {}
    for name, series in traces.items():
        before = [v for s, v in zip(series.step, series["coherence"], strict=True) if s <= FAULT_AT]
        after = [v for s, v in zip(series.step, series["coherence"], strict=True) if s >= FAULT_AT + 500]
        changes[name] = np.mean(after[:10]) - np.mean(before[-10:])
    third = se.open_trace(results / "fault-bank" / "stale-3").edge(10)
    at = {int(s): v for s, v in zip(third.step, third["coherence"], strict=True)}
    steps = sorted(at)
    changes["stale-3"] = np.mean([at[s] for s in steps if s >= FAULT_AT + 500][:10]) - np.mean(
        [at[s] for s in steps if s <= FAULT_AT][-10:]
    )
    expected = np.mean([changes[f"stale-{seed}"] - changes["healthy"] for seed in (1, 2, 3)])
    shown = dict(zip(head, row, strict=True))["coherence"]
    assert shown.split(" ")[0] == pages("words").number(float(expected), 2)


def test_runs_of_the_same_decay_are_read_where_runs_like_them_make_it(pages, book, results):
    same = book.studies["same-decay"].runs
    assert book.reading(same["add-random-42"])["published"]["step"] == GROK
    # Seed 9 was not run with the transition: the median of 1,500 and 1,700, the larger of two.
    assert book.reading(same["add-random-9"])["published"]["step"] == 1700
    (pairs,) = book.same_decay().values()
    assert [(pair.run.name, pair.control.name) for pair in pairs] == [("add-42", "add-random-42")]
    rows = cells(pages("pairs").by_arm(book.same_decay()))[1:]
    trace = se.open_trace(results / "same-decay" / "add-random-42")
    fold = at_transition(trace, GROK, stride=2, group="attention*").g23.fold
    assert rows[0][0] == "add-random"
    assert rows[0][3] == pages("words").number(fold)


def test_a_run_that_groks_without_decay_is_compared_with_the_control_at_its_own_step(pages, book, results):
    (pairs,) = book.without_decay().values()
    assert [(pair.run.name, pair.control.name) for pair in pairs] == [("add-capped-42", "add-42-control")]
    trace = se.open_trace(results / "grokking" / "add-42-control")
    expected = at_transition(trace, 1200, stride=2, group="attention*")
    assert pairs[0].of_control["published"]["step"] == 1200
    assert pairs[0].of_control["published"]["g23"]["fold"] == pytest.approx(expected.g23.fold, rel=1e-4)


def test_arms_are_runs_that_differ_in_their_seed_alone(pages, book):
    found = pages("arms").arms(book.studies["grokking"].recorded)
    assert {name: len(runs) for name, runs in found.items()} == {"add": 3, "add-control": 1}


def test_only_changed_runs_are_read_again(pages, book, results, kept, tmp_path):
    readings, studies = pages("readings"), book.studies
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    assert sorted(readings.load(tmp_path, "grokking")) == ["add-137", "add-42", "add-42-control", "add-7"]
    assert readings.stale(studies, tmp_path) == []
    said = []
    readings.update(studies, tmp_path, again=False, said=said.append)
    assert said == []
    path = results / "grokking" / "add-7" / "result.json"
    original = path.read_text()
    try:
        path.write_text(original.replace("100.0", "101.0"))
        again = pages("records").load(results)
        assert readings.stale(again, tmp_path) == ["readings of grokking/add-7"]
        readings.update(again, tmp_path, again=False, said=said.append)
        assert said == ["reading grokking/add-7"]
        assert readings.stale(again, tmp_path) == []
    finally:
        path.write_text(original)


def test_whatever_is_read_at_a_step_is_read_again_when_the_step_moves(pages, book, results, kept):
    path = results / "grokking" / "add-42" / "result.json"
    original = path.read_text()
    try:
        path.write_text(original.replace('"first_95": 1500', '"first_95": 1550'))
        stale = pages("readings").stale(pages("records").load(results), kept)
        assert "readings of grokking/add-42-control" in stale
        assert "readings of same-decay/add-random-42" in stale
        assert "readings of grokking/add-137" not in stale
    finally:
        path.write_text(original)


def test_a_reading_of_a_run_that_is_gone_is_out_of_date(pages, book, kept, tmp_path):
    plain = json.loads((kept / "grokking.json").read_text())
    plain["runs"]["sub-42"] = plain["runs"]["add-42"]
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    (tmp_path / "grokking.json").write_text(json.dumps(plain))
    assert pages("readings").stale(book.studies, tmp_path) == ["readings of grokking/sub-42, which is not recorded"]


def test_pictures_are_drawn_of_what_is_recorded(pages, book, tmp_path):
    drawn = pages("make_experiments").draw(book, tmp_path / "pictures")
    assert [path.name for path in drawn] == ["arithmetic_runs.png", "arithmetic_declines.png"]
    assert all(path.stat().st_size > 10_000 for path in drawn)


def test_words_between_blocks_stay(pages):
    filled = pages("words").filled
    text = "# A\n\n<!-- made: one -->\n\nold\n\n<!-- end -->\n\nWords.\n"
    once = filled(text, {"one": lambda: ["new", "lines"]})
    assert once == "# A\n\n<!-- made: one -->\n\nnew\nlines\n\n<!-- end -->\n\nWords.\n"
    assert filled(once, {"one": lambda: ["new", "lines"]}) == once
    with pytest.raises(KeyError):
        filled(text, {})


@pytest.mark.parametrize(
    ("value", "shown"),
    [(202.4, "202"), (13.04, "13.0"), (0.0271, "0.0271"), (5152.0, "5,150"), (0, "0"), (None, "–"), (9.996, "10.00")],
)
def test_numbers_have_three_digits(pages, value, shown):
    assert pages("words").number(value) == shown


def test_columns_of_numbers_stand_on_the_right(pages):
    lines = pages("words").table(["name", "value", "k*"], [["a", "1.2", "1"], ["b", "–", "one"]])
    assert lines[:2] == ["| name | value | k\\* |", "| --- | ---: | --- |"]


def test_intervals_are_those_of_scipy_and_of_closed_forms(pages):
    intervals = pages("intervals")
    values, others = [3.0, 5.0, 4.0, 9.0], [1.0, 2.5, 2.0]
    found = intervals.mean(values)
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    welch = stats.ttest_ind(values, others, equal_var=False).confidence_interval(0.95)
    apart = intervals.difference(values, others)
    assert (apart.low, apart.high) == pytest.approx((welch.low, welch.high))
    none = intervals.share(0, 7)  # Clopper and Pearson's upper limit for no hit
    assert (none.low, none.high) == pytest.approx((0.0, 1 - 0.025 ** (1 / 7)))
    every = intervals.share(7, 7)
    assert every.low == pytest.approx(0.025 ** (1 / 7))
    scaled, plain = intervals.geometric([10 * v for v in values]), intervals.geometric(values)
    assert (scaled.value, scaled.low, scaled.high) == pytest.approx((10 * plain.value, 10 * plain.low, 10 * plain.high))
    assert plain.value == pytest.approx(stats.gmean(values))
    assert not intervals.mean([4.0]).known
    assert intervals.mean([]) is intervals.share(0, 0) is intervals.difference([], values) is None
    assert intervals.mean_share([0.0, 1.0]).low == 0.0


def test_memory_alone_sees_norms_and_momentum(pages):
    walks = pages("walks")
    norms = np.array([[8.0, 8.1, 8.2, 1.0, 1.1, 1.05, 0.9, 1.0, 1.02, 0.98]])
    jump = walks.k_stars(walks.spectrum(walks._noise(norms, Memory(0.0, 1.0), dimension=10**8)))
    assert jump["raw"].position[0] == 3  # three large updates, no two alike
    even = np.ones((1, 10))
    momentum = walks._noise(even, Memory(0.9, 1.0), dimension=10**10)
    np.testing.assert_allclose(momentum[0], Memory(0.9, 1.0).matrix(10), atol=1e-3)
    assert walks.k_stars(walks.spectrum(momentum))["weighted"].position[0] == 1
