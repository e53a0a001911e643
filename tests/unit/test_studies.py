"""Studies: planned, worked off, interrupted, killed, resumed, failed, locked and told."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spectral_edge import InputError, cli, open_trace, study_command
from spectral_edge.experiments import configure, run
from spectral_edge.experiments.folder import RunFolder
from spectral_edge.studies import STUDIES, Planned, Study, costs, open_pool, states, work
from spectral_edge.studies.cost import SECONDS_PER_STEP
from spectral_edge.studies.lock import locked
from spectral_edge.studies.work import STOP, train

RECORDED = Path(__file__).parents[2] / "results" / "grokking" / "study.json"


def tiny(seed=0, steps=60, **options):
    """A run of a tenth of a second that makes its transition at step 30."""
    task = {"p": 5, "operation": "x2_y2", "train_fraction": 0.8, "d_model": 8, "heads": 2, "d_feedforward": 8}
    watched = {"horizon": 10, "observe_every": 2, "eval_every": 5, "checkpoint_every": 10}
    return configure(
        "arithmetic", seed=seed, steps=steps, batch_size=16, learning_rate=1e-2, **{**watched, **task, **options}
    )


def study(**options):
    runs = [Planned(name="a", config=tiny(**options), half="held-out"), Planned(name="b", config=tiny(1, **options))]
    control = Planned(name="a-control", config=tiny(**options).control(), role="control", twin="a")
    return Study("tiny", "Does it run?", (*runs, control))


def pool(tmp_path, kind="processes"):
    return open_pool(kind, workers=2, threads=1, logs=tmp_path / "logs", hours=1.0, partition=None)


def worked(plan, out, **options):
    return {s.name: s for s in work(plan, out, pool(out), command="typed", on_change=lambda _: None, **options)}


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def heard(folder):
    """What a run's process says of itself."""
    path = folder / "progress.json"
    return json.loads(path.read_text()) if path.exists() else None


def test_a_study_is_worked_off_through_submitit(tmp_path):
    pytest.importorskip("submitit")
    plan = study().some(["b"])
    (found,) = work(plan, tmp_path / "s", pool(tmp_path, "local"), command="", on_change=lambda _: None)
    assert (found.status, found.steps) == ("done", 60)
    assert {path.name for path in (tmp_path / "s" / "b").iterdir()} == {"result.json", "trace"}


def test_a_study_is_worked_off_once_and_a_deleted_run_comes_back_as_it_was(tmp_path):
    seen, out = [], tmp_path / "s"
    found = work(study(), out, pool(tmp_path), command="typed", on_change=seen.append)
    assert (found[0].name, found[0].status, found[0].steps, found[0].grok) == ("a", "done", 60, 30)
    assert [(s.name, s.status, s.steps) for s in found][1:] == [("b", "done", 60), ("a-control", "done", 90)]
    assert {s.status for s in seen[0]} <= {"left", "running"}
    manifest = json.loads((out / "study.json").read_text())
    assert manifest["runs"]["a"] == {
        "role": "run",
        "twin": None,
        "half": "held-out",
        "config": json.loads(json.dumps(tiny().to_dict())),
    }
    assert manifest["runs"]["a-control"]["twin"] == "a"
    assert manifest["sittings"][0]["command"] == "typed"
    assert sorted(manifest["sittings"][0]["finished"]) == ["a", "a-control", "b"]
    assert {path.name for path in out.iterdir()} == {"study.json", "a", "b", "a-control"}
    for name in ("a", "b", "a-control"):
        assert {path.name for path in (out / name).iterdir()} == {"result.json", "trace"}

    before = json.loads((out / "a" / "result.json").read_text())
    rows = open_trace(out / "a").lag_rows()
    others = {name: (out / name / "result.json").stat().st_mtime_ns for name in ("b", "a-control")}
    shutil.rmtree(out / "a")
    assert [s.status for s in states(study(), out)] == ["left", "done", "done"]
    work(study(), out, pool(tmp_path), command="again", on_change=lambda _: None)
    after = json.loads((out / "a" / "result.json").read_text())
    assert (after["grok"], after["metrics"]) == (before["grok"], before["metrics"])
    np.testing.assert_array_equal(open_trace(out / "a").lag_rows(), rows)
    assert others == {name: (out / name / "result.json").stat().st_mtime_ns for name in others}
    assert json.loads((out / "study.json").read_text())["sittings"][1]["finished"] == ["a"]


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path):
    plan = study()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "checkpoint.pt").write_text("torn")
    run(tiny(2), tmp_path / "b")
    found = worked(plan, tmp_path)
    assert found["a"].status == "failed"
    assert "checkpoint" in found["a"].note
    assert (found["a-control"].status, found["a-control"].note) == ("left", "waits for a")
    assert found["b"].status == "failed", "it was recorded under another seed"
    assert "expected seed=2, got seed=1" in found["b"].note
    (tmp_path / "a" / "checkpoint.pt").unlink()
    shutil.rmtree(tmp_path / "b")
    assert {s.status for s in worked(plan, tmp_path).values()} == {"done"}


