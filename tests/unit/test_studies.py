"""Studies: planned, worked off, interrupted, resumed, failed and told."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from spectral_edge import InputError
from spectral_edge.experiments import configure
from spectral_edge.studies import Planned, Study, open_pool, states, work


def tiny(seed=0, steps=30, **options):
    small = {"p": 5, "d_model": 8, "heads": 2, "d_feedforward": 8, "batch_size": 8}
    return configure(
        "arithmetic", seed=seed, steps=steps, window=3, horizon=6, observe_every=5, eval_every=10, **small, **options
    )


def study(**options):
    runs = [Planned(name="a", config=tiny(**options)), Planned(name="b", config=tiny(1, **options))]
    control = Planned(name="a-control", config=tiny(**options).control(), role="control", twin="a")
    return Study("tiny", "Does it run?", (*runs, control))


def pool(tmp_path, kind="processes"):
    return open_pool(kind, workers=2, threads=1, logs=tmp_path / "logs", hours=1.0, partition=None)


@pytest.mark.parametrize("kind", ["processes", "local"])
def test_a_study_is_worked_off_once(tmp_path, kind):
    if kind == "local":
        pytest.importorskip("submitit")
    seen = []
    found = work(study(), tmp_path / "s", pool(tmp_path, kind), command="typed", on_change=seen.append)
    assert [(s.name, s.status, s.steps) for s in found] == [
        ("a", "done", 30),
        ("b", "done", 30),
        ("a-control", "done", 50),
    ]
    assert {s.status for s in seen[0]} <= {"left", "running"}
    manifest = json.loads((tmp_path / "s" / "study.json").read_text())
    assert manifest["runs"]["a-control"]["twin"] == "a"
    assert manifest["sittings"][0]["command"] == "typed"
    results = {name: (tmp_path / "s" / name / "result.json").stat().st_mtime_ns for name in ("a", "b", "a-control")}
    work(study(), tmp_path / "s", pool(tmp_path, kind), command="again", on_change=lambda _: None)
    assert results == {name: (tmp_path / "s" / name / "result.json").stat().st_mtime_ns for name in results}
    assert len(json.loads((tmp_path / "s" / "study.json").read_text())["sittings"]) == 2


def test_a_failed_run_is_named_and_the_others_go_on(tmp_path):
    plan = study()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "checkpoint.pt").write_text("torn")
    found = {s.name: s for s in work(plan, tmp_path, pool(tmp_path), command="", on_change=lambda _: None)}
    assert found["a"].status == "failed"
    assert "checkpoint" in found["a"].note
    assert found["b"].status == "done"
    assert (found["a-control"].status, found["a-control"].note) == ("left", "waits for a")
    (tmp_path / "a" / "checkpoint.pt").unlink()
    assert {s.status for s in work(plan, tmp_path, pool(tmp_path), command="", on_change=lambda _: None)} == {"done"}


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_studies import pool, study
from spectral_edge.studies import work
if __name__ == "__main__":
    work(study(steps=100_000), Path({out!r}), pool(Path({out!r})), command="", on_change=lambda _: None)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_study_that_is_stopped_leaves_checkpoints_and_no_process(tmp_path, how):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(tests=os.path.dirname(__file__), out=str(tmp_path / "s")))
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, start_new_session=True)
    heard = tmp_path / "s" / "a" / "progress.json"
    deadline = time.time() + 60
    while not heard.exists() and time.time() < deadline:
        time.sleep(0.1)
    told = json.loads(heard.read_text())
    process.send_signal(how)
    process.wait(timeout=60)
    process.stderr.close()
    checkpoint = tmp_path / "s" / "a" / "checkpoint.pt"
    assert checkpoint.exists()
    while (saved := checkpoint.stat().st_mtime) < told["at"] and time.time() < deadline:
        time.sleep(0.1)
    assert saved >= told["at"], "the run did not save itself"
    time.sleep(1.0)
    assert checkpoint.stat().st_mtime == pytest.approx(saved, abs=1.0), "it goes on"


def test_plans_that_cannot_be_are_refused(tmp_path):
    one = Planned(name="a", config=tiny())
    with pytest.raises(InputError, match="twice"):
        Study("s", "?", (one, one))
    with pytest.raises(InputError, match="list the twin first"):
        Study("s", "?", (replace(one, twin="b"),))
    with pytest.raises(InputError, match="one of processes"):
        pool(tmp_path, "cloud")
    with pytest.raises(InputError, match="glob that matches"):
        study().some(["c*"])
    assert [planned.name for planned in study().some(["*control"]).runs] == ["a", "a-control"]
    assert all(state.status == "left" for state in states(study(), tmp_path))
    work(study().some(["b"]), tmp_path, pool(tmp_path), command="", on_change=lambda _: None)
    with pytest.raises(InputError, match="study tiny"):
        work(Study("other", "?", (one,)), tmp_path, pool(tmp_path), command="", on_change=lambda _: None)
