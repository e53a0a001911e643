"""Reports: one offline file whose sentences are computed, and stay true when run and control change places."""

import re
import sys
import warnings
from html.parser import HTMLParser
from unittest.mock import patch

import numpy as np
import pytest
import torch

import spectral_edge as se
from spectral_edge.errors import MissingExtraError, SpectralEdgeWarning
from spectral_edge.report import headline, write_report
from spectral_edge.report.pair import Pair
from spectral_edge.report.table import key_numbers

STEPS = 60


def record(
    *,
    groks=None,
    steps=STEPS,
    drift=0.0,
    decay=0.9,
    metrics=True,
    seed=0,
    window=4,
    broken_at=None,
    told_seed=0,
    every=1,
    evaluated=None,
    memorises=10,
    spike=None,
    optimizer=None,
    groups=None,
    task=None,
):
    """A synthetic run: shrinking random updates plus drift, and a test accuracy that jumps at `groks`.

    Accuracy is logged up to step `evaluated`; training accuracy is complete at `memorises`; `spike` is one lone good
    evaluation; `told_seed` is the seed that the trace records.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {"layers.0.weight": torch.zeros(40), "layers.1.weight": torch.zeros(40), "head.weight": torch.zeros(20)}
    told = {"seed": told_seed, "command": "make <run>"} | ({} if task is None else {"config": {"task": task}})
    if optimizer is not None:
        optimizer = optimizer([torch.nn.Parameter(tensor) for tensor in weights.values()])
    monitor = se.Monitor(
        weights, optimizer, window=window, every=every, horizon=2 * window, metadata=told, groups=groups
    )
    for step in range(1, steps + 1):
        for tensor in weights.values():
            tensor += decay**step * torch.randn(tensor.shape, generator=generator) + drift
        if step == broken_at:
            weights["head.weight"][0] = torch.nan
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SpectralEdgeWarning)
            monitor.step(loss=1.0 / step)
        if step == broken_at:
            weights["head.weight"].nan_to_num_()
        if metrics and step <= (evaluated or steps):
            passed = (groks is not None and step >= groks) or step == spike
            monitor.log(
                train_accuracy=min(1.0, step / memorises),
                test_accuracy=1.0 if passed else 0.1 + step / 1000,
                train_loss=1.0 / step,
                test_loss=2.0,
            )
    return monitor.trace


@pytest.fixture(scope="module")
def run():
    return record(groks=40)


@pytest.fixture(scope="module")
def control():
    return record(seed=1, drift=0.02)


def text_of(path):
    class Reader(HTMLParser):
        said = ""

        def handle_data(self, data):
            self.said += data

    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return re.sub(r"\s+", " ", reader.said)


# ---- the file


def unpainted(tmp_path, run, control=None):
    """A report whose figures are drawn, but not painted, which is most of the work."""
    with patch("spectral_edge.report.write._encode", return_value=""):
        return write_report(run, tmp_path / "r.html", control=control, images=False)


def page_of(tmp_path, run, control=None):
    return text_of(unpainted(tmp_path, run, control))


def test_one_file_that_works_offline(run, control, tmp_path):
    path = write_report(run, tmp_path / "new" / "report.html", control=control, title="Mine & <yours>")
    page = path.read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)\s*=\s*"([^"]{0,30})', page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"<script|<link|@import|url\(", page)
    assert "<h1>Mine &amp; &lt;yours&gt;</h1>" in page
    pictures = sorted(file.name for file in path.parent.glob("*.png"))
    names = ("accuracy", "coherence", "decline", "overview", "ratios", "spectrum", "stability")
    assert pictures == [f"report-{name}.png" for name in names]
    assert page.count("<img") == len(names)


def test_pictures_beside_it_can_be_left_out(run, tmp_path):
    path = write_report(run, tmp_path / "report.html", images=False)
    assert list(tmp_path.iterdir()) == [path]


def test_a_trace_reports_itself(run, control, tmp_path):
    assert run.report(tmp_path / "r.html", control=control).exists()


def test_the_same_runs_give_the_same_file(run, control, tmp_path):
    first = write_report(run, tmp_path / "a.html", control=control, images=False)
    second = write_report(run, tmp_path / "b.html", control=control, images=False)
    assert first.read_bytes() == second.read_bytes()


def test_it_says_what_it_must(run, control, tmp_path):
    said = page_of(tmp_path, run, control)
    for sentence in headline(run, control):
        assert sentence in said
    for needed in (
        "not met (censored at 60)",
        "no null value for this window",
        "cannot be told from structure",
        "outside the band",
        "make <run>",
        "Seed: 0",
        "torch",
        "unknown, so the null assumes updates without memory",
        "no step was skipped",
    ):
        assert needed in said
    assert "significant" not in said


def test_notes_are_told(tmp_path):
    said = page_of(tmp_path, record(groks=40, broken_at=20))
    assert "head.weight is not finite" in said
    assert "no step was skipped" not in said


def test_without_jinja_the_error_names_the_extra(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"spectral-edge\[report\]"):
        write_report(run, tmp_path / "r.html")


# ---- the sentences


def test_headline_of_a_run_that_groks(run, control):
    first, second, third = headline(run, control)
    assert first.startswith("The run groks at step 40")
    assert "30 steps after its training accuracy first reached 0.99" in first
    assert "the control makes no transition up to step 60, its last evaluation (best test accuracy 0.16)" in first
    series = run.edge(4)
    at = np.searchsorted(series.step, 40)
    fold = np.nanmax(series["g23"][:at]) / series["g23"][at]
    assert fold > 1000
    assert f"At step 40, g23 is {round(fold, -1):,.0f} times lower than at its peak before" in second
    assert "null band" in third


def test_swapping_run_and_control_changes_the_sentences_and_keeps_them_true(run, control):
    ours, swapped = headline(run, control), headline(control, run)
    assert all(a != b for a, b in zip(ours, swapped, strict=True))
    assert swapped[0].startswith("The run makes no transition up to step 60")
    assert "the control groks at step 40" in swapped[0]
    assert "read at the control's step" in swapped[0]
    assert swapped[1].startswith("At step 40, g23")
    pair, other = Pair.of(run, control), Pair.of(control, run)
    assert (pair.owner, other.owner, pair.step, other.step) == ("run", "control", 40, 40)
    assert [row.values[::-1] for row in key_numbers(pair)] == [row.values for row in key_numbers(other)]


def test_both_and_neither_are_said():
    early, late, never = record(groks=30), record(groks=50, seed=2), record(seed=3)
    assert headline(early, late)[0].startswith("Both grok: the run groks at step 30")
    assert "the control groks at step 50" in headline(early, late)[0]
    first, second, _ = headline(never, record(seed=4, steps=50))
    assert first.startswith("Neither makes the transition (test accuracy of at least 0.95")
    assert second.startswith("At step 50, the last that both reached")


def test_a_control_whose_g23_falls_as_well_is_not_hidden():
    _, second, _ = headline(record(groks=40), record(seed=1))
    assert "both pass the published bar of 1.5, which does not tell them apart" in second


def test_a_control_that_does_not_fall_is_told_apart():
    _, second, _ = headline(record(groks=40), record(seed=2, decay=1.3))
    assert "only the run passes" in second
    _, second, _ = headline(record(groks=40, decay=1.3, seed=2), record())
    assert "only the control passes" in second
    assert "above every earlier window" in second or "lower than at its peak" in second


def test_a_control_that_ended_before_the_step_is_not_read(run, tmp_path):
    short = record(seed=1, steps=30)
    _, second, third = headline(run, short)
    assert "the control cannot be read at that step" in second
    assert "is undefined or without a null band in the control" in third
    assert unpainted(tmp_path, run, short).exists()


def test_without_control(run, tmp_path):
    _, second, _ = headline(run)
    assert "without a control" in second
    said = page_of(tmp_path, run)
    assert "yoked" not in said
    assert "the control" not in said.replace("without a control", "")


def test_without_metrics(tmp_path):
    trace = record(metrics=False)
    first, second, _ = headline(trace)
    assert first == (
        "No test accuracy was logged for the run, so no transition can be dated; it was watched up to step 60."
    )
    assert second.startswith("At the end, g23")
    assert "no test accuracy logged" in page_of(tmp_path, trace)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_shorter_than_a_window(steps, tmp_path):
    trace = record(steps=steps, metrics=False)
    _, second, third = headline(trace)
    updates = "1 update" if steps == 1 else f"{steps} updates"
    assert f"The run has no full window: {updates} recorded, 4 in a row needed" in second
    assert "before a window of 4 updates is full" in third
    path = write_report(trace, tmp_path / "r.html")
    assert "no full window" in text_of(path)
    assert not (tmp_path / "r-spectrum.png").exists()


def test_a_short_control_beside_a_full_run(run, tmp_path):
    short = record(steps=3, metrics=False, seed=1)
    said = page_of(tmp_path, run, short)
    assert "The control has no full window: 3 updates recorded" in said


def test_undefined_values_are_said_with_their_reason(tmp_path):
    snapshots = [np.array([float(t), 0.0, 0.0]) for t in range(30)]  # rank one: no ratio exists
    trace = se.scan(snapshots, horizon=10, metadata={"seed": 1})
    said = text_of(write_report(trace, tmp_path / "r.html", images=False, window=5))
    assert "undefined: The window's rank is below two" in said
    assert "nan" not in said.lower().replace("cannan", "")


def test_window_and_horizon_follow_the_trace():
    assert Pair.of(record(window=5), None).run.window == 5
    snapshots = [np.random.default_rng(t).normal(size=50) for t in range(30)]
    assert Pair.of(se.scan(snapshots, horizon=6), None).run.window == 6
    assert Pair.of(se.scan(snapshots, horizon=24), None).run.window == 10


# ---- what reviewers found


def test_a_run_is_censored_where_its_accuracy_was_last_evaluated(run, tmp_path):
    control = record(evaluated=30)
    first = headline(run, control)[0]
    assert "the control makes no transition up to step 30, its last evaluation" in first
    said = page_of(tmp_path, run, control)
    assert "not met (censored at 30)" in said
    assert "meets none of the criteria up to step 30, its last evaluation" in said
    assert "censored at 60" not in said
    assert Pair.of(run, control).views()[1].title == "Control: no transition up to step 30"


def test_only_a_run_that_memorised_before_is_said_to_grok(run, tmp_path):
    together = record(groks=40, memorises=40)
    first = headline(together, run)[0]
    assert first.startswith("Both make the transition: the run makes the transition at step 40")
    assert "the control groks at step 40" in first
    assert headline(record(groks=14, memorises=10))[0].startswith("The run makes the transition")
    assert headline(record(groks=15, memorises=10))[0].startswith("The run groks")
    assert Pair.of(together, None).views()[0].marks[0].label == "transition step 40"
    said = page_of(tmp_path, together, record(memorises=40))
    assert "grok" not in said.replace("A run is said to grok", "").replace("grokking tables", "")


def test_a_lone_spike_is_named_by_its_criterion(tmp_path):
    spiked = record(spike=20, evaluated=50)
    first = headline(spiked)[0]
    assert first == (
        "The run has its first test accuracy of at least 0.95 at step 20, but no test accuracy of at least 0.95 in 3 "
        "evaluations running up to step 50, its last evaluation (best test accuracy 1)."
    )
    assert Pair.of(spiked, None).views()[0].title == "Run: no sustained 0.95 up to step 50"
    assert "never" not in page_of(tmp_path, spiked)


def test_a_yoked_control_differs_in_nothing_and_is_not_warned_of(run, control, tmp_path):
    assert Pair.of(run, control).differences == []
    assert "two differ" not in page_of(tmp_path, run, control)
    assert Pair.of(run, None).differences == []


def adam(parameters):
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1.0)


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        ({}, {"told_seed": 1}, ["seed"]),
        ({}, {"steps": 50}, ["last step"]),
        ({}, {"every": 2}, ["steps an update spans"]),
        ({}, {"window": 5}, ["window watched with"]),
        ({"optimizer": adam}, {"optimizer": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.0)}, []),
        ({"optimizer": adam}, {"optimizer": lambda p: torch.optim.AdamW(p, lr=2e-3)}, ["learning rate"]),
        (
            {"optimizer": adam},
            {"optimizer": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.5)},
            ["optimizer", "momentum"],
        ),
        ({"optimizer": adam}, {}, ["momentum"]),
        ({"task": {"operation": "add"}}, {"task": {"operation": "sub"}}, ["operation"]),
    ],
)
def test_what_differs_besides_weight_decay_is_said(ours, theirs, names, tmp_path):
    run, control = record(groks=40, **ours), record(**theirs)
    assert [difference.name for difference in Pair.of(run, control).differences] == names
    page = unpainted(tmp_path, run, control).read_text(encoding="utf-8")
    assert page.count('<p class="notice"') == bool(names)
    assert ("the two differ" in headline(run, control)[0]) == bool(names)
    assert len(headline(run, control)) == 3


def test_other_parameters_are_a_difference():
    def watched(size):
        snapshots = [np.random.default_rng(t).normal(size=size) for t in range(30)]
        return se.scan(snapshots, horizon=10)

    (found,) = Pair.of(watched(50), watched(60)).differences
    assert found.words == "parameters watched (50 in the run, 60 in the control)"
    one, other = ([{name: np.ones(4) * t} for t in range(9)] for name in ("a", "b"))
    (found,) = Pair.of(se.scan(one, horizon=4), se.scan(other, horizon=4)).differences
    assert found.name == "tensors watched"


def test_part_of_a_model_is_a_difference():
    def watched(select):
        model = {"a": torch.zeros(10), "b": torch.zeros(10)}
        monitor = se.Monitor(model, window=3, every=1, select=select)
        for _ in range(8):
            model["a"] += 1
            monitor.step()
        return monitor.trace

    names = [difference.name for difference in Pair.of(watched(None), watched("a")).differences]
    assert names == ["parameters watched", "coverage"]


def test_notice_names_the_values_and_whether_decay_is_the_treatment(tmp_path):
    decayed, undecayed = (
        record(groks=40, optimizer=adam),
        record(steps=50, optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.0)),
    )
    said = page_of(tmp_path, decayed, undecayed)
    assert "These two differ in more than the treatment: last step (60 in the run, 50 in the control)." in said
    said = page_of(tmp_path, decayed, record(steps=50, optimizer=adam))
    assert "These two differ, and not in weight decay: last step" in said


def test_p_is_said_to_be_of_the_whitened_coherence(run, control, tmp_path):
    assert "p being that of the whitened coherence under sign flips" in headline(run, control)[2]
    said = page_of(tmp_path, run, control)
    assert "exact, for any covariance, only for updates without memory" in said
    assert "once the memory is right" not in said


def test_regimes_are_not_spoken_of(run, control, tmp_path):
    said = page_of(tmp_path, run, control)
    assert not re.search(r"regime|plateau|forgetting", said)
    assert "of the run's leading directions (raw k*" in said


def test_published_statistic_is_labelled_and_read_for_attention_too(tmp_path):
    run = record(groks=40, groups={"attention": "layers.0.*"})
    rows = {row.name: row for row in key_numbers(Pair.of(run, record()))}
    assert "the paper: attention matrices" in rows["g23"].remark
    series = run.edge(4, group="attention")
    at = int(np.searchsorted(series.step, 40))
    fold = series["g23"][:at].max() / series["g23"][at]
    cells = rows["g23 of group attention"].values
    assert float(cells[0].removesuffix("-fold").replace(",", "")) == pytest.approx(fold, rel=5e-3)
    assert cells[1] == "no such group"
    assert "g23 of group attention" not in {row.name for row in key_numbers(Pair.of(record(), None))}


def test_a_peak_in_the_first_window_is_said(tmp_path):
    early = "the first full window, so the fold mostly measures early training"
    steep, rising = record(groks=40, decay=0.5), record(groks=40, decay=1.1)
    assert early in page_of(tmp_path, steep)
    assert early not in page_of(tmp_path, rising)


def test_metric_names_are_said(run, tmp_path):
    said = page_of(tmp_path, run)
    for name in ("test_accuracy", "val_accuracy", "eval_accuracy", "train_accuracy", "*_loss"):
        assert f"`{name}`" in said


def test_a_window_of_two_has_no_g23(tmp_path):
    trace = record(groks=40, window=2)
    assert "the decline of g23 is undefined for the run" in headline(trace)[1]
    rows = {row.name: row.values for row in key_numbers(Pair.of(trace, None))}
    assert rows["g23"] == rows["g23 / tr G"] == ("undefined",)
    assert rows["tr G"][0].endswith("-fold")
    assert "the decline is undefined for the run" in page_of(tmp_path, trace)