def test_a_worker_that_is_killed_costs_what_came_after_its_checkpoint(tmp_path):
    slower = tiny(steps=600, observe_every=10, eval_every=50, checkpoint_every=50, layers=1)
    plan = Study("tiny", "?", (Planned(name="a", config=slower), Planned(name="b", config=tiny(1))))
    killed, begun = [], []

    def kill():
        told = wait_for(lambda: heard(tmp_path / "a"))
        saved = tmp_path / "a" / "checkpoint.pt"
        wait_for(lambda: saved.exists() and saved.stat().st_mtime > told["at"])
        os.kill(told["pid"], signal.SIGKILL)
        killed.extend((told["pid"], told["step"]))

    killer = threading.Thread(target=kill)
    killer.start()
    found = worked(plan, tmp_path)
    killer.join()
    assert (found["a"].status, found["b"].status) == ("failed", "done")
    assert "killed by signal 9" in found["a"].note
    saved = RunFolder(tmp_path / "a", config=slower.to_dict()).load_checkpoint(device="cpu")["step"]
    assert saved > killed[1]

    def watch(found):
        told = heard(tmp_path / "a")
        if told is not None and told["pid"] not in (*killed, *begun):
            begun.extend((told["pid"], told["step"]))

    (again,) = [s for s in work(plan, tmp_path, pool(tmp_path), command="", on_change=watch) if s.name == "a"]
    assert again.status == "done"
    assert not begun or begun[1] > saved, "it began anew"
    alone = run(slower, tmp_path / "alone")
    assert json.loads((tmp_path / "a" / "result.json").read_text())["metrics"] == alone.metrics
    assert (open_trace(tmp_path / "a").steps == open_trace(tmp_path / "alone").steps).all()


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from test_studies import study
from spectral_edge import cli
from spectral_edge.studies import STUDIES
if __name__ == "__main__":
    STUDIES["tiny"] = lambda: study(steps=100_000)
    cli.main(["study", "tiny", "--out", {out!r}])
