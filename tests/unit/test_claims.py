"""The ledger on recorded runs: units, surrogates, what is deleted, claims of one's own, the command line."""

import importlib
import json
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import spectral_edge as se
from spectral_edge import claims_command, cli, open_trace
from spectral_edge.claims import Evidence, Ledger, Measured, Verdict, load_claims, recorded_lines
from spectral_edge.claims.candidates import complete, inward, weights_in_mode, weights_in_window
from spectral_edge.claims.catalog import x8_hazard
from spectral_edge.claims.claim import NO_DECAY, RANDOM_LABELS, SAME_DECAY, SURROGATES
from spectral_edge.claims.onset import onset, relief
from spectral_edge.claims.surrogates import Recipe, drifting, few_directions, remembering, surrogate
from spectral_edge.errors import InputError, SpectralEdgeWarning

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
RUNS = ("add-42", "add-42-control", "sub-42")
"""A pair, and a run whose control is not recorded in the copy."""

pytestmark = pytest.mark.skipif(not (RESULTS / "grokking").is_dir(), reason="the recorded studies are not installed")

OWN = """
from dataclasses import replace
from spectral_edge.claims.catalog.m1_decline_arithmetic import CLAIM as M1

CLAIM = replace(M1, id="{id}", title="my own", families=("arithmetic",))
"""


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Results with three runs of the grokking study and one record."""
    folder = tmp_path_factory.mktemp("results")
    plan = json.loads((RESULTS / "grokking" / "study.json").read_text())
    plan["runs"] = {name: plan["runs"][name] for name in (*RUNS, "sub-42-control")}
    (folder / "grokking").mkdir()
    (folder / "grokking" / "study.json").write_text(json.dumps(plan))
    for name in RUNS:
        shutil.copytree(RESULTS / "grokking" / name, folder / "grokking" / name)
    (folder / "theory").mkdir()
    shutil.copy(RESULTS / "theory" / "lifecycle_again.json", folder / "theory")
    return folder


@pytest.fixture(scope="module")
def evidence(few):
    return Evidence(few)


@pytest.fixture(scope="module")
def trace():
    return open_trace(RESULTS / "grokking" / "add-42")


def test_new_claims_wait_for_every_held_out_run_and_its_controls():
    seeds = {"grokking": {"add-42": 42, "add-1001": 1001, "add-1001-control": 1001}}
    seeds["same-decay"] = {"add-random-42": 42, "add-random-1001": 1001}

    def recorded(*names):
        found = {study: [SimpleNamespace(name=name) for of, name in names if of == study] for study in seeds}
        return SimpleNamespace(study=lambda study, family: found[study], planned=lambda study, family: seeds[study])

    held_out = [("grokking", "add-1001"), ("grokking", "add-1001-control"), ("same-decay", "add-random-1001")]
    assert complete(recorded(*held_out), "arithmetic")
    for missing in held_out:
        assert not complete(recorded(*(name for name in held_out if name != missing)), "arithmetic")


def test_runs_are_yoked_to_their_controls(evidence):
    add, sub = sorted(evidence.yoked("arithmetic"), key=lambda pair: pair.run.name)
    assert (add.run.name, sub.run.name) == ("add-42", "sub-42")
    assert add.step == 3_100
    assert add.controls[NO_DECAY].name == "add-42-control"
    assert set(sub.controls) == {SURROGATES}


def test_a_surrogate_keeps_norms_steps_and_what_is_undefined(trace):
    made = surrogate(trace, seed=1)
    rows, noise = trace.lag_rows(), made.lag_rows()
    np.testing.assert_allclose(noise[:, 0], rows[:, 0], rtol=1e-12)
    np.testing.assert_array_equal(np.isfinite(noise), np.isfinite(rows))
    np.testing.assert_array_equal(made.steps, trace.steps)
    again = surrogate(trace, seed=1).lag_rows()
    np.testing.assert_array_equal(noise, again)
    assert not np.allclose(noise[:, 1], surrogate(trace, seed=2).lag_rows()[:, 1])


def test_a_ladder_of_a_surrogate_is_the_sums_of_its_rows(trace):
    made = surrogate(trace, seed=3)
    rows, longer = made.lag_rows(), made.lag_rows(stride=2)
    ends = np.searchsorted(made.steps, made.ladder_steps(2))
    known = np.isfinite(longer[:, 0]) & (ends >= 1)
    pair = rows[ends, 0] + rows[ends - 1, 0] + 2 * rows[ends, 1]
    np.testing.assert_allclose(longer[known, 0], pair[known], rtol=1e-10)


@pytest.mark.parametrize(("recipe", "expected"), [(Recipe(memory=0.9), 0.9), (Recipe(memory=0.0, drift=1.0), 0.5)])
def test_a_recipe_gives_the_cosine_that_it_says(trace, recipe, expected):
    rows = np.stack([surrogate(trace, seed=s, recipe=recipe).lag_rows("attention_0") for s in range(5)])
    cosine = rows[:, 1:, 1] / np.sqrt(rows[:, 1:, 0] * rows[:, :-1, 0])
    # 1000 directions: a cosine has a standard error of about 1/sqrt(1000) a row
    assert cosine.mean() == pytest.approx(expected, abs=4 / np.sqrt(1000 * 5))


def test_noise_has_the_memory_and_the_drift_of_the_run(trace):
    source = surrogate(trace, seed=5, recipe=Recipe(memory=0.8)).lag_rows("attention_0")
    assert remembering(source).memory == pytest.approx(0.8, abs=0.03)
    assert remembering(surrogate(trace, seed=6, recipe=Recipe(memory=0.0)).lag_rows("attention_0")).memory < 0.02
    source = surrogate(trace, seed=7, recipe=Recipe(memory=0.0, drift=0.5)).lag_rows("attention_0")
    assert drifting(source).drift == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("dimension", [5, 30, 300])
def test_few_directions_are_counted_from_the_scatter_of_cosines(trace, dimension):
    made = surrogate(trace, seed=5, recipe=Recipe(memory=0.0, dimension=dimension))
    groups = [made.lag_rows(name) for name in ("attention_0", "attention_1")]
    found = few_directions(made.lag_rows("attention*"), groups).dimension
    assert 0.7 * dimension < found < 1.4 * dimension
    drifting_noise = surrogate(trace, seed=5, recipe=Recipe(memory=0.0, drift=1.0))  # a drift is not few directions
    rows = drifting_noise.lag_rows("attention_0")
    assert few_directions(rows, [rows]).dimension > 500


def test_claims_on_language_models_read_the_whole_model_and_those_on_grokking_the_attention(evidence):
    run = next(run for run in evidence.study("grokking") if run.name == "add-42")
    inventory = run.trace.segments[-1].inventory
    everything = sum(tensor.numel for tensor in inventory.tensors)
    attention = sum(
        tensor.numel for tensor in inventory.tensors if ".self_attn." in tensor.name and len(tensor.shape) == 2
    )
    assert (run.watched, run.parameters) == ("attention*", attention)
    language = replace(run, family="stories")
    assert (language.watched, language.parameters) == (None, everything)


def test_published_statistics_are_told_of_runs_and_controls(evidence):
    entry = next(Ledger(evidence).entries(claim="M1", family="arithmetic"))
    line = entry.to_json()
    folds = [unit.run.statistics["fold of g23"] for unit in entry.units]
    told = line["statistics"]["fold of g23"]
    assert (told["least"], told["largest"], told["of"]) == (min(folds), max(folds), 2)
    assert told["median"] == pytest.approx(sum(folds) / 2)
    assert line["controls"][NO_DECAY]["statistics"]["fold of g23"]["of"] == 1
    assert line["measured"].startswith("2 of 2, fold of g23 ")


def test_what_is_not_finite_is_no_statistic():
    assert Measured("a", 1.0, None, {"r": float("nan"), "s": np.float32(2)}).statistics == {"s": 2.0}


@pytest.mark.parametrize(
    ("run", "control", "steps", "whole"),
    [
        ([1, 5, 5, 5], [2, 2, 2, 2], 200, False),
        ([5, 5, 1, 5], [2, 2, 2, 2], 0, False),
        ([5, 5, 2, 5], [2, 2, 2, 2], 0, False),  # a tie is not above
        ([5, 5, 5, 5], [2, 2, 2, 2], 300, True),
        ([5, 5, 5, 1], [2, 2, 2, 2], None, False),
        ([1, np.nan, 5, 5], [2, 2, 2, 2], 100, False),
        ([np.nan, 5, 5, 5], [2, 2, 2, 2], 200, True),
        ([5, 5, 5, 5], [2, 2, np.nan, 2], 300, True),
    ],
)
def test_an_onset_is_the_step_from_which_a_run_stays_above_its_control(evidence, run, control, steps, whole):
    pair = next(pair for pair in evidence.yoked("arithmetic") if pair.run.name == "add-42")
    made = {"run": run, "control": control}
    at = pair.step - np.array([300, 200, 100, 0, -100])

    def track(_, of):
        values = made[of.name]
        return at[: len(values)], np.array(values, dtype=float)

    first, second = (replace(pair.run, name=name) for name in made)
    found = onset(evidence, first, pair.step, second, track)
    assert (found.steps, found.whole) == (steps, whole)
    made["run"], made["control"] = [*run, -1.0], [*control, 2.0]  # what comes after the transition does not count
    assert onset(evidence, first, pair.step, second, track) == found


def test_the_test_loss_is_seen_to_fall_without_a_control(evidence):
    run = next(pair.run for pair in evidence.yoked("arithmetic") if pair.run.name == "add-42")
    steps, loss = run.metric("test_loss")
    at = run.grok() - relief(run, run.grok())
    peak = loss[steps <= run.grok()].max()
    assert (loss[(steps >= at) & (steps <= run.grok())] <= 0.9 * peak).all()
    assert loss[steps < at][-1] > 0.9 * peak


def test_a_control_serves_its_own_run_before_any_other(evidence):
    def other(name, seed, *, dealt, step=None):
        result = {
            "config": {"task": {"random_labels": dealt, "operation": "add"}, "steps": 5_000},
            "grok": {"first_95": step},
        }
        return replace(run, name=name, study="same-decay", seed=seed, member="add", result=result)

    run = next(pair.run for pair in evidence.yoked("arithmetic") if pair.run.name == "add-42")
    later = replace(run, name="add-7", seed=7)
    controls = [
        other("little-7", 7, dealt=False),
        other("random-7", 7, dealt=True),
        other("random-9", 9, dealt=True),
        other("little-9", 9, dealt=False, step=100),  # made a transition after all
    ]
    runs = {"grokking": [run, later], "same-decay": controls}
    made = SimpleNamespace(study=lambda name, **_: runs[name], twins=lambda *_, **__: [])
    first, second = Evidence.yoked(made, "arithmetic")
    assert {name: one.name for name, one in first.controls.items() if name in SAME_DECAY} == {RANDOM_LABELS: "random-9"}
    assert {second.controls[kind].name for kind in SAME_DECAY} == {"random-7", "little-7"}


def test_commutators_are_read_of_runs_that_logged_them_up_to_the_transition(evidence):
    pair = next(pair for pair in evidence.yoked("arithmetic") if pair.run.name == "add-42")

    def logged(run, norm, relative):
        columns = {"step": [1, 100, 200, 300], "commutator_norm": norm, "commutator": relative}
        return replace(run, result={**run.result, "metrics": columns})

    run = logged(pair.run, [3.0, 9.0, 2.0, 1.0], [0.2, 0.8, 0.4, 0.1])
    twin = logged(pair.controls[NO_DECAY], [1.0, 2.0, 3.0, 9.0], [0.2, 0.2, 0.2, 0.9])
    yoked = replace(pair, run=run, step=250, controls={**pair.controls, NO_DECAY: twin})
    (claim,) = (claim for claim in load_claims() if claim.id == "X6")
    (unit,) = claim.units(SimpleNamespace(yoked=lambda _: [yoked, pair]), "arithmetic")
    assert set(unit.controls) == {NO_DECAY}  # noise has no weights
    assert (unit.run.value, unit.run.passed) == (pytest.approx(np.log(2)), True)
    assert unit.run.statistics["lead, steps"] == 150
    assert (unit.controls[NO_DECAY].value, unit.controls[NO_DECAY].passed) == (0.0, False)


def test_a_hazard_s_covariates_are_those_of_the_evaluation_before(evidence):
    run = next(pair.run for pair in evidence.yoked("arithmetic") if pair.run.name == "add-42")
    found = x8_hazard._read(evidence, run)
    assert found.step[-1] == run.grok()
    assert found.event.tolist() == [False] * (len(found.step) - 1) + [True]
    assert set(np.diff(found.step)) == {100.0}  # it is evaluated every 100 steps, and observed every 50
    series = run.trace.edge(10, group="attention*")
    before = np.searchsorted(series.step, found.step - 100)
    np.testing.assert_allclose(np.exp(-found.covariate), series["g23_normalized"][before])
    np.testing.assert_allclose(np.exp(found.norms["update norm"]), series["update_norm"][before])
    squares = {row.step: row.square[:2].sum() for row in run.trace.probes("parameters")}
    assert run.trace.segments[0].entries[:2] == ("attention_0", "attention_1")
    np.testing.assert_allclose(np.exp(2 * found.norms["weight norm"]), [squares[int(at)] for at in found.step - 100])
    late = replace(run, name="late", result={**run.result, "grok": {"first_95": 400}})
    assert x8_hazard._read(evidence, late) is None  # its transition comes before its first window


def test_weights_beside_a_window_are_what_dense_algebra_says(evidence):
    generator = torch.Generator().manual_seed(3)
    weights = {f"attention_{i}.weight": torch.randn(20, generator=generator, dtype=torch.float64) for i in range(2)}
    weights["other"] = torch.zeros(5, dtype=torch.float64)
    groups = {"attention_0": ["attention_0.*"], "attention_1": ["attention_1.*"]}
    places = []
    with se.Monitor(weights, window=10, horizon=20, every=1, store="groups", groups=groups) as monitor:
        for _ in range(25):
            for tensor in weights.values():
                tensor += 0.1 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64) - 0.02 * tensor
            monitor.step()
            monitor.probe(parameters="parameters")
            places.append(torch.cat([weights["attention_0.weight"], weights["attention_1.weight"]]).numpy().copy())
        trace = monitor.trace
    pair = next(pair for pair in evidence.yoked("arithmetic") if pair.run.name == "add-42")
    run = replace(pair.run, name="small", load=lambda: trace)
    theta, updates = places[19], np.diff(places, axis=0)[9:19]
    v1 = np.linalg.svd(updates, full_matrices=False)[2][0]
    moved = updates.sum(axis=0)
    span = np.linalg.lstsq(updates.T, theta, rcond=None)[0] @ updates
    square = theta @ theta
    assert weights_in_mode(evidence, run, 20) == pytest.approx((v1 @ theta) ** 2 / square)
    assert inward(evidence, run, 20) == pytest.approx(-(moved @ theta) / np.sqrt(square * (moved @ moved)))
    assert weights_in_window(evidence, run, 20) == pytest.approx(span @ span / square)
    assert weights_in_mode(evidence, run, 9) is None  # no full window
    assert weights_in_mode(evidence, run.noise(), 20) is None  # noise has no weights


def test_every_prediction_and_headline_is_a_claim():
    names = {claim.id for claim in load_claims()}
    predictions = {f"T{i}" for i in range(1, 9)} | {f"S{i}" for i in range(1, 7)} | {f"M{i}" for i in range(1, 7)}
    assert predictions | {f"H{i}" for i in range(1, 7)} <= names


def test_a_claim_says_everything_that_a_page_needs():
    for claim in load_claims():
        words = (claim.title, claim.statement, claim.criterion, claim.corrected, claim.convention, claim.needs)
        assert all((*words, claim.would_change, claim.families)), claim.id
        assert all(claim.published_for(family).value for family in claim.families)


def test_the_ledger_reads_what_is_there_and_says_what_is_not(evidence):
    entries = {(entry.claim.id, entry.family): entry for entry in Ledger(evidence).entries()}
    assert entries["M1", "arithmetic"].judgement.passed.of == 2
    assert entries["M3", "dyck"].judgement.verdict is Verdict.NOT_TESTABLE
    assert entries["M5", "mini-batch"].judgement.verdict is Verdict.NOT_DISCRIMINATING
    assert entries["H4", "mini-batch"].judgement.verdict is Verdict.NOT_TESTABLE
    for entry in entries.values():
        json.dumps(entry.to_json(), allow_nan=False)


def test_deleting_results_turns_claims_to_not_testable_and_the_exit_code_says_so(few, tmp_path, capsys):
    kept = tmp_path / "results"
    shutil.copytree(few, kept)
    lines = [entry.to_json() for entry in Ledger(Evidence(kept)).entries(claim="M2")]
    (kept / "claims").mkdir()
    (kept / "claims" / "ledger.json").write_text(json.dumps({"ledger": lines}))
    cli.main(["claims", "--claim", "M2", "--results", str(kept), "--quiet"])
    capsys.readouterr()
    shutil.rmtree(kept / "grokking" / "add-42")
    with pytest.raises(SystemExit) as ended:
        cli.main(["claims", "--claim", "m2", "--results", str(kept), "--json"])
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert {line["verdict"] for line in json.loads(out)} == {"not testable here"}
    assert "M2, arithmetic: not testable here, recorded" in err


def test_a_verdict_that_stands_on_other_runs_is_told(few, tmp_path, capsys):
    kept = tmp_path / "results"
    shutil.copytree(few, kept)
    lines = [entry.to_json() for entry in Ledger(Evidence(kept)).entries(claim="M1", family="arithmetic")]
    (kept / "claims").mkdir()
    (kept / "claims" / "ledger.json").write_text(json.dumps({"ledger": lines}))
    typed = ["claims", "--claim", "M1", "--family", "arithmetic", "--results", str(kept)]
    cli.main(typed)
    assert "same verdict" not in capsys.readouterr().out
    shutil.rmtree(kept / "grokking" / "sub-42")
    cli.main(typed)
    assert "M1, arithmetic: same verdict, runs 1, recorded 2" in capsys.readouterr().out


def test_a_result_without_its_trace_supports_nothing(few, tmp_path):
    kept = tmp_path / "results"
    shutil.copytree(few, kept)
    shutil.rmtree(kept / "grokking" / "add-42" / "trace")
    with pytest.warns(SpectralEdgeWarning, match="add-42"):
        pairs = Evidence(kept).yoked("arithmetic")
    assert [pair.run.name for pair in pairs] == ["sub-42"]


@pytest.mark.parametrize("damage", ["result", "rows", "segment"])
def test_what_is_damaged_counts_as_not_recorded_and_is_named(few, tmp_path, damage):
    kept = tmp_path / "results"
    shutil.copytree(few, kept)
    run = kept / "grokking" / "add-42"
    if damage == "result":
        (run / "result.json").write_text((run / "result.json").read_text()[:300])
    elif damage == "rows":
        rows = run / "trace" / "segment-000" / "rows.npz"
        rows.write_bytes(rows.read_bytes()[: rows.stat().st_size // 2])
    else:
        (run / "trace" / "segment-000" / "segment.json").write_text("{")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        pairs = Evidence(kept).yoked("arithmetic")
    assert [pair.run.name for pair in pairs] == ["sub-42"]
    assert any(re.search("add-42 of study grokking.* not recorded", str(warning.message)) for warning in told)


def test_a_damaged_manifest_is_wrong_input(few, tmp_path):
    kept = tmp_path / "results"
    shutil.copytree(few, kept)
    (kept / "grokking" / "study.json").write_text("[")
    with pytest.raises(InputError, match="spectral-edge study grokking"):
        Evidence(kept).yoked("arithmetic")


def test_fresh_runs_are_not_trained_for_a_claim_that_is_none(monkeypatch):
    monkeypatch.setattr(claims_command, "study", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(SystemExit) as ended:
        cli.main(["claims", "--fresh", "--claim", "ZZ"])
    assert ended.value.code == 2


def test_a_claim_of_ones_own(few, tmp_path, capsys):
    own = tmp_path / "own.py"
    page = (ROOT / "docs" / "claims" / "your-own.md").read_text(encoding="utf-8")
    own.write_text(page.split("```python\n")[1].split("```")[0])
    with pytest.raises(SystemExit):
        cli.main(["claims", "--file", str(own), "--claim", "Z1", "--results", str(few), "--json"])
    line, other = json.loads(capsys.readouterr().out)
    assert (line["id"], line["family"], line["runs"]) == ("Z1", "arithmetic", 2)
    assert other["verdict"] == "not testable here"
    wanted = {"id", "family", "verdict", "published", "measured", "interval", "runs", "controls", "null", "evidence"}
    assert wanted <= set(line)
    own.write_text(OWN.format(id="M1"))
    with pytest.raises(InputError, match="a new id"):
        load_claims(own)
    own.write_text("nothing = ")
    with pytest.raises(InputError, match="Python that runs"):
        load_claims(own)
    own.write_text("nothing = 1")
    with pytest.raises(InputError, match="CLAIM"):
        load_claims(own)
    with pytest.raises(InputError, match="Python file"):
        load_claims(tmp_path / "none.py")


def test_fresh_runs_are_trained_where_they_are_judged(few, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(claims_command, "FRESH", few)
    monkeypatch.setattr(claims_command, "study", lambda name, **options: asked.append((name, options["out"])))
    cli.main(["claims", "--fresh", "--claim", "M1", "--family", "arithmetic"])
    assert asked == [("fresh", few / "grokking")]
    out = capsys.readouterr().out
    assert "arithmetic: inconclusive" in out
    assert "no decay: the twin" in out


def test_wrong_input_is_named(few, tmp_path):
    ledger = Ledger(Evidence(few))
    with pytest.raises(InputError, match="expected one of H1"):
        ledger.lines(claim="Q9")
    with pytest.raises(InputError, match="family"):
        ledger.lines(claim="M1", family="scan")
    with pytest.raises(InputError, match="--results"):
        Evidence(tmp_path / "none")
    record = tmp_path / "kept" / "claims" / "ledger.json"
    record.parent.mkdir(parents=True)
    record.write_text("[]")
    with pytest.raises(InputError, match="make claims"):
        recorded_lines(tmp_path / "kept")
    broken = tmp_path / "results" / "theory"
    broken.mkdir(parents=True)
    (broken / "lifecycle_again.json").write_text("{}")
    with pytest.raises(InputError, match="a JSON object with numbers"):
        list(Ledger(Evidence(tmp_path / "results")).entries(claim="M5"))


def test_pages_and_pictures_follow_from_the_record(monkeypatch, evidence, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    tool = importlib.import_module("make_claims")
    assert tool.out_of_date(tool.recorded(), load_claims()) == [], "run: make claims"
    from spectral_edge.plots import claim_figure, ledger_figure

    entries = list(Ledger(evidence).entries(claim="M1"))
    ledger_figure(entries).savefig(tmp_path / "ledger.png")
    figure = claim_figure(entries)
    assert figure is not None
    assert [ax.get_xlabel() for ax in figure.axes] == ["fold of g23", "ln fall of g23 / tr G"]
    figure.savefig(tmp_path / "m1.png")
    assert claim_figure([entry for entry in entries if entry.family == "tri"]) is None