"""


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_a_study_that_is_stopped_leaves_checkpoints_and_no_process(tmp_path, how):
    script, out = tmp_path / "run.py", tmp_path / "s"
    script.write_text(SCRIPT.format(tests=os.path.dirname(__file__), out=str(out)))
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, start_new_session=True, text=True)
    try:
        told = wait_for(lambda: heard(out / "a"))
        wait_for(lambda: heard(out / "b"))
        assert [s.status for s in states(study(steps=100_000), out)] == ["running", "running", "left"]
        process.send_signal(how)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == (-9 if how == signal.SIGKILL else 130)
    if how != signal.SIGKILL:
        assert said.startswith("Stopped: 0 done, 0 running, 0 failed, 3 left.\nGo on with: ")
        assert f"study tiny --out {out} --workers 2" in said
        assert not (out / ".lock").exists()
    wait_for(lambda: [s.status for s in states(study(steps=100_000), out)] == ["left", "left", "left"])
    saved = RunFolder(out / "a", config=study(steps=100_000).runs[0].config.to_dict()).load_checkpoint(device="cpu")
    assert saved["step"] >= told["step"], "the run did not save itself"


def test_the_command_shows_the_plan_stops_in_time_goes_on_and_fails_with_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(STUDIES, "tiny", study)
    out = tmp_path / "s"

    def call(*arguments):
        code = 0
        try:
            cli.main(["study", "tiny", "--out", str(out), *arguments])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    code, said, _ = call("--dry-run", "--json")
    told = json.loads(said)
    assert (code, told["left"], told["done"], len(told["runs"]), out.exists()) == (0, 3, 0, 3, False)
    assert told["runs"][2] == {
        "name": "a-control",
        "role": "control",
        "status": "left",
        "step": 0,
        "steps": 60,
        "seconds": 0.0,
        "grok": None,
        "note": "waits for a",
        "half": "",
        "family": "arithmetic",
        "size": "cpu",
        "seed": 0,
        "twin": "a",
        "steps_expected": 90,
        "at_most": False,
        "seconds_left": told["runs"][2]["seconds_left"],
    }
    assert told["seconds_left"] == pytest.approx(sum(each["seconds_left"] for each in told["runs"]))

    code, said, err = call("--minutes", "1e-9")
    assert code == 75
    assert err.splitlines()[0] == "The time is up."
    assert "3 runs in" in said
    code, said, err = call("--only", "a-*")
    assert (code, err) == (0, "")
    assert "2 done, 0 running, 0 failed, 0 left" in said
    assert [line.split()[:3] for line in call("--dry-run")[1].splitlines()[1:4]] == [
        ["a", "run", "done"],
        ["b", "run", "left"],
        ["a-control", "control", "done"],
    ]
    (out / "b").mkdir(exist_ok=True)
    (out / "b" / "checkpoint.pt").write_text("torn")
    code, said, err = call("--json")
    assert (code, json.loads(said)["failed"]) == (1, 1)
    assert err.startswith("error: 1 of 3 runs failed")


def test_a_study_that_needs_a_gpu_is_refused_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setitem(STUDIES, "tiny", lambda: Study("tiny", "?", (Planned(name="a", config=tiny(device="cuda")),)))
    with pytest.raises(InputError, match="run a: expected a CUDA device, got none on this machine; start it where"):
        study_command.study("tiny", out=tmp_path / "s", quiet=True)
    study_command.study("tiny", out=tmp_path / "s", quiet=True, dry_run=True)
    assert not (tmp_path / "s").exists()


def test_two_processes_do_not_share_a_folder_and_a_dead_ones_lock_is_taken_over(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    assert fcntl
    holder = "import fcntl, sys, time; f = open(sys.argv[1], 'a+'); f.write('77'); f.flush(); "
    holder += "fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path / ".lock")], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="no other process works on, got process 77 at work"):
            worked(study(), tmp_path)
        assert not (tmp_path / "study.json").exists()
        process.kill()
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
    assert not (tmp_path / ".lock").exists()


def test_a_folder_that_cannot_be_written_is_wrong_input(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"a folder that can be written.* choose another --out"):
        worked(study(), tmp_path / "file" / "study")


def test_a_run_waits_for_the_process_that_still_trains_it(tmp_path):
    pytest.importorskip("fcntl")
    folder = tmp_path / "a"
    folder.mkdir()
    before = signal.getsignal(signal.SIGTERM)
    with locked(folder):
        (tmp_path / STOP).touch()  # so that it does not wait for ever
        assert not train(tiny(), folder)
        assert list(folder.iterdir()) == [folder / ".lock"]
    (tmp_path / STOP).unlink()
    assert train(tiny(), folder)
    assert {path.name for path in folder.iterdir()} == {"result.json", "trace"}
    assert signal.getsignal(signal.SIGTERM) is before


def test_plans_that_cannot_be_are_refused(tmp_path):
    one = Planned(name="a", config=tiny())
    with pytest.raises(InputError, match="twice"):
        Study("s", "?", (one, one))
    with pytest.raises(InputError, match="list the twin first"):
        Study("s", "?", (replace(one, twin="b"),))
    with pytest.raises(InputError, match="half"):
        replace(one, half="best")
    with pytest.raises(InputError, match="one of processes"):
        pool(tmp_path, "cloud")
    with pytest.raises(InputError, match="glob that matches"):
        study().some(["c*"])
    assert [planned.name for planned in study().some(["*control"]).runs] == ["a", "a-control"]
    assert all(state.status == "left" for state in states(study(), tmp_path))
    worked(study().some(["b"]), tmp_path)
    with pytest.raises(InputError, match="study tiny"):
        worked(Study("other", "?", (one,)), tmp_path)


def test_the_manifest_lists_the_whole_study_and_what_an_earlier_plan_recorded(tmp_path):
    worked(study().some(["b"]), tmp_path)
    assert set(json.loads((tmp_path / "study.json").read_text())["runs"]) == {"a", "a-control", "b"}
    smaller = Study("tiny", "Does it run?", (Planned(name="c", config=tiny(2)),))
    worked(smaller, tmp_path)
    assert set(json.loads((tmp_path / "study.json").read_text())["runs"]) == {"b", "c"}


@pytest.mark.parametrize("content", ["{}", "[]", '{"config": {}'])
def test_a_damaged_result_is_no_result(tmp_path, content):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "result.json").write_text(content)
    assert {state.name: state.status for state in states(study(), tmp_path)}["a"] != "done"


def test_a_machine_without_slurm_is_wrong_input(tmp_path):
    pytest.importorskip("submitit")
    if shutil.which("srun") is not None:
        pytest.skip("SLURM is here")
    with pytest.raises(InputError, match="a machine with SLURM"):
        pool(tmp_path, "slurm")


def record(folder, config, *, steps, seconds):
    folder.mkdir(parents=True)
    result = {"config": config.to_dict(), "steps": steps, "wall_seconds": seconds, "grok": {}}
    (folder / "result.json").write_text(json.dumps(result))


def test_costs_follow_the_table_until_runs_are_recorded(tmp_path):
    base = configure("arithmetic", steps=1_000, eval_every=50, stop_after=0)
    runs = [Planned(name=f"a-{seed}", config=replace(base, seed=seed)) for seed in (1, 2, 3)]
    control = replace(base.control(), stop_after=None, seed=3)
    runs.append(Planned(name="a-3-control", config=control, role="control", twin="a-3"))
    runs.append(Planned(name="other", config=replace(base, task=replace(base.task, d_model=32, layers=1))))
    runs.append(Planned(name="unknown", config=configure("arithmetic", size="slow", steps=10)))
    plan = Study("tiny", "?", tuple(runs))

    def found():
        return costs(plan, tmp_path, states(plan, tmp_path))

    rate, known = SECONDS_PER_STEP["arithmetic", "cpu"], found()
    assert known["a-1"].seconds == pytest.approx(1_000 * rate)
    assert known["a-3-control"].seconds == pytest.approx(1_500 * rate)
    assert known["other"].seconds == pytest.approx(1_000 * rate / 4), "half the width, half the depth"
    assert known["unknown"].seconds is None
    assert known["a-3-control"].at_most
    assert not any(cost.measured for cost in known.values())

    record(tmp_path / "a-1", runs[0].config, steps=400, seconds=40.0)
    record(tmp_path / "a-2", runs[1].config, steps=500, seconds=60.0)
    known = found()
    assert (known["a-1"].steps, known["a-1"].seconds) == (400, 0.0)
    # Seconds a step of 0.10 and 0.12, 400 and 500 steps: the medians.
    assert (known["a-3"].steps, known["a-3"].at_most, known["a-3"].measured) == (450, False, True)
    assert known["a-3"].seconds == pytest.approx(450 * 0.11)
    assert known["a-3-control"].steps == 700, "half as many more, in whole evaluations"
    assert known["a-3-control"].seconds == pytest.approx(700 * 0.11)
    assert known["other"].seconds == pytest.approx(1_000 * rate / 4), "no run of this width is recorded"


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_can_be_planned_and_costed(name, tmp_path):
    plan = STUDIES[name]()
    assert plan.name == name
    assert plan.question.endswith("?")
    found = states(plan, tmp_path)
    assert {s.status for s in found} == {"left"}
    known = costs(plan, tmp_path, found)
    if name != "gpu":
        assert all(cost.seconds is not None for cost in known.values())
        assert set(plan.devices) == {"cpu"}
    by_name = {planned.name: planned for planned in plan.runs}
    for planned in plan.runs:
        twin = by_name.get(planned.twin)
        if twin is not None:
            assert twin.config.seed == planned.config.seed
            assert twin.config.observe_every == planned.config.observe_every
            assert planned.half == twin.half


@pytest.mark.skipif(not RECORDED.exists(), reason="results are not part of an installed package")
def test_the_grokking_study_is_the_recorded_one():
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["runs"]
    planned = {
        p.name: {"role": p.role, "twin": p.twin, "half": p.half, "config": p.config.to_dict()}
        for p in STUDIES["grokking"]().runs
    }
    assert list(planned) == list(recorded)
    assert json.dumps(planned) == json.dumps(recorded)


def test_the_fault_bank_crosses_onset_half_and_model():
    plan = STUDIES["fault-bank"]()
    faulty = [p for p in plan.runs if p.role != "healthy"]
    assert (len(faulty), len(plan.runs)) == (104, 128)
    assert set(Counter(p.role for p in faulty).values()) == {8}
    by_name = {p.name: p.config for p in plan.runs}
    for fault in {p.role for p in faulty}:
        of_it = [p for p in faulty if p.role == fault]
        cells = Counter((p.config.family, bool(p.config.perturb_ramp), p.half) for p in of_it)
        assert len(cells) == (4 if fault == "attention_explosion" else 8)
        assert len(set(cells.values())) == 1
        for planned in of_it:
            undone = replace(planned.config, perturbation="sham", perturb_ramp=0)
            assert undone == by_name[planned.twin], "the twin is the same run with a sham"
    assert {p.twin for p in faulty} == set(by_name) - {p.name for p in faulty}


def test_the_null_bank_is_split_by_seed():
    plan = STUDIES["null-bank"]()
    roles = Counter(p.role for p in plan.runs)
    assert roles["null"] >= 100
    assert roles["transition"] >= 60
    assert all(p.half == ("development" if p.config.seed % 2 else "held-out") for p in plan.runs)
    for role in roles:
        halves = Counter(p.half for p in plan.runs if p.role == role)
        assert halves["development"] == halves["held-out"]
